"""Devices: as set, or as the driver tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.preset import devices
from tasks.core.preset.devices import Devices
from tasks.core.toolchains import torchbuild
from tests.conftest import Project


def told(monkeypatch: pytest.MonkeyPatch, wish: str) -> Devices:
    monkeypatch.setenv("MODELWRIGHT_DEVICES", wish)
    settings.current.cache_clear()
    return devices.found()


@pytest.mark.parametrize(
    ("wish", "count", "gigabytes", "name"),
    [
        ("4 x 80 GB H100", 4, 80, "H100"),
        ("2x24GB", 2, 24, ""),
        ("141 GB NVIDIA H200", 1, 141, "NVIDIA H200"),
        ("NONE", 0, 0, ""),
    ],
)
def test_a_setting_names_devices(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    wish: str,
    count: int,
    gigabytes: int,
    name: str,
) -> None:
    assert told(monkeypatch, wish) == Devices(count, gigabytes * 10**9, name)


@pytest.mark.parametrize("wish", ["0 x 80 GB", "80", "four H100", "2 x GB"])
def test_a_setting_that_names_none_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    with pytest.raises(UserError, match=r"MODELWRIGHT_DEVICES: .* names no devices; say it as in"):
        told(monkeypatch, wish)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("143771, NVIDIA H200\n143771, NVIDIA H200\n", Devices(2, 143771 * 2**20, "NVIDIA H200")),
        ("81559, NVIDIA H100\n24564, NVIDIA L4\n", Devices(2, 24564 * 2**20, "NVIDIA L4")),
        ("No devices were found\n", Devices()),
    ],
)
def test_the_driver_is_asked(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, found: Devices
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: True)
    devices._asked.cache_clear()
    try:
        assert told(monkeypatch, "") == found
    finally:
        devices._asked.cache_clear()


@pytest.mark.parametrize(
    ("name", "peak", "new"),
    [
        ("NVIDIA H200", 989, True),
        ("NVIDIA A10G", 70, True),
        ("Tesla T4", 65, False),
        ("", 312, True),
    ],
)
def test_a_name_tells_speed_and_whether_there_is_bfloat16(name: str, peak: int, new: bool) -> None:
    found = Devices(1, 10**10, name)
    assert (found.peak, found.has_bfloat16) == (peak * 1e12, new)
