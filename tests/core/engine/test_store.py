"""The store: what is kept comes back, and what is broken or hostile never does."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.engine import cas, digests, manifest, publish, room, store, whole
from tasks.core.engine.manifest import Manifest
from tests.conftest import Project

WEIGHTS = {"model.safetensors": b"weights" * 100, "sub/config.json": b"{}"}


def kept(project: Project, files: dict[str, bytes] = WEIGHTS) -> Manifest:
    """Keep a made-up result of `merge:m` and return its manifest."""
    folder = project.result("m", "merge", files)
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    store.keep(receipt, folder)
    return receipt


def restored(receipt: Manifest, model: str = "other") -> Path | None:
    return store.restore("merge", model, receipt.key)


def blobs() -> list[Path]:
    return sorted((cas.folder() / "blobs").glob("??/*"))


def test_a_result_comes_back_for_another_model_byte_for_byte(project: Project) -> None:
    scratch = restored(kept(project))

    assert scratch is not None
    found = manifest.read(scratch / manifest.NAME)
    assert found is not None
    assert found.model == "other"
    assert {f.path: (scratch / f.path).read_bytes() for f in found.files} == WEIGHTS


def test_files_of_one_content_come_back_under_all_their_names(project: Project) -> None:
    scratch = restored(kept(project, {"a": b"same", "b": b"same", "c/a": b"same"}))

    assert scratch is not None
    assert [(scratch / name).read_bytes() for name in ("a", "b", "c/a")] == [b"same"] * 3


def test_keeping_and_restoring_copies_nothing(project: Project) -> None:
    scratch = restored(kept(project))

    assert scratch is not None
    shared = {(scratch / "model.safetensors").stat().st_ino}
    places = [paths.output("m", "merge") / "model.safetensors", *blobs()]
    is_reflink = (scratch / "model.safetensors").stat().st_nlink == 1
    assert is_reflink or shared & {place.stat().st_ino for place in places}


def test_a_restored_file_is_not_read_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = kept(project)
    monkeypatch.setattr(digests, "read", lambda path: pytest.fail(f"read {path}"))

    scratch = restored(receipt)

    assert scratch is not None
    assert manifest.intact(receipt, scratch)


def test_a_stored_file_edited_in_place_is_thrown_away_and_not_restored(project: Project) -> None:
    receipt = kept(project)
    for blob in blobs():
        blob.chmod(0o644)
        blob.write_bytes(blob.read_bytes().replace(b"weights", b"WEIGHTS"))

    assert restored(receipt) is None
    assert list((cas.folder() / "results").glob("*")) == []


@pytest.mark.parametrize(
    "path", ["../../evil", "/etc/evil", "a/../../evil", "", ".", "manifest.json", "a//b", "a\0b"]
)
def test_a_hostile_manifest_writes_nothing_outside_the_stages_folder(
    project: Project, path: str
) -> None:
    receipt = kept(project)
    place = cas.folder() / "results" / f"{receipt.key.removeprefix('sha256:')}.json"
    content = json.loads(place.read_text())
    content["files"][0]["path"] = path
    place.write_text(json.dumps(content))
    before = sorted(project.build.rglob("*"))

    assert restored(receipt) is None
    assert set(project.build.rglob("*")) <= set(before)


def test_a_stored_link_is_not_followed(project: Project, tmp_path: Path) -> None:
    receipt = kept(project)
    secret = tmp_path / "secret"
    blob = blobs()[0]
    blob.rename(secret)
    blob.symlink_to(secret)

    assert restored(receipt) is None


@pytest.mark.parametrize("junk", [b"", b"{", b"null", b"\xff"])
def test_a_broken_entry_is_no_entry(project: Project, junk: bytes) -> None:
    receipt = kept(project)
    next((cas.folder() / "results").iterdir()).write_bytes(junk)

    assert restored(receipt) is None


def test_a_result_of_another_stage_is_not_taken(project: Project) -> None:
    receipt = kept(project)

    assert store.restore("train", "m", receipt.key) is None


def test_links_to_a_users_own_files_are_not_kept(project: Project, tmp_path: Path) -> None:
    folder = project.result("m", "merge", {"a": b"x"})
    (tmp_path / "own").write_bytes(b"x")
    (folder / "a").unlink()
    (folder / "a").symlink_to(tmp_path / "own")
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None

    store.keep(receipt, folder)

    assert not cas.folder().exists()


def test_gc_drops_what_was_used_longest_ago_until_the_limit_is_kept(project: Project) -> None:
    receipts = []
    for number in range(3):
        folder = project.result(f"m{number}", "merge", {"w": bytes([number]) * 1000})
        key = manifest.key_of("merge", {"number": number})
        files = manifest.describe(folder)
        receipt = Manifest(f"m{number}", "merge", key, {"number": number}, files, {})
        manifest.write(receipt, folder)
        store.keep(receipt, folder)
        receipts.append(receipt)
        for file in folder.iterdir():
            file.unlink()  # the build folder has gone on; only the store has the bytes now

    room.collect(2000)

    found = [cas.look_up("merge", receipt.key) is not None for receipt in receipts]
    assert found == [False, True, True]
    assert len(blobs()) == 2


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)


def in_a_process(work: Callable[[], object]) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_a_process])
def test_what_another_build_collects_is_never_what_is_being_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[..., None]
) -> None:
    write = whole.write

    def collect_and_write(path: Path, content: bytes) -> None:
        """Collect while there are blobs and no manifest that names them."""
        elsewhere(lambda: room.collect(0))
        write(path, content)

    monkeypatch.setattr(whole, "write", collect_and_write)
    receipt = kept(project)
    assert cas.look_up("merge", receipt.key) is not None


@pytest.mark.parametrize("elsewhere", [in_a_thread, in_a_process])
def test_what_another_build_collects_is_never_what_is_being_restored(
    project: Project, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[..., None]
) -> None:
    receipt = kept(project)
    link = store._link_all

    def collect_and_link(links: dict[Path, Path]) -> None:
        elsewhere(lambda: room.collect(-1))
        link(links)

    monkeypatch.setattr(store, "_link_all", collect_and_link)
    assert restored(receipt) is not None


def test_builds_that_collect_at_once_stay_out_of_each_others_way(project: Project) -> None:
    kept(project)
    fork = multiprocessing.get_context("fork")
    for _ in range(4):
        for number in range(300):
            orphan = cas.blob(f"sha256:{number:064x}")
            orphan.parent.mkdir(parents=True, exist_ok=True)
            orphan.touch()
        together = fork.Barrier(2)
        builds = [fork.Process(target=collect_at, args=(together,)) for _ in range(2)]
        for build in builds:
            build.start()
        for build in builds:
            build.join(20)
        assert [build.exitcode for build in builds] == [0, 0]
    assert len(blobs()) == len(WEIGHTS)


def collect_at(together: threading.Barrier) -> None:
    together.wait(20)
    room.collect(10**9)


def test_gc_waits_for_builds_that_use_the_store_and_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write, waiting = whole.write, []

    def begin_and_write(path: Path, content: bytes) -> None:
        gc = threading.Thread(target=lambda: room.collect(-1, wait=True))
        gc.start()
        waiting.append(gc)
        gc.join(0.2)
        assert gc.is_alive()
        write(path, content)

    monkeypatch.setattr(whole, "write", begin_and_write)
    kept(project)
    waiting[0].join(20)
    assert blobs() == []
    assert "waiting for builds that use the store" in capsys.readouterr().out


def test_a_file_that_is_coming_is_no_orphan_before_a_day_has_passed(project: Project) -> None:
    receipt = kept(project)
    coming, left = (
        place.with_name(f".{place.name}.4711") for place in (blobs()[0], cas.result(receipt.key))
    )
    for path in (coming, left):
        path.write_bytes(b"half")
    os.utime(left, (0, 0))

    assert room.collect(10**9) == len(b"half")
    assert coming.exists()
    assert not left.exists()
    assert restored(receipt) is not None


def test_a_finished_scratch_folder_is_published_and_not_made_again(project: Project) -> None:
    receipt = kept(project)
    scratch = restored(receipt, "m")
    assert scratch is not None

    assert publish.finished("m", "merge", receipt.key) == scratch


def test_restoring_one_key_leaves_the_unfinished_work_of_another(project: Project) -> None:
    receipt = kept(project)
    unfinished = paths.scratch("m", "merge", f"sha256:{'b' * 64}")
    unfinished.mkdir(parents=True)
    (unfinished / "iter_8.pth").write_bytes(b"weeks of work")

    assert restored(receipt, "m") is not None
    assert (unfinished / "iter_8.pth").exists()


def test_what_is_written_while_it_is_linked_is_not_taken_for_what_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.result("m", "merge", {"w": b"good"})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    link = store._link

    def link_and_write(path: Path, place: Path) -> None:
        link(path, place)
        time.sleep(0.02)
        (folder / "w").write_bytes(b"evil")

    monkeypatch.setattr(store, "_link", link_and_write)
    store.keep(receipt, folder)
    assert digests.of_file(folder / "w") == digests.read(folder / "w")
    assert cas.look_up("merge", receipt.key) is None


def test_a_restore_that_fails_leaves_the_unfinished_training(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = kept(project)
    scratch = publish.prepare("n", "merge", receipt.key, resumes=True)
    (scratch / "iter_8500.pth").write_bytes(b"a week")

    def refuse(path: Path, place: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(store, "_link", refuse)
    assert store.restore("merge", "n", receipt.key) is None
    assert "not restored" in capsys.readouterr().out
    assert (scratch / "iter_8500.pth").read_bytes() == b"a week"
    assert [path.name for path in scratch.parent.glob(".merge-*")] == [scratch.name]


@pytest.mark.parametrize("away", ["cleaned", "replaced"])
def test_a_large_result_comes_back_without_being_read(
    project: Project, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """Taking a name away changes the file's ctime, which must not cost a reading of 16 GB."""
    folder = project.result("m", "merge", {"w": b"w" * digests.LARGE})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    store.keep(receipt, folder)
    if away == "cleaned":
        publish.remove(folder)
    else:
        scratch = publish.prepare("m", "merge", f"sha256:{'c' * 64}", resumes=False)
        publish.publish(scratch, "m", "merge")

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(digests, "read", refuse)
    assert restored(receipt, "m") is not None


def test_a_blob_that_gets_another_name_while_it_is_read_is_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build that restores the same file changes its ctime."""
    kept(project)
    held, read = blobs()[0], digests.read

    def link_and_read(path: Path) -> str:
        if len(list(project.build.glob("another-*"))) < 1:
            (project.build / "another-name").hardlink_to(path)
        return read(path)

    digests.forget(held)
    monkeypatch.setattr(digests, "read", link_and_read)
    assert cas.holds(held, held.stat().st_size, f"sha256:{held.name}")
    assert (project.build / "another-name").exists()
