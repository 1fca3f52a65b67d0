"""OpenStack Swift with its S3 interface, from Debian's packages; plain and with TLS."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.process import Server, free_port, listens
from tests.services.registry import certificate

# `reader` may sign, and then may do nothing.
USER, PASSWORD = "test:tester", "testingtesting"
READER, READER_PASSWORD = "test:reader", "reading"

STORE = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/srv
mount_check = false
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
recon_cache_path = {folder}
"""
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = {workers}
user = {user}
swift_dir = {folder}
log_level = WARNING
{tls}
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcache}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
location = us-east-1
check_bucket_owner = no
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testingtesting .admin
user_test_reader = reading
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


@dataclass
class Swift:
    """A running Swift.

    Attributes:
        url: its S3 endpoint; tls: the same with a certificate that `ca` is the CA of.
        proxy: the server that speaks S3, for tests that stop it.
    """

    url: str
    tls: str
    ca: Path
    proxy: Server
    servers: list[Server] = field(default_factory=list)

    def stop(self) -> None:
        for server in (self.proxy, *reversed(self.servers)):
            server.stop(kill=True)


def start(folder: Path, workers: int = 0) -> Swift:
    """Start Swift with its data in a folder.

    Args:
        workers: processes of the S3 proxy; 0 is the one that tests need.
    """
    (folder / "srv/d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = p\nswift_hash_path_suffix = s\n"
    )
    certificate(folder)
    ports = {kind: free_port() for kind in ("object", "container", "account")}
    memcache, plain, tls = free_port(), free_port(), free_port()
    user = os.environ.get("USER") or "root"
    common = {"folder": folder, "user": user}
    for kind, port in ports.items():
        _ring(folder, kind, port)
        text = STORE.format(kind=kind, port=port, **common)
        (folder / f"{kind}-server.conf").write_text(text)
    common |= {"memcache": memcache, "workers": workers}
    (folder / "proxy-server.conf").write_text(PROXY.format(port=plain, tls="", **common))
    files = f"cert_file = {folder}/cert.pem\nkey_file = {folder}/key.pem"
    (folder / "tls-server.conf").write_text(PROXY.format(port=tls, tls=files, **common))
    command = ["memcached", "-u", user, "-l", "127.0.0.1", "-p", str(memcache), "-U", "0"]
    cache = Server(command, folder / "memcached.log", lambda: listens(memcache))
    stores = [_server(folder, kind, kind, port) for kind, port in ports.items()]
    proxies = [_server(folder, "proxy", "proxy", plain), _server(folder, "proxy", "tls", tls)]
    for server in (cache, *stores, *proxies):
        server.start()
    return Swift(
        f"http://127.0.0.1:{plain}",
        f"https://127.0.0.1:{tls}",
        folder / "cert.pem",
        proxies[0],
        [cache, *stores, proxies[1]],
    )


def _server(folder: Path, program: str, name: str, port: int) -> Server:
    return Server(
        [f"swift-{program}-server", str(folder / f"{name}-server.conf")],
        folder / f"{name}.log",
        lambda: listens(port),
        {**os.environ, "SWIFT_DIR": str(folder)},
    )


def _ring(folder: Path, kind: str, port: int) -> None:
    """Tell where the data of a kind lies: one device."""
    for arguments in (
        ["create", "4", "1", "1"],
        ["add", f"r1z1-127.0.0.1:{port}/d1", "1"],
        ["rebalance"],
    ):
        command = ["swift-ring-builder", f"{kind}.builder", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        # 1 is a warning: with one device there is nothing to balance.
        assert done.returncode < 2, done.stdout
