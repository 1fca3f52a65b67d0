"""Python packages for an image without RUN: wheels for the base's Python, unpacked into a layer.

They go into a folder of their own, named in PYTHONPATH, so that the base's own files stay as they
are.  What the base has already is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import console
from ..errors import UserError
from ..recipe import Recipe, present
from . import versions

if TYPE_CHECKING:
    from . import oci

FOLDER = "wheels"
ROOT = "opt/modelwright"
# What vLLM's own images have, by requirements-common.txt, and since which version.
PROVIDED: dict[str, versions.Version] = {
    "fastapi": (0, 1, 0), "numpy": (0, 1, 0), "prometheus-client": (0, 4, 0), "psutil": (0, 1, 0),
    "pydantic": (0, 1, 0), "requests": (0, 3, 0), "sentencepiece": (0, 1, 0),
    "tiktoken": (0, 4, 0), "torch": (0, 1, 0), "transformers": (0, 1, 0), "uvicorn": (0, 1, 0),
}  # fmt: skip
# vLLM's images had Python 3.10 until here; later ones have to be told.
PYTHON_310: versions.Version = (0, 6, 0)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAIL = 6


def missing(recipe: Recipe) -> list[str]:
    """Return the recipe's packages that its base lacks.

    A package with a version is always added: the base's may be another.
    """
    has = _provided(recipe)
    return [package for package in present(recipe.image).pip if package.lower() not in has]


def provided(recipe: Recipe) -> set[str]:
    """Return what the base has and the recipe does not ask for otherwise."""
    return _provided(recipe) - {normal(package) for package in missing(recipe)}


def python(recipe: Recipe, base: oci.Image | None) -> str:
    """Return the base's version of Python.

    Raises:
        UserError: nothing tells it.
    """
    image = present(recipe.image)
    if image.python:
        return image.python
    lines = ((base.config.get("config") or {}).get("Env") or []) if base else []
    environ = dict(line.split("=", 1) for line in lines if "=" in line)
    told = re.match(r"3\.\d+", environ.get("PYTHON_VERSION", ""))
    if told:
        return told[0]
    version = versions.of_image(image.base)
    if version and version < PYTHON_310:
        return "3.10"
    raise UserError(
        f"{recipe.file}: image.python: the base does not tell its version of Python, which the "
        'packages of image.pip must fit; add it, such as `python: "3.12"`'
    )


def install(
    recipe: Recipe, base: oci.Image | None, locked: dict[str, Any], folder: Path
) -> list[str]:
    """Unpack the wheels that the recipe's lock names below a folder; return the files.

    Raises:
        UserError: one can no longer be had, or is for another Python than the base's.
    """
    version = python(recipe, base)
    if version != locked["python"]:
        raise UserError(
            f"{recipe.file}: image.pip: the lock has wheels for Python {locked['python']}, and the "
            f"base has {version}; run `doit update:{recipe.name}` to choose wheels anew"
        )
    console.status(f"fetching {', '.join(locked['wheels'])} for Python {version}")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        for name, wheel in locked["wheels"].items():
            file.write(f"{name}=={wheel['version']} --hash={wheel['digest']}\n")
        file.flush()
        words = ["install", "--no-compile", "--no-deps", "--require-hashes", "--target",
                 str(folder / FOLDER), *target(version, base), "-r", file.name]  # fmt: skip
        told = pip(words)
    if told:
        raise UserError(
            f"{recipe.file}: image.pip: pip cannot get what the lock names; run "
            f"`doit update:{recipe.name}` to choose wheels anew\n{told}"
        )
    found = (path for path in (folder / FOLDER).rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


def target(version: str, base: oci.Image | None) -> list[str]:
    """Return pip's options that name the base's Python and its machine instead of ours."""
    glibcs = ("2014", "_2_17", "_2_28", "_2_31", "_2_34", "_2_35")
    names = [f"manylinux{glibc}_{machine(base)}" for glibc in glibcs]
    kind = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    return [*kind, *(word for name in names for word in ("--platform", name))]


def machine(base: oci.Image | None) -> str:
    """Return what Python calls the base's processor."""
    name = str(base.config.get("architecture", "amd64")) if base else "amd64"
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def pip(words: Sequence[str]) -> str:
    """Run pip; return its last lines where it failed, else nothing."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    environ = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, env=environ, check=False
    )
    console.clear()
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines() or [f"pip failed ({done.returncode})"]
    return "\n".join(f"  | {line}" for line in lines[-_TAIL:])


def normal(package: str) -> str:
    """Return a package's name as the index compares it."""
    name = _NAME.match(package)
    return re.sub(r"[-_.]+", "-", name[0]).lower().strip("-") if name else ""


def _provided(recipe: Recipe) -> set[str]:
    version = versions.of_image(present(recipe.image).base)
    return {name for name, first in PROVIDED.items() if version and version >= first}
