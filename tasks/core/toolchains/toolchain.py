"""Toolchains: isolated, pinned environments in which foreign tools run.

A toolchain is a folder of tasks/core/ with its lock file, or an interpreter that the settings name.
Ours is made by the task `toolchain:<name>` in build/.toolchains/<name>-<digest>/; the file
toolchain.json in there is written last.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import console, paths, settings
from ..engine import digests, lock, manifest, process, publish, untouched
from ..errors import UserError, reason
from . import torchbuild

NAMES = ("xtuner", "xinference")
# What an interpreter must have to stand in for our toolchain; None is any version.
NEEDED: Mapping[str, Mapping[str, str | None]] = {
    "xtuner": {
        "torch": None,
        "xtuner": "0.2.0",
        "mmengine": "0.10.6",
        "transformers": "4.48.0",
        "peft": None,
        "datasets": None,
        "safetensors": None,
    },
    "xinference": {"torch": None, "xinference": None, "transformers": None, "accelerate": None},
}
VERSIONS = (
    "import json, sys, sysconfig; from importlib.metadata import distributions; "
    "print(json.dumps({'site': sysconfig.get_path('purelib'), 'versions': "
    "{d.name.lower().replace('_', '-'): d.version for d in distributions()}}))"
)


def tasks() -> Iterator[dict[str, Any]]:
    """Yield the doit tasks that make the toolchains."""
    yield {"basename": "toolchain", "name": None, "doc": "Make the environments of foreign tools."}
    for name in NAMES:
        yield {
            "basename": "toolchain",
            "name": name,
            "doc": f"the environment that {name} runs in",
            "uptodate": [(is_made, [name])],
            "actions": [(make, [name])],
            "clean": [(clean, [name])],
            "verbosity": 2,
        }


def digest(name: str) -> str:
    """Return what tells one toolchain from another in keys: its lock, or the versions found."""
    given = given_python(name)
    if given:
        found = _probe(given)["versions"]
        return f"{name}-{paths.short(manifest.digest_of(found))}"
    return f"{name}-{_pins(name)}"


def folder(name: str) -> Path:
    """Return where our own toolchain lives."""
    gpu = _lock(name).with_name("gpu.txt")
    kind = f"-cuda-{paths.short(_digest(gpu))[:6]}" if torchbuild.is_cuda() else ""
    return paths.build() / ".toolchains" / f"{name}-{_pins(name)}{kind}"


def python(name: str) -> str:
    """Return the interpreter to run a toolchain's programs with."""
    return str(given_python(name) or (folder(name) / "bin" / "python").absolute())


def has(name: str, package: str) -> bool:
    """Return whether a toolchain has a package: in its lock, or in the interpreter given."""
    given = given_python(name)
    if given:
        return package in _probe(given)["versions"]
    return f"\n{package}==" in _lock(name).read_text(encoding="utf-8")


def script(name: str, program: str) -> str:
    """Return the path of one of our programs that run inside a toolchain."""
    return str(paths.ROOT / paths.CORE / name / program)


def is_made(name: str) -> bool:
    """Return whether the toolchain can be used at once."""
    given = given_python(name)
    made = folder(name) / "toolchain.json"
    untouched.saw(made)
    return _lacks(name, given) == [] if given else made.is_file()


def make(name: str) -> bool | Any:
    """Make a toolchain; for doit.  A given interpreter is checked, never changed."""
    from doit.exceptions import TaskFailed

    console.start(f"toolchain:{name}")
    try:
        given = given_python(name)
        if given:
            _check_given(name, given)
            return True
        with lock.held(".toolchains", name, f"makes the toolchain {name}"):
            if not is_made(name):
                _make_whole(name)
    except (UserError, OSError) as error:
        return TaskFailed(reason(error, paths.build()))
    return True


def clean(name: str, dryrun: bool = False) -> None:
    """Remove our own toolchain; one that the settings name is not ours.

    Raises:
        OSError: something of it stays.
    """
    place = folder(name)
    if place.exists() or place.is_symlink():
        if not dryrun:
            publish.remove(place)
        console.say(f"{place} {'would be ' * dryrun}removed")


def _check_given(name: str, given: str) -> None:
    faults = "\n  ".join(_lacks(name, given))
    if faults:
        where = settings.current().where(f"toolchain_{name}")
        raise UserError(
            f"{given} ({where}) cannot stand in for the {name} toolchain:\n  {faults}\n"
            f"install what is missing, or unset {where} to use our own toolchain"
        )


