"""The passwords beside our compose file: made on the spot, and used where none are given."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from pathlib import Path
from typing import Any

from .. import console, paths
from ..settings import Settings
from ..web.address import is_loopback

NAME = ".env"
# The rights of everybody but the owner.
OTHERS = 0o077
NEEDED = re.compile(r"\$\{(\w+):\?")


def needed(text: str) -> list[str]:
    """Return the variables without which a compose file does not start."""
    return list(dict.fromkeys(NEEDED.findall(text)))


def fill(folder: Path, text: str) -> None:
    """Make the passwords that a compose file needs and nobody has given; only we may read them."""
    env = folder / NAME
    there = env.read_text(encoding="utf-8") if env.exists() else ""
    known = {line.partition("=")[0].strip() for line in there.splitlines()}
    missing = [name for name in needed(text) if name not in known and not os.environ.get(name)]
    lines = "".join(f"{name}={secrets.token_hex(16)}\n" for name in missing)
    if lines:
        handle = os.open(env, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if os.fstat(handle).st_mode & OTHERS:
            os.fchmod(handle, 0o600)
            console.say(f"   {env} gets passwords: only its owner may read it now")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(lines if not there or there.endswith("\n") else f"\n{lines}")


def completed(found: Settings) -> Settings:
    """Return the settings, with the passwords that we made where none are given.

    They go to this machine's own addresses only.
    """
    made = _read(paths.inside(Path(found.fastgpt_dir))) if found.fastgpt_dir else {}
    values: dict[str, Any] = {}
    asks = not (found.gateway_token or found.gateway_user)
    if found.gateway_kind == "oneapi" and asks and is_loopback(found.gateway_endpoint):
        values["gateway_token"] = made.get("ONEAPI_ACCESS_TOKEN", "")
        key = made.get("ONEAPI_KEY", "")
        values["gateway_key"] = found.gateway_key or (f"sk-{key}" if key else "")
    if is_loopback(found.fastgpt_endpoint):
        password = made.get("FASTGPT_PASSWORD", "")
        values["fastgpt_password"] = found.fastgpt_password or password
    return dataclasses.replace(found, **values)


def _read(folder: Path) -> dict[str, str]:
    """Return what the file beside a compose file says, as far as we may read it."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}
