"""Checkpoints are written whole or not at all, and the oldest goes last."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.core.xtuner import wholefiles


class Backend:
    """mmengine's, as far as it removes."""

    def join_path(self, *parts: str) -> str:
        return "/".join(parts)

    def remove(self, path: str) -> None:
        raise AssertionError("removed too early")


class Hook:
    """mmengine's CheckpointHook, which removes the oldest and then saves."""

    def __init__(self, folder: Path, save: Any) -> None:
        self.file_backend: Any = Backend()
        self.folder, self.save = folder, save

    def save_with_step(self, runner: Any, step: int, meta: Any) -> None:
        self.file_backend.remove(self.file_backend.join_path(str(self.folder), "iter_8.pth"))
        self.save()


def test_the_oldest_checkpoint_goes_after_the_new_one_is_there(tmp_path: Path) -> None:
    old, new = tmp_path / "iter_8.pth", tmp_path / "iter_16.pth"
    old.write_bytes(b"old")
    seen = []

    def save() -> None:
        seen.append(old.exists())
        new.write_bytes(b"new")

    hook = Hook(tmp_path, save)

    wholefiles.dropping_last(Hook.save_with_step)(hook, None, 16, meta={})

    assert seen == [True]
    assert not old.exists()
    assert isinstance(hook.file_backend, Backend)


def test_a_full_disk_costs_no_earlier_checkpoint(tmp_path: Path) -> None:
    old = tmp_path / "iter_8.pth"
    old.write_bytes(b"old")

    def fill() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        wholefiles.dropping_last(Hook.save_with_step)(Hook(tmp_path, fill), None, 16, {})

    assert old.read_bytes() == b"old"


def test_a_file_that_cannot_be_written_whole_does_not_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "iter_8.pth"
    wholefiles.put(None, b"first", path)
    (tmp_path / "iter_8.pth.part").mkdir()

    with pytest.raises(OSError, match="directory"):
        wholefiles.put(None, b"second", path)

    assert path.read_bytes() == b"first"


# mmengine's own hook and what it remembers, killed before it removes, and gone on with.
RESUMED = """
import json, sys, types
from pathlib import Path

import torch

sys.path.append(sys.argv[1])
import saving, wholefiles
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub


class Runner:
    logger = types.SimpleNamespace(info=print)

    def __init__(self, place, form, kept=None):
        self.work_dir, self.form = str(place), form
        self.message_hub = MessageHub(str(place))
        if kept:
            self.message_hub.update_info("keep_ckpt_ids", kept)

    def save_checkpoint(self, folder, name, *rest, **options):
        path = Path(folder, name)
        if self.form == "folders":
            path.mkdir()
            path = path / "states.pt"
        torch.save(self.message_hub.runtime_info.get("keep_ckpt_ids"), path)


def begun(runner, most):
    hook = CheckpointHook(by_epoch=False, max_keep_ckpts=most)
    hook.before_train(runner)
    return hook


def killed(path):
    raise KeyboardInterrupt


def gone_on(place, most, form):
    first = Runner(place, form)
    hook = begun(first, most)
    for step in (4, 8, 12):
        hook._save_checkpoint_with_step(first, step, {})
    remove, wholefiles.remove = wholefiles.remove, killed
    try:
        hook._save_checkpoint_with_step(first, 16, {})
    except KeyboardInterrupt:
        pass
    wholefiles.remove = remove
    torch.save(None, place / "iter_18.pth")  # in the middle of a step: not what is gone on from
    before = names(place)
    saved = place / "iter_16.pth"
    begun(Runner(place, form, torch.load(saved / "states.pt" if saved.is_dir() else saved)), most)
    return before, names(place)


def names(place):
    return sorted(int(path.stem[5:]) for path in place.glob("iter_*.pth"))


saving.prepare("x")
found = []
for number, (most, form) in enumerate(json.loads(sys.argv[3])):
    place = Path(sys.argv[2], str(number))
    place.mkdir()
    found.append(gone_on(place, most, form))
print(json.dumps(found))
"""


def test_what_a_killed_training_did_not_come_to_remove_goes_when_it_is_gone_on_with(
    xtuner: str, tmp_path: Path
) -> None:
    here, cases = str(Path(wholefiles.__file__).parent), [(2, "files"), (1, "folders"), (-1, "all")]
    done = subprocess.run(
        [xtuner, "-c", RESUMED, here, str(tmp_path), json.dumps(cases)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        [[8, 12, 16, 18], [12, 16, 18]],
        [[12, 16, 18], [16, 18]],
        [[4, 8, 12, 16, 18], [4, 8, 12, 16, 18]],
    ]
