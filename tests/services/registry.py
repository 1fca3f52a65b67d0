"""Debian's docker-registry 2.8: plain, with a password, with TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.process import Server, free_port, listens
from tests.services.tokens import ISSUER, SERVICE, TokenServer

USER, PASSWORD = "alice", "s3cret-of-a-test"


@dataclass
class Registry:
    """A registry of a test.

    Attributes:
        host: host:port, as an image's name has it.
        data: where it keeps what is pushed.
        ca: the certificate to trust, with TLS.
    """

    host: str
    data: Path
    server: Server
    ca: Path | None = None

    def empty(self) -> None:
        """Forget all images; the registry looks at the disk for each request."""
        shutil.rmtree(self.data, ignore_errors=True)


def start(
    folder: Path,
    *,
    password: bool = False,
    tls: bool = False,
    readonly: bool = False,
    tokens: TokenServer | None = None,
) -> Registry:
    """Start a registry with its data in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        "version: 0.1",
        "log: {level: warn}",
        "storage:",
        f"  filesystem: {{rootdirectory: {folder / 'data'}}}",
        "  delete: {enabled: true}",
        # Uploads can be taken up after a restart, as with several registries behind one address.
        f"http:\n  addr: 127.0.0.1:{port}\n  secret: of-a-test",
    ]
    if readonly:
        lines.insert(5, "  maintenance: {readonly: {enabled: true}}")
    if tls:
        certificate(folder)
        files = f"certificate: {folder / 'cert.pem'}, key: {folder / 'key.pem'}"
        lines.append(f"  tls: {{{files}}}")
    if password:
        made = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], capture_output=True, check=True)
        (folder / "htpasswd").write_bytes(made.stdout)
        lines.append(f"auth:\n  htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}")
    if tokens:
        lines.append(
            f"auth:\n  token: {{realm: '{tokens.realm}', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {tokens.folder / 'token.pem'}}}"
        )
    config = folder / "config.yml"
    config.write_text("\n".join(lines) + "\n")
    command = ["docker-registry", "serve", str(config)]
    server = Server(command, folder / "log", lambda: listens(port))
    server.start()
    ca = folder / "cert.pem" if tls else None
    return Registry(f"127.0.0.1:{port}", folder / "data", server, ca)


def certificate(folder: Path) -> None:
    """Make a key and a certificate of its own for the loopback."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        capture_output=True, check=True,
    )  # fmt: skip
