"""Where things are: build/<model>/<stage>/ and what lies beside it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from . import settings

ROOT = Path(__file__).resolve().parents[2]
CORE = Path("tasks/core")
TEMPLATES = Path("templates")


def build() -> Path:
    """Return the build folder, relative to the project where it lies inside."""
    return _build(settings.current().build)


def inside(path: Path) -> Path:
    """Return `path` relative to the project's root if it lies in there, else absolute."""
    absolute = (ROOT / expand(path)).absolute()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


@functools.cache
def _build(setting: str) -> Path:
    return inside(Path(setting))


def expand(path: str | Path) -> Path:
    """Return a path with `~` filled in; that of a user who is not here stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # pathlib's raises


def output(model: str, stage: str) -> Path:
    """Return the folder that a stage fills for a model."""
    return _output(build(), model, stage)


def manifest(model: str, stage: str) -> Path:
    """Return the stage's receipt, written last."""
    return _manifest(build(), model, stage)


# A project of a thousand recipes asks for each of these dozens of times.
@functools.cache
def _model(build: Path, model: str) -> Path:
    return build / model


@functools.cache
def _output(build: Path, model: str, stage: str) -> Path:
    return _model(build, model) / stage


@functools.cache
def _manifest(build: Path, model: str, stage: str) -> Path:
    return _output(build, model, stage) / "manifest.json"


def scratch(model: str, stage: str, key: str) -> Path:
    """Return the folder in which a stage works before its result is published."""
    return build() / model / f".{stage}-{short(key)}"


def log(model: str, stage: str) -> Path:
    """Return the log of a stage's last run; beside its folder, as it is no product."""
    return build() / model / "logs" / f"{stage}.log"


def note(model: str, stage: str) -> Path:
    """Return the file of what a stage has changed outside; it outlives the stage's result."""
    return build() / model / "outside" / f"{stage}.json"


def launch(model: str) -> Path:
    """Return the folder of the scripts that start training elsewhere; they are no product."""
    return build() / model / "launch"


def short(digest: str) -> str:
    """Return the first twelve hex digits of a digest, for names of folders."""
    return digest.removeprefix("sha256:")[:12]
