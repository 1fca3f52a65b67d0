"""Choose wheels: what packages lead to on the base's Python, by the metadata of the wheels.

pip answers a mark such as `python_version < "3.11"` for the Python that runs it, not the base's.
So the marks are read here, and what pip left out, or took in another version, is asked for by name.
"""

from __future__ import annotations

import email
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from .. import console, paths
from ..engine import digests
from ..errors import UserError
from ..recipe import Recipe
from . import oci, wheels

Wheels = dict[str, dict[str, str]]


def choose(recipe: Recipe, base: oci.Image | None, version: str) -> Wheels:
    """Return version and digest of each wheel that the recipe's packages need, by name.

    Raises:
        UserError: a package has no wheel for that Python, or none that fits the others.
    """
    packages, provided = _asked(recipe), wheels.provided(recipe)
    marks = environment(version, base)
    place = paths.build() / ".downloads"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=place) as scratch:
        there: dict[str, Path] = {}
        found: dict[str, Path] = {}
        lacking, before = packages, set[str]()
        while lacking:
            if before.issuperset(lacking):
                raise UserError(
                    f"{recipe.file}: image.pip: for Python {version} no wheels fit together, of "
                    f"{', '.join(lacking)}; choose other versions, or say `builder: docker`"
                )
            folder = Path(tempfile.mkdtemp(dir=scratch))
            _download(recipe, base, version, lacking, folder, alone=bool(before))
            there |= by_name(folder)
            before.update(lacking)
            found, lacking = closure(there, packages, provided, marks)
        return {name: _described(path) for name, path in sorted(found.items())}


def by_name(folder: Path) -> dict[str, Path]:
    """Return the wheels of a folder by the names of their packages."""
    return {wheels.normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}


def closure(
    there: Mapping[str, Path], packages: Sequence[str], provided: set[str], marks: Mapping[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """Return the wheels that packages lead to, and what they need beside those.

    Args:
        there: wheels by name.
        provided: what the base has; what only that needs is left out with it.
        marks: the values of marks on the base's Python.
    """
    wanted: dict[str, Requirement] = {}
    waiting = [Requirement(package) for package in packages]
    while waiting:
        asked = waiting.pop()
        name = wheels.normal(asked.name)
        if name in provided:
            continue
        asked.marker = None
        if name in wanted:
            asked.specifier &= wanted[name].specifier
            asked.extras |= wanted[name].extras
            if str(asked) == str(wanted[name]):
                continue
        wanted[name] = asked
        if _fits(there.get(name), asked):
            needs = _requires(there[name])
            waiting += [one for one in needs if _applies(one, asked.extras, marks)]
    found = {name: there[name] for name, asked in wanted.items() if _fits(there.get(name), asked)}
    return found, [str(asked) for name, asked in wanted.items() if name not in found]


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


def _asked(recipe: Recipe) -> list[str]:
    """Return the recipe's packages that its base lacks.

    Raises:
        UserError: one is not what a lock can name: a package, with its versions or without.
    """
    packages = wheels.missing(recipe)
    for package in packages:
        try:
            one = Requirement(package)
        except InvalidRequirement:
            one = None
        if one is None or one.url or one.marker:
            raise UserError(
                f"{recipe.file}: image.pip: {package!r} is no package with an optional version; "
                "write it like tiktoken==0.6.0"
            )
    return packages


def _download(
    recipe: Recipe,
    base: oci.Image | None,
    version: str,
    packages: list[str],
    folder: Path,
    *,
    alone: bool,
) -> None:
    """Have pip fetch wheels.

    Args:
        alone: without what they need, which pip would choose for its own Python.
    """
    console.status(f"choosing {', '.join(packages)} for Python {version}")
    only = ["--no-deps"] if alone else []
    words = ["download", *only, "--dest", str(folder), *wheels.target(version, base)]
    words += ["--", *packages]
    if told := wheels.pip(words):
        raise UserError(
            f"{recipe.file}: image.pip: pip has no wheels of {', '.join(packages)} for Python "
            f"{version}; choose other versions, or say `builder: docker`\n{told}"
        )


def _described(wheel: Path) -> dict[str, str]:
    return {"version": _version(wheel), "digest": digests.of_file(wheel)}


def _version(wheel: Path) -> str:
    return wheel.name.split("-")[1]


def _requires(wheel: Path) -> list[Requirement]:
    """Return what a wheel's metadata says that it depends on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        told = email.message_from_bytes(archive.read(name))
    return [Requirement(str(line)) for line in told.get_all("Requires-Dist", [])]


def _fits(wheel: Path | None, asked: Requirement) -> bool:
    """Return whether a wheel is there, and of a version that is asked for."""
    return wheel is not None and asked.specifier.contains(_version(wheel), prereleases=True)


def _applies(one: Requirement, extras: set[str], marks: Mapping[str, str]) -> bool:
    mark = one.marker
    return mark is None or any(mark.evaluate({**marks, "extra": name}) for name in ("", *extras))
