"""Names of images: host[:port]/repository[:tag][@digest] (distribution-spec: pulling manifests)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..errors import UserError

HUB = "docker.io"
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*")
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:(?P<port>[0-9]{1,5}))?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """An image in a registry, by tag, by digest or both; then the digest decides."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def version(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> Reference:
        """Return the same name with a digest."""
        return replace(self, digest=digest)


def parse(text: str) -> Reference:
    """Return the parts of a name; without a host it is Docker Hub's, as for `docker pull`.

    Raises:
        UserError: it is no such name.
    """
    name, at, digest = text.partition("@")
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and (set(first) & set(".:[") != set() or first == "localhost")
    host, path = (first, rest) if is_host else (HUB, name)
    repository, colon, tag = path.partition(":")
    if host == HUB and "/" not in repository:
        repository = f"library/{repository}"
    parts = [(_HOST, host), (_NAME, repository), (_TAG, tag or "_"), (_DIGEST, digest or None)]
    wrong = (colon and not tag) or (at and not digest) or not _has_sound_port(host)
    if wrong or not all(part is None or form.fullmatch(part) for form, part in parts):
        raise UserError(
            f"{text!r}: not an image's name; write host[:port]/repository[:tag][@sha256:...] "
            "in small letters"
        )
    return Reference(host, repository, tag or (None if digest else "latest"), digest or None)


def _has_sound_port(host: str) -> bool:
    """Return whether a host has a port that there can be, or none."""
    found = _HOST.fullmatch(host)
    return found is not None and 0 < int(found["port"] or 443) < 1 << 16


def registry(text: str, where: str) -> str:
    """Return the host of a registry, `host[:port][/prefix]`.

    Args:
        where: what names it, for messages.

    Raises:
        UserError: no image can have a name there.
    """
    try:
        return parse(f"{text.strip('/')}/image").host
    except UserError:
        raise UserError(
            f"{where}: '{text}' should be host[:port][/prefix], without http://, with a port of "
            "1 to 65535 and with the prefix in small letters"
        ) from None
