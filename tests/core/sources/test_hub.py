"""Models from a Hub: locked, verified, resumed, repaired; and what all sources share."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from doit.exceptions import TaskFailed
from huggingface_hub import close_session, snapshot_download

from tasks import base, data
from tasks.core import paths
from tasks.core.engine import digests, manifest, pipeline, stage
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tasks.core.sources import fetched, sink, transfer
from tasks.core.sources.sink import Sink
from tests.conftest import Project
from tests.core.model.test_checkpoint import saved, tensor
from tests.services.hub import Fault, Hub
from tests.test_base import POINTER

RECIPE = "base: {hub: org/model}\n"


def weights(size: int = 40_000) -> bytes:
    """Return a safetensors file with one tensor of random bytes."""
    entry = {"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(entry).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size)


def model(size: int = 40_000) -> dict[str, bytes]:
    return {
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "model.safetensors": weights(size),
        "tokenizer.json": b"{}",
        ".gitattributes": b"* lfs",
        "sub/notes.txt": "模型".encode(),
    }


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PAUSE", 0.01)
    monkeypatch.setattr(transfer, "BLOCK", 10_000)
    # Both ways of hashing: `config.json` in passing, the weights beside.
    monkeypatch.setattr(sink, "BIG", 20_000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


@pytest.fixture
def served(hub: Hub) -> Hub:
    hub.put("org/model", model())
    return hub


def build(recipe: Recipe) -> str:
    """Run the stage as doit does; return the error, or nothing."""
    failed = stage.act("base", base, recipe)
    return str(failed.message) if isinstance(failed, TaskFailed) else ""


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in manifest.walk(folder)
        if path.name != "manifest.json"
    }


def read(served: Hub, commit: str = "") -> dict[str, bytes]:
    """Return the files of a commit on the server, or of the only one."""
    commits = served.repos["models/org/model"].commits
    found = commits[commit] if commit else next(iter(commits.values()))
    return {name: value for name, value in found.items() if isinstance(value, bytes)}


def lock(recipe: Recipe) -> dict[str, Any]:
    loaded = yaml.safe_load(recipe.file.with_suffix(".lock").read_text(encoding="utf-8"))
    return dict(loaded["base"])


def test_the_files_of_the_hub_come_in_and_the_lock_says_which(
    project: Project, served: Hub
) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    commit = served.repos["models/org/model"].branches["main"]
    expected = read(served, commit)
    del expected[".gitattributes"]
    assert content(paths.output("m", "base")) == expected
    found = lock(recipe)
    assert found["commit"] == commit
    assert found["files"]["model.safetensors"] == {
        "size": len(expected["model.safetensors"]),
        "digest": digests.of_bytes(expected["model.safetensors"]),
    }
    receipt = manifest.read(paths.manifest("m", "base"))
    assert receipt
    assert receipt.facts == {
        "revision": commit,
        "architecture": "LlamaForCausalLM",
        "dtype": "U8",
    }


def test_a_moved_branch_changes_nothing_until_it_is_asked_for(
    project: Project, served: Hub
) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    first = lock(recipe)["commit"]
    moved = served.put("org/model", model())
    served.asked.clear()
    assert stage.is_fresh("base", base, recipe)
    assert served.asked == []
    base.update(recipe)
    assert lock(recipe)["commit"] == moved != first
    assert not stage.is_fresh("base", base, recipe)
    assert build(recipe) == ""
    assert len(served.requests("tokenizer.json")) == 0  # the same bytes are here already


def test_another_revision_in_the_recipe_is_locked_anew(project: Project, served: Hub) -> None:
    old = project.recipe("m", RECIPE)
    assert build(old) == ""
    commit = served.put("org/model", model(), branch="v2")
    new = project.recipe("m", "base: {hub: org/model, revision: v2}\n")
    assert not stage.is_fresh("base", base, new)
    assert build(new) == ""
    assert lock(new)["commit"] == commit


def test_a_colleague_with_the_lock_gets_the_same_commit(project: Project, served: Hub) -> None:
    recipe = project.recipe("m", RECIPE)
    base.settle(recipe)
    commit = lock(recipe)["commit"]
    served.put("org/model", model())
    served.asked.clear()
    assert build(recipe) == ""
    assert served.requests("/api/") == []
    receipt = manifest.read(paths.manifest("m", "base"))
    assert receipt
    assert receipt.facts["revision"] == commit


def test_a_token_goes_to_the_hub_and_not_to_its_storage(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.repos["models/org/model"].token = "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert build(project.recipe("m", RECIPE)) == ""
    for _, path, headers in served.asked:
        assert ("Authorization" in {h.title() for h in headers}) is not path.startswith("/storage")


def test_nothing_is_read_again_to_be_hashed(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read once more")

    monkeypatch.setattr(digests, "read", refuse)
    assert build(project.recipe("m", RECIPE)) == ""


def test_two_recipes_share_one_copy(project: Project, served: Hub) -> None:
    assert build(project.recipe("m", RECIPE)) == ""
    served.asked.clear()
    assert build(project.recipe("n", RECIPE)) == ""
    assert not served.requests("/resolve/")
    one, two = (paths.output(name, "base") / "model.safetensors" for name in "mn")
    assert one.samefile(two)


def test_the_build_folder_can_be_moved(project: Project, served: Hub) -> None:
    assert build(project.recipe("m", RECIPE)) == ""
    moved = project.build.rename(project.build.with_name("elsewhere"))
    assert (moved / "m/base/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(times=2, status=503),
        Fault(times=2, status=429, headers={"Retry-After": "0"}),
        Fault(times=3, cut=10_000),
        Fault(times=1, flip=True),
        Fault(times=1, gzip=True),
    ],
)
def test_what_passes_is_overcome(project: Project, served: Hub, fault: Fault) -> None:
    served.faults["model.safetensors"] = fault
    assert build(project.recipe("m", RECIPE)) == ""
    assert fault.times == 0
    expected = read(served)
    assert content(paths.output("m", "base"))["model.safetensors"] == expected["model.safetensors"]


def test_a_cut_file_goes_on_where_it_ended(project: Project, served: Hub) -> None:
    served.faults["model.safetensors"] = Fault(times=1, cut=30_000)
    assert build(project.recipe("m", RECIPE)) == ""
    size = (paths.output("m", "base") / "model.safetensors").stat().st_size
    assert served.sent["model.safetensors"] == size


@pytest.mark.parametrize("damaged", [False, True])
def test_what_a_killed_build_left_is_used_if_it_is_right(
    project: Project, served: Hub, damaged: bool
) -> None:
    whole = read(served)["model.safetensors"]
    left = fetched.place(digests.of_bytes(whole))
    left.parent.mkdir(parents=True)
    start = bytearray(whole[: len(whole) - 15_000])
    start[100] ^= damaged
    left.with_name(f"{left.name}.part").write_bytes(start)
    assert build(project.recipe("m", RECIPE)) == ""
    assert content(paths.output("m", "base"))["model.safetensors"] == whole
    assert served.sent["model.safetensors"] == 15_000 + damaged * len(whole)


def test_a_flipped_bit_on_disk_is_found_and_only_that_file_fetched(
    project: Project, served: Hub
) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    path = (paths.output("m", "base") / "model.safetensors").resolve()
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert not stage.is_fresh("base", base, recipe)
    served.asked.clear()
    assert build(recipe) == ""
    assert content(paths.output("m", "base"))["model.safetensors"] == good
    assert {path.partition("?")[0].rpartition("/")[2] for _, path, _ in served.asked} == {
        "model.safetensors"
    }


def test_wrong_bytes_twice_are_an_error_and_no_result(project: Project, served: Hub) -> None:
    served.faults["model.safetensors"] = Fault(times=2, flip=True)
    error = build(project.recipe("m", RECIPE))
    assert error.startswith("model.safetensors: the server sent other bytes than those with sha")
    assert not paths.manifest("m", "base").exists()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"hub": "org/none"}, r"org/none: no such model on http://127.0.0.1:\d+, or a private one"),
        ({"revision": "nope"}, "org/model: no revision 'nope' on"),
        ({"hub": "a/b/c"}, "a/b/c: no name of a repository"),
        ({"allow": ["*.gguf"]}, r"org/model: no file matches '\*.gguf'; correct the pattern"),
        ({"ignore": ["*.zip"]}, r"org/model: no file matches '\*.zip'"),
        ({"ignore": ["*"]}, "org/model: holds no file to take"),
        ({"allow": ["*.json"]}, "no weights"),
    ],
)
def test_a_wrong_name_is_one_clear_error(
    project: Project, served: Hub, change: dict[str, Any], error: str
) -> None:
    text = yaml.safe_dump({"base": {"hub": "org/model", **change}})
    assert re.search(error, build(project.recipe("m", text)))
    assert not paths.manifest("m", "base").exists()


@pytest.mark.parametrize(
    ("status", "token", "error"),
    [
        (401, "", r"org/model is gated: ask for access on http\S+/org/model .* then set HF_TOKEN"),
        (403, "hf_other", "the account of your token .* does not have it yet"),
    ],
)
def test_a_gated_model_says_what_to_do(
    project: Project,
    served: Hub,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    token: str,
    error: str,
) -> None:
    served.repos["models/org/model"].gated = status
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    found = build(project.recipe("m", RECIPE))
    assert re.search(error, found)
    assert "hf_other" not in found


@pytest.mark.parametrize("status", [500, 403, 429])
def test_a_server_that_refuses_is_named_with_its_status(
    project: Project, served: Hub, status: int
) -> None:
    served.faults["api"] = Fault(times=99, status=status)
    error = build(project.recipe("m", RECIPE))
    assert re.match(rf"org/model: http://127.0.0.1:\d+ answers {status}: ", error)


def test_a_server_that_is_not_there_is_named(
    project: Project, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = build(project.recipe("m", RECIPE))
    assert re.match(r"http://127.0.0.1:9: no answer \(ConnectError\) for org/model; ", error)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_not_there_is_named_not_asked_for(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "http://me:p4ss@127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    close_session()
    try:
        error = build(project.recipe("m", RECIPE))
    finally:
        close_session()
    assert f"is the address right, and the proxy that {name} names?" in error
    assert "p4ss" not in error


@pytest.mark.parametrize("token", ["hf_ab\N{EN DASH}c", "hf_ab\x7fc"])
def test_a_token_that_no_header_can_hold_is_named_and_not_said(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    error = build(project.recipe("m", RECIPE))
    assert error.startswith("HF_TOKEN: holds characters that no token has; ")
    assert "hf_ab" not in error


@pytest.mark.parametrize("name", ["../out.bin", "a\\b.bin", "a\nb.bin", "/etc/x"])
def test_a_name_that_leads_out_or_misleads_is_refused(
    project: Project, hub: Hub, name: str
) -> None:
    hub.put("org/model", {**model(), name: b"x"})
    assert "a file is called" in build(project.recipe("m", RECIPE))


@pytest.mark.parametrize("name", ["manifest.json", "../out.bin", "a\\b.bin"])
def test_a_name_that_is_refused_can_be_left_out(project: Project, hub: Hub, name: str) -> None:
    hub.put("org/model", {**model(), name: b"x"})
    text = f"base: {{hub: org/model, ignore: ['{name}']}}\n"
    assert build(project.recipe("m", text)) == ""
    assert name not in lock(project.recipe("m", text))["files"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.safetensors", b"\xff" * 40_000, "/model.safetensors: byte 0: the header"),
        ("model.safetensors", POINTER, "/model.safetensors: a Git-LFS pointer"),
        ("config.json", b"{}", "/config.json: names no architecture"),
        ("config.json", None, ": no config.json"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_of_the_repository_s_file(
    project: Project, hub: Hub, file: str, content: bytes | None, said: str
) -> None:
    """Not of the folder in which the stage worked, which is gone."""
    files = {**model(), file: content}
    hub.put("org/model", {name: held for name, held in files.items() if held is not None})
    told = build(project.recipe("m", RECIPE))
    assert told.startswith(f"org/model{said}")
    assert ".base-" not in told


def test_a_disk_that_is_too_small_is_told_before_the_start(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    error = build(project.recipe("m", RECIPE))
    assert re.search(r"40.\d kB to fetch and 67.1 MB to leave free, but 1.0 kB are", error)
    assert not served.requests("/resolve/")


def test_copies_in_other_formats_are_left_out_and_said_so(
    project: Project, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = {"pytorch_model.bin": weights(), "original/consolidated.00.pth": weights()}
    hub.put("org/model", {**model(), **twice})
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    assert "left out: 2 files (80." in capsys.readouterr().out
    assert not set(twice) & set(content(paths.output("m", "base")))
    wanted = project.recipe("m", "base: {hub: org/model, allow: ['*']}\n")
    assert build(wanted) == ""
    assert set(twice) <= set(content(paths.output("m", "base")))


def test_bin_files_without_safetensors_are_the_weights(
    project: Project, hub: Hub, tmp_path: Path
) -> None:
    files = model()
    del files["model.safetensors"]
    packed = saved(tmp_path / "pytorch_model.bin", {"w": tensor()})
    files["pytorch_model.bin"] = packed.read_bytes()
    hub.put("org/model", files)
    assert build(project.recipe("m", RECIPE)) == ""
    assert "pytorch_model.bin" in content(paths.output("m", "base"))


def test_two_builds_give_the_same_manifest(project: Project, served: Hub) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    first = paths.manifest("m", "base").read_bytes()
    stage.clean("base", recipe)
    assert build(recipe) == ""
    assert paths.manifest("m", "base").read_bytes() == first


def test_a_local_folder_is_linked_and_never_written_to(project: Project, tmp_path: Path) -> None:
    folder = tmp_path / "mount"
    folder.mkdir()
    for name, value in model().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(value)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)

    def state() -> dict[Path, tuple[int, ...]]:
        stats = {path: path.stat() for path in folder.rglob("*")}
        return {
            path: (s.st_ino, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats.items()
        }

    before = state()
    recipe = project.recipe("m", f"base: {{path: {folder}, ignore: [sub/]}}\n")
    assert build(recipe) == ""
    assert state() == before
    assert sorted(content(paths.output("m", "base"))) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_dataset_comes_from_the_hub_too(project: Project, hub: Hub) -> None:
    files = {"data/a.jsonl": b"{}\n", "data/b.jsonl": os.urandom(5000), "README.md": b"x"}
    hub.put("org/data", files, kind="datasets")
    text = RECIPE + "data: {hub: org/data, allow: [data/]}\n"
    assert stage.act("data", data, project.recipe("m", text)) is None
    made = content(paths.output("m", "data"))
    assert made == {name: value for name, value in files.items() if name != "README.md"}


def test_offline_the_user_s_own_cache_is_enough_and_shared(
    project: Project, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = hub.put("org/model", model())
    cache = tmp_path / "home/hub"
    snapshot_download("org/model", endpoint=hub.url, cache_dir=cache)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    assert lock(recipe)["commit"] == commit
    assert hub.asked == []
    blob = (paths.output("m", "base") / "model.safetensors").resolve()
    assert blob.stat().st_nlink == 2
    other = build(project.recipe("n", "base: {hub: org/other}\n"))
    assert "org/other: not all of it is on this machine, and HF_HUB_OFFLINE is set" in other


def test_a_cache_that_lies_is_not_believed(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    snapshot_download("org/model", endpoint=served.url, cache_dir=tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    whole = read(served)["model.safetensors"]
    cached = next((tmp_path / "hub").rglob("model.safetensors")).resolve()
    cached.chmod(0o644)
    cached.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert build(project.recipe("m", RECIPE)) == ""
    assert content(paths.output("m", "base"))["model.safetensors"] == whole


def test_a_cache_that_may_not_be_read_counts_as_not_there(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.is_relative_to(tmp_path / "hub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return plain(self, *arguments, **named)

    snapshot_download("org/model", endpoint=served.url, cache_dir=tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    plain = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    served.asked.clear()
    assert build(project.recipe("m", RECIPE)) == ""
    assert len(served.requests("/resolve/")) == 4


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A folder on another file system, as a cache that is mounted."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_offline_a_cache_on_another_disk_is_enough(
    project: Project, hub: Hub, monkeypatch: pytest.MonkeyPatch, mounted: Path
) -> None:
    hub.put("org/model", model())
    snapshot_download("org/model", endpoint=hub.url, cache_dir=mounted)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(mounted))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert build(project.recipe("m", RECIPE)) == ""
    assert hub.asked == []
    expected = read(hub)
    del expected[".gitattributes"]
    assert content(paths.output("m", "base")) == expected


def test_what_may_have_no_second_name_is_copied_and_verified(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    snapshot_download("org/model", endpoint=served.url, cache_dir=tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    cached = next((tmp_path / "hub").rglob("tokenizer.json")).resolve()
    cached.chmod(0o644)
    cached.write_bytes(b"[]")
    served.asked.clear()
    assert build(project.recipe("m", RECIPE)) == ""
    assert content(paths.output("m", "base"))["tokenizer.json"] == b"{}"
    assert len(served.requests("/resolve/")) == 1
    assert not (paths.output("m", "base") / "model.safetensors").stat().st_mode & 0o222


@pytest.mark.parametrize("right", [True, False])
def test_a_copy_that_is_wrong_costs_nothing_of_what_had_come(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch, mounted: Path, right: bool
) -> None:
    snapshot_download("org/model", endpoint=served.url, cache_dir=mounted)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(mounted))
    whole = read(served)["model.safetensors"]
    part = fetched.partial(digests.of_bytes(whole))
    part.parent.mkdir(parents=True)
    part.write_bytes(whole[:-15_000])
    if not right:
        cached = next(mounted.rglob("model.safetensors")).resolve()
        cached.chmod(0o644)
        cached.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    served.sent.clear()
    assert build(project.recipe("m", RECIPE)) == ""
    assert content(paths.output("m", "base"))["model.safetensors"] == whole
    assert served.sent.get("model.safetensors", 0) == (0 if right else 15_000)
    assert not list(part.parent.glob("*.part"))


def test_killed_at_any_moment_the_next_doit_ends_with_the_same_bytes(
    project: Project, hub: Hub
) -> None:
    hub.put("org/model", model(30_000_000))
    (project.recipes / "m.yaml").write_text(RECIPE)
    environment = {
        **os.environ,
        "MODELWRIGHT_RECIPES": str(project.recipes),
        "MODELWRIGHT_BUILD": str(project.build),
        "MODELWRIGHT_DEFAULT": "m",
    }
    command = [sys.executable, "-m", "doit", "base:m"]
    left = project.build / ".downloads"
    # 10 MB are written at a time: stop the server's third piece, and kill the build meanwhile.
    hub.faults["model.safetensors"] = Fault(times=9, cut=25_000_000)
    killed = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(left.glob("*.part")) and time.monotonic() < end:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    hub.faults.clear()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    whole = read(hub)["model.safetensors"]
    assert (project.build / "m/base/model.safetensors").read_bytes() == whole
    assert not list(left.glob("*.part"))


def test_update_is_a_task_of_its_own(project: Project, served: Hub) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    moved = served.put("org/model", model())
    tasks = {task.get("name"): task for task in pipeline.updates({"base": base}, [recipe])}
    action, arguments = tasks["m"]["actions"][0]
    assert action(*arguments) is None
    assert lock(recipe)["commit"] == moved
    served.repos.clear()
    failed = action(*arguments)
    assert "no such model" in failed.message
    assert lock(recipe)["commit"] == moved


def test_a_proxy_is_used(project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", served.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    close_session()
    try:
        assert build(project.recipe("m", RECIPE)) == ""
    finally:
        close_session()


def test_a_disk_that_fills_is_one_clear_error(
    project: Project, served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(sink: Sink, block: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Sink, "write", full)
    assert "full" in build(project.recipe("m", RECIPE))
    assert not paths.output("m", "base").exists()


def test_a_password_in_the_address_of_a_mirror_is_refused_and_not_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:p4ss@mirror.local")
    with pytest.raises(UserError, match="`HF_ENDPOINT`: take user and password out") as failure:
        base.settle(project.recipe("m", "base: {hub: a/b}\n"))
    assert "p4ss" not in str(failure.value)
