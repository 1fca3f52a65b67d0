"""A job of a made-up recipe, and a Python that only pretends to train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core import paths, settings
from tasks.core.launching.job import Job
from tasks.core.toolchains import toolchain
from tests.conftest import Project
from tests.training import recipe

PACKAGES = ("torch", "xtuner", "deepspeed")


def job(project: Project, launch: str = "processes: 1", name: str = "m", **keys: Any) -> Job:
    """Return a job whose recipe has a launch, and other hyper-parameters."""
    kept = [
        line
        for line in recipe(launch).splitlines()
        if not any(line.startswith(f"  {key}:") for key in keys)
    ]
    lines = [f"  {key}: {value}" for key, value in keys.items()]
    made = project.recipe(name, "\n".join([*kept, *lines, ""]))
    assert made.train
    folder = paths.scratch(name, "train", "sha256:0123456789ab")
    folder.mkdir(parents=True, exist_ok=True)
    return Job(made, made.train, folder)


def pretend(project: Project, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a shell script in the place of the toolchain's Python; `$@` is what it should run."""
    path = project.build.parent / "python"
    versions = json.dumps({"site": str(path.parent), "versions": dict.fromkeys(PACKAGES, "1")})
    path.write_text(
        f"#!/bin/bash\nif [ \"$1\" = -c ]; then echo '{versions}'; exit; fi\n{script}\n"
    )
    path.chmod(0o755)
    set_to(monkeypatch, toolchain_xtuner=path)
    toolchain._probe.cache_clear()
    return path


def set_to(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Change settings."""
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_{name.upper()}", str(value))
    settings.current.cache_clear()
