"""Devices are held by one stage at a time, and given back when it ends, however it ends."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.core import settings
from tasks.core.engine import pools
from tasks.core.errors import UserError
from tests.conftest import Project


@pytest.fixture
def two(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("MODELWRIGHT_POOLS_GPU", "2")
    settings.current.cache_clear()
    return project


def test_each_stage_sees_its_own_devices(two: Project) -> None:
    with pools.devices(1) as first, pools.devices(1) as second:
        assert first == {"CUDA_VISIBLE_DEVICES": "0"}
        assert second == {"CUDA_VISIBLE_DEVICES": "1"}


def test_a_stage_waits_until_enough_devices_are_free(two: Project) -> None:
    order = []

    def second() -> None:
        with pools.devices(2):
            order.append("second")

    with pools.devices(1):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]


def test_devices_come_back_after_a_failure(two: Project) -> None:
    with pytest.raises(RuntimeError), pools.devices(2):
        raise RuntimeError

    with pools.devices(2) as held:
        assert held == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_more_devices_than_there_are_is_an_error_with_both_numbers(two: Project) -> None:
    with pytest.raises(UserError, match="8 processes, but there are 2 devices"), pools.devices(8):
        pass


def test_without_gpus_nobody_waits(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_ask_driver", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    with pools.devices(4) as first, pools.devices(4) as second:
        assert first == second == {}


def test_only_the_devices_that_the_build_may_see_are_shared(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    with pools.devices(2) as held:
        assert held == {"CUDA_VISIBLE_DEVICES": "3,5"}