def _make_whole(name: str) -> None:
    """Make our own toolchain; who fails or is stopped leaves nothing of it."""
    try:
        _make(name)
    except BaseException as error:
        if not isinstance(error, Exception):  # a busy disk takes its time for gigabytes
            console.clear()
            console.say(f"   toolchain:{name} stopped; what there is of it is being removed")
        # The first error is the one to tell; what cannot go stops the next try.
        shutil.rmtree(folder(name), ignore_errors=True)
        raise


def _make(name: str) -> None:
    from . import interpreters

    place = folder(name)
    # Packages of another try would pass for locked ones.
    publish.remove(place)
    build = torchbuild.choose(interpreters.usable())
    console.say(
        f"   {name} in {place}: Python {build.python.version} ({build.python.path}), "
        f"torch {build.version}; about {build.gigabytes} GB, takes some minutes"
    )
    inner = str((place / "bin" / "python").absolute())
    log = paths.build() / ".toolchains" / f"{name}.log"
    process.run([build.python.path, "-m", "venv", "--without-pip", str(place)], log)
    locks = [_lock(name)]
    if not build.is_cpu:
        locks.append(_lock(name).with_name("gpu.txt"))
    pinned = [argument for path in locks for argument in ("-r", str(path))]
    for what in (build.requirement, ["--require-hashes", *pinned]):
        process.run(
            [sys.executable, "-m", "pip", "--python", inner, "install", "--no-deps", "--no-input",
             "--disable-pip-version-check", "--progress-bar", "off", *what],
            log,
            each_line=_progress,
            what_next="is the network there?  A proxy or a mirror is set as for any pip install",
        )  # fmt: skip
    console.clear()
    faults = _lacks(name, inner)
    if faults:
        raise UserError(f"{place}: {'; '.join(faults)}; run again, and see {log}")
    content = {"python": build.python.version, "torch": build.version}
    (place / "toolchain.json").write_text(json.dumps(content) + "\n")


def _progress(line: str) -> None:
    if line.startswith(("Collecting", "Installing", "Downloading", "Processing")):
        console.status(line[:70])


def _pins(name: str) -> str:
    """Return the digest of all that is pinned: the lock, and torch beside it."""
    pins = [_digest(_lock(name)), torchbuild.VERSION]
    return paths.short(manifest.digest_of(pins))


def _lock(name: str) -> Path:
    return paths.CORE / name / "requirements.txt"


def _digest(path: Path) -> str:
    """Return a small file's digest; `doit list` asks for it and leaves nothing in the build."""
    return digests.of_bytes(path.read_bytes())


def given_python(name: str) -> str:
    """Return the interpreter that the settings name, or nothing; a prefix stands for its python."""
    given: str = getattr(settings.current(), f"toolchain_{name}")
    place = paths.expand(given)
    return str(place / "bin" / "python" if place.is_dir() else place) if given else ""


def _lacks(name: str, interpreter: str) -> list[str]:
    """Return what an interpreter lacks, in words."""
    try:
        found = _probe(interpreter)["versions"]
    except UserError as error:
        return [str(error)]
    return [
        f"{package}{f'=={wanted}' if wanted else ''} is needed, found {found.get(package, 'none')}"
        for package, wanted in NEEDED[name].items()
        if package not in found or (wanted and found[package].split("+")[0] != wanted)
    ]


@functools.cache
def _probe(interpreter: str) -> dict[str, Any]:
    """Return the versions of an interpreter's packages; remembered until its folder changes."""
    note = paths.build() / ".toolchains" / f"{paths.short(manifest.digest_of(interpreter))}.json"
    try:
        known: dict[str, Any] = json.loads(note.read_text())
        untouched.saw(known["site"])
        if Path(known["site"]).stat().st_mtime_ns == known["mtime"]:
            return known
    except (OSError, ValueError, KeyError):
        pass
    found = _ask(interpreter)
    # Without a note the next process asks again; a build folder that is full fails elsewhere.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        found["mtime"] = Path(found["site"]).stat().st_mtime_ns
        note.write_text(json.dumps(found))
    return found


def _ask(interpreter: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [interpreter, "-c", VERSIONS], capture_output=True, text=True, timeout=60, check=True
        )
        found = json.loads(done.stdout)
        return {"site": str(found["site"]), "versions": dict(found["versions"])}
    except subprocess.CalledProcessError as error:
        how = (error.stderr or "").strip().rpartition("\n")[2] or f"status {error.returncode}"
        raise UserError(f"{interpreter}: not a Python that runs ({how})") from None
    except OSError as error:
        raise UserError(f"{interpreter}: not a Python that runs ({error.strerror})") from None
    except (subprocess.SubprocessError, ValueError, LookupError, TypeError):
        raise UserError(f"{interpreter}: not a Python that runs; correct the path") from None
