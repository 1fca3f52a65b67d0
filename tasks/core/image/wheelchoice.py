"""Choose wheels: what packages lead to on the base's Python, by the metadata of the wheels.

pip answers a mark such as `python_version < "3.11"` for the Python that runs it, not the base's.
So the marks are read here, and what pip left out is asked for by name.
"""

from __future__ import annotations

import email
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from .. import console, paths
from ..engine import digests
from ..errors import UserError
from ..recipe import Recipe
from . import oci, wheels

Wheels = dict[str, dict[str, str]]


def choose(recipe: Recipe, base: oci.Image | None, version: str) -> Wheels:
    """Return version and digest of each wheel that the recipe's packages need, by name.

    Raises:
        UserError: a package has no wheel for that Python, or pip cannot fetch it.
    """
    packages, there = wheels.missing(recipe), wheels.provided(recipe)
    place = paths.build() / ".downloads"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=place) as folder:
        asked = list(packages)
        while True:
            _download(recipe, base, version, asked, folder)
            found, lacking = closure(Path(folder), packages, there, environment(version, base))
            if not lacking:
                return {name: _described(path) for name, path in sorted(found.items())}
            asked += lacking


def closure(
    folder: Path, packages: Sequence[str], provided: set[str], marks: Mapping[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """Return the wheels of a folder that packages lead to, and what they need beside those.

    Args:
        provided: what the base has; what only that needs is left out with it.
        marks: the values of marks on the base's Python.
    """
    there = {wheels.normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    found: dict[str, Path] = {}
    lacking: list[str] = []
    seen: set[tuple[str, ...]] = set()
    waiting = [Requirement(package) for package in packages]
    while waiting:
        asked = waiting.pop()
        name = wheels.normal(asked.name)
        if name in provided or (name, *sorted(asked.extras)) in seen:
            continue
        seen.add((name, *sorted(asked.extras)))
        if name not in there:
            asked.marker = None
            lacking.append(str(asked))
            continue
        found[name] = there[name]
        waiting += [one for one in _requires(there[name]) if _applies(one, asked.extras, marks)]
    return found, lacking


def environment(version: str, base: oci.Image | None) -> dict[str, str]:
    """Return what marks on dependencies ask for, as the base would answer."""
    return {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": wheels.machine(base),
    }


def _download(
    recipe: Recipe, base: oci.Image | None, version: str, packages: list[str], folder: str
) -> None:
    console.status(f"choosing {', '.join(packages)} for Python {version}")
    words = ["download", "--dest", folder, *wheels.target(version, base), "--", *packages]
    if told := wheels.pip(words):
        raise UserError(
            f"{recipe.file}: image.pip: pip has no wheels of {', '.join(packages)} for Python "
            f"{version}; choose other versions, or say `builder: docker`\n{told}"
        )


def _described(wheel: Path) -> dict[str, str]:
    return {"version": wheel.name.split("-")[1], "digest": digests.of_file(wheel)}


def _requires(wheel: Path) -> list[Requirement]:
    """Return what a wheel's metadata says that it depends on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        told = email.message_from_bytes(archive.read(name))
    return [Requirement(str(line)) for line in told.get_all("Requires-Dist", [])]


def _applies(one: Requirement, extras: set[str], marks: Mapping[str, str]) -> bool:
    mark = one.marker
    return mark is None or any(mark.evaluate({**marks, "extra": name}) for name in ("", *extras))
