"""What tests share: a temporary project, real tools that may be missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tasks import STAGES
from tasks.core import paths, recipe, settings
from tasks.core.engine import digests, manifest, stage
from tasks.core.engine.manifest import Manifest
from tasks.core.recipe import Recipe
from tasks.core.toolchains import toolchain
from tests.services import hub as hub_server
from tests.services.hub import Hub

# Servers that tests of several stages start.
pytest_plugins = ("tests.services.fixtures",)

# .ci/run installs all the tools that tests can need and sets this, so that none is missed unseen.
MUST_RUN = bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    """Declare our markers; keep hypothesis from judging how fast a busy machine is."""
    hypothesis.settings.register_profile("modelwright", deadline=None)
    hypothesis.settings.load_profile("modelwright")
    config.addinivalue_line("markers", "needs(*tools): real programs that the test runs")
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose tools are missing; in CI that is a failure."""
    for marker in item.iter_markers("needs"):
        missing = [tool for tool in marker.args if not shutil.which(tool)]
        if missing and MUST_RUN:
            pytest.fail(f"missing here, although .ci/run installs it: {', '.join(missing)}")
        if missing:
            pytest.skip(f"needs {', '.join(missing)}; install it with your package manager")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI, fail when a test was skipped for want of a tool: `.ci/run` installs them all."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    missed = [report.nodeid for report in skipped if "needs " in str(report.longrepr)]
    if MUST_RUN and missed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nskipped for want of a tool that .ci/run installs: {', '.join(missed)}")


@contextmanager
def unremovable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no folder be removed, as where its owner is another; who ignores that hears nothing."""

    def refuse(path: Path, ignore_errors: bool = False, **_: object) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        yield


@dataclass(frozen=True)
class Project:
    """Recipes and results of a test of its own."""

    recipes: Path
    build: Path

    def recipe(self, name: str, text: str) -> Recipe:
        """Write a recipe and return it as read back."""
        path = self.recipes / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return recipe.read(path)

    def make(self, name: str, recipe: Recipe) -> Recipe:
        """Run a stage as `doit -a` does: it is made anew and published, whatever there is."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "forced", lambda: True)
            stage.execute(name, STAGES[name], recipe)
        return recipe

    def result(
        self,
        model: str,
        stage: str,
        files: dict[str, bytes],
        facts: dict[str, Any] | None = None,
    ) -> Path:
        """Publish a made-up result of a stage and return its folder."""
        folder = paths.output(model, stage)
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        key = manifest.key_of(stage, {})
        described = manifest.describe(folder)
        manifest.write(Manifest(model, stage, key, {}, described, facts or {}), folder)
        return folder


@pytest.fixture(scope="session")
def xtuner() -> str:
    """Return an interpreter with xtuner: the one that the settings name, or our own toolchain."""
    done = doit("toolchain:xtuner", build=None)
    assert done.returncode == 0, done.stderr
    return toolchain.python("xtuner")


@pytest.fixture(scope="session")
def deepspeed(xtuner: str) -> str:
    """Return the interpreter, where it has DeepSpeed, too."""
    if not toolchain.has("xtuner", "deepspeed"):
        pytest.skip("needs deepspeed in the interpreter that MODELWRIGHT_TOOLCHAIN_XTUNER names")
    return xtuner


@pytest.fixture(scope="session")
def tiny(xtuner: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the default recipe once for all tests and return its folder."""
    build = tmp_path_factory.mktemp("tiny")
    done = doit(build=build, xtuner=xtuner)
    assert done.returncode == 0, done.stdout + done.stderr
    return build / "tiny-agent"


def doit(
    *arguments: str,
    build: Path | None,
    recipes: Path | None = None,
    xtuner: str = "",
    **options: str,
) -> subprocess.CompletedProcess[str]:
    """Run doit as people do, in a process of its own."""
    environ = {**os.environ, "NO_COLOR": "1", **options}
    for name, value in (("BUILD", build), ("RECIPES", recipes), ("TOOLCHAIN_XTUNER", xtuner)):
        if value:
            environ[f"MODELWRIGHT_{name}"] = str(value)
    command = [sys.executable, "-m", "doit", *arguments]
    return subprocess.run(command, env=environ, cwd=paths.ROOT, capture_output=True, text=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Point the settings at temporary folders."""
    made = Project(tmp_path / "recipes", tmp_path / "build")
    made.recipes.mkdir()
    monkeypatch.setenv("MODELWRIGHT_RECIPES", str(made.recipes))
    monkeypatch.setenv("MODELWRIGHT_BUILD", str(made.build))
    settings.current.cache_clear()
    yield made
    settings.current.cache_clear()
    # Thousands of tests have thousands of build folders, each with a database that stays open.
    while digests._open:
        digests._open.popitem()[1].close()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a Hugging Face Hub of the test's own, and point huggingface_hub at it."""
    for variable in ("HF_TOKEN", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with hub_server.running() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served
