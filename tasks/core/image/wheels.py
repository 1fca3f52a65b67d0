"""Python packages for an image without RUN: wheels for the base's Python, unpacked into a layer.

They go into a folder of their own, named in PYTHONPATH, so that the base's own files stay as they
are.  What the base has already is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .. import console
from ..errors import UserError
from ..recipe import Recipe
from . import lints, oci

FOLDER = "wheels"
ROOT = "opt/modelwright"
# What vLLM's own images have, by requirements-common.txt, and since which version.
PROVIDED: dict[str, lints.Version] = {
    "fastapi": (0, 1, 0), "numpy": (0, 1, 0), "prometheus-client": (0, 4, 0), "psutil": (0, 1, 0),
    "pydantic": (0, 1, 0), "requests": (0, 3, 0), "sentencepiece": (0, 1, 0),
    "tiktoken": (0, 4, 0), "torch": (0, 1, 0), "transformers": (0, 1, 0), "uvicorn": (0, 1, 0),
}  # fmt: skip
# vLLM's images had Python 3.10 until here; later ones have to be told.
PYTHON_310: lints.Version = (0, 6, 0)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAIL = 6


def missing(recipe: Recipe) -> list[str]:
    """Return the recipe's packages that its base lacks; a note says which it has.

    A package with a version is always added: the base's may be another.
    """
    assert recipe.image is not None
    version = lints.vllm(recipe.image.base)
    found = []
    for package in recipe.image.pip:
        first = PROVIDED.get(package.lower())
        if version and first and version >= first:
            console.say(f"   {package} is in {recipe.image.base} already; not added")
        else:
            found.append(package)
    return found


def python(recipe: Recipe, base: oci.Image | None) -> str:
    """Return the base's version of Python.

    Raises:
        UserError: nothing tells it.
    """
    assert recipe.image is not None
    if recipe.image.python:
        return recipe.image.python
    lines = ((base.config.get("config") or {}).get("Env") or []) if base else []
    environ = dict(line.split("=", 1) for line in lines if "=" in line)
    told = re.match(r"3\.\d+", environ.get("PYTHON_VERSION", ""))
    if told:
        return told[0]
    version = lints.vllm(recipe.image.base)
    if version and version < PYTHON_310:
        return "3.10"
    raise UserError(
        f"{recipe.file}: image.python: the base does not tell its version of Python, which the "
        'packages of image.pip must fit; add it, such as `python: "3.12"`'
    )


def install(recipe: Recipe, base: oci.Image | None, packages: list[str], folder: Path) -> list[str]:
    """Unpack wheels and what they depend on below a folder; return the files.

    Raises:
        UserError: a package has no wheel for the base's Python, or pip cannot fetch it.
    """
    version = python(recipe, base)
    target = folder / FOLDER
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--no-input", "--no-compile", "--target", str(target), "--only-binary=:all:",
               "--implementation", "cp", "--python-version", version]  # fmt: skip
    for platform in _platforms(base):
        command += ["--platform", platform]
    console.status(f"fetching {', '.join(packages)} for Python {version}")
    environ = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(
        [*command, "--", *packages], capture_output=True, text=True, env=environ, check=False
    )
    console.clear()
    if done.returncode:
        told = "\n".join(f"  | {line}" for line in done.stderr.strip().splitlines()[-_TAIL:])
        raise UserError(
            f"{recipe.file}: image.pip: pip has no wheels of {', '.join(packages)} for Python "
            f"{version}; choose other versions, or say `builder: docker`\n{told}"
        )
    _drop(target, _provided(recipe))
    found = (path for path in target.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


def _platforms(base: oci.Image | None) -> Iterable[str]:
    machine = base.config.get("architecture", "amd64") if base else "amd64"
    name = {"amd64": "x86_64", "arm64": "aarch64"}.get(str(machine), str(machine))
    for glibc in ("2014", "_2_17", "_2_28", "_2_31", "_2_34", "_2_35"):
        yield f"manylinux{glibc}_{name}"


def _provided(recipe: Recipe) -> set[str]:
    assert recipe.image is not None
    version = lints.vllm(recipe.image.base)
    asked = {_normal(package) for package in recipe.image.pip}
    return {name for name, first in PROVIDED.items() if version and version >= first} - asked


def _drop(target: Path, names: set[str]) -> None:
    """Remove the dependencies that the base has, file by file as their RECORD lists them."""
    for info in sorted(target.glob("*.dist-info")):
        if _normal(info.name.removesuffix(".dist-info").rpartition("-")[0]) in names:
            for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
                place = target / line.rpartition(",")[0].rpartition(",")[0]
                if place.resolve().is_relative_to(target.resolve()):
                    place.unlink(missing_ok=True)


def _normal(package: str) -> str:
    """Return a package's name as the index compares it."""
    name = _NAME.match(package)
    return re.sub(r"[-_.]+", "-", name[0]).lower().strip("-") if name else ""
