"""Devices: as set, or as the driver tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.preset import devices
from tasks.core.preset.devices import Devices
from tasks.core.toolchains import torchbuild
from tests.conftest import Project

H200, H100, T400 = "143771, NVIDIA H200", "81559, NVIDIA H100", "2048, Quadro T400"
SHARED = "[N/A], NVIDIA GB10"


@pytest.fixture
def smi(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., None]]:
    """Return what puts an nvidia-smi in place that tells of some devices."""

    def put(rows: list[str], visible: str | None) -> None:
        every = "".join(f"{i}, GPU-a{i}-b, {row}\n" for i, row in enumerate(rows))
        program = tmp_path / "nvidia-smi"
        program.write_text(
            f"#!/bin/sh\ncase $1 in *index) seq 0 {len(rows) - 1};; *) printf '{every}';; esac\n"
        )
        program.chmod(0o755)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: True)
    devices._asked.cache_clear()
    yield put
    devices._asked.cache_clear()


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
    ("rows", "visible", "found"),
    [
        ([H200, H200], None, Devices(2, 143771 * 2**20, "NVIDIA H200")),
        ([H100, T400], None, Devices(2, 2048 * 2**20, "Quadro T400")),
        ([H100, T400], "0", Devices(1, 81559 * 2**20, "NVIDIA H100")),
        ([H100, T400], "GPU-a1", Devices(1, 2048 * 2**20, "Quadro T400")),
        ([H100, SHARED], None, Devices(1, 81559 * 2**20, "NVIDIA H100")),
        ([H100], "", Devices()),
        ([H100], "-1", Devices()),
        ([], None, Devices()),
    ],
)
def test_the_driver_is_asked_for_those_that_may_be_seen(
    smi: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    rows: list[str],
    visible: str | None,
    found: Devices,
) -> None:
    smi(rows, visible)
    assert told(monkeypatch, "") == found


def test_memory_that_the_driver_does_not_tell_is_asked_for(
    smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi([SHARED], None)
    with pytest.raises(UserError, match="no memory of the devices 0; say them in MODELWRIGHT_DEV"):
        told(monkeypatch, "")


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
