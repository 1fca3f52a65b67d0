"""What a build must survive: kills, edits, truncations, two at once.  Each row really does it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.engine import manifest

TEXT = "the input of the first stage\n"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


@dataclass(frozen=True)
class Toy:
    """A project of two stages, built by real doit in processes of its own."""

    folder: Path

    @property
    def beside(self) -> Path:
        return self.folder / "recipes" / "m"

    @property
    def built(self) -> Path:
        return self.folder / "build" / "m"

    def write(self, text: str = TEXT, pause: str = "0", pause2: str = "0") -> None:
        (self.beside / "in.txt").write_text(text)
        (self.beside / "pause").write_text(pause)
        (self.beside / "pause2").write_text(pause2)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environ = {
            **os.environ,
            "MODELWRIGHT_RECIPES": str(self.folder / "recipes"),
            "MODELWRIGHT_BUILD": str(self.folder / "build"),
        }
        dodo = str(paths.ROOT / "tests" / "toy" / "toy_dodo.py")
        command, *rest = arguments or ("run",)
        return subprocess.Popen(
            [sys.executable, "-m", "doit", command, "-f", dodo, "-d", str(paths.ROOT), *rest],
            env=environ,
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def ran(self, output: str) -> list[str]:
        return [line[3:].strip() for line in output.splitlines() if line.startswith(".  ")]

    def result(self) -> dict[str, bytes]:
        """Return every published byte, manifests included."""
        stages = [self.built / "first", self.built / "second"]
        return {str(p): p.read_bytes() for stage in stages for p in manifest.walk(stage)}


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    made = Toy(tmp_path)
    made.beside.mkdir(parents=True)
    (tmp_path / "recipes" / "m.yaml").write_text("base: {path: .}\n")
    made.write()
    return made


def wait_for(path: Path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never came")


def sleepers(toy: Toy) -> str:
    """Return the processes that still work for a toy project."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return "\n".join(line for line in listed.splitlines() if str(toy.folder) in line)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda n: n.name)
def test_a_build_killed_in_the_second_stage_runs_only_that_one_again(
    toy: Toy, number: signal.Signals
) -> None:
    toy.run()
    undisturbed = toy.result()
    toy.run("clean", "second", "first")
    subprocess.run(["rm", "-r", toy.folder / "build" / ".store"], check=True)
    toy.write(pause2="30")
    build = toy.start()
    wait_for_file_in(toy.built, ".second-*/count")

    build.send_signal(number)
    build.communicate(timeout=10)
    time.sleep(1)
    left = sleepers(toy)
    toy.write()
    _, output = toy.run()

    assert left == ""
    assert toy.ran(output) == ["second:m"]
    assert toy.result() == undisturbed


def wait_for_file_in(folder: Path, pattern: str) -> None:
    for _ in range(500):
        if list(folder.glob(pattern)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in {folder}")


def test_a_killed_child_is_a_failure_and_the_next_build_is_right(toy: Toy) -> None:
    toy.write(pause="30")
    build = toy.start()
    wait_for_file_in(toy.built, ".first-*/out/a")
    subprocess.run(["pkill", "-KILL", "-f", f"sh -ec cd {toy.folder}"], check=True)
    output, _ = build.communicate(timeout=10)

    assert build.returncode == 1
    assert "killed by SIGKILL" in output
    toy.write()
    assert toy.run()[0] == 0
    assert (toy.built / "second" / "count").read_text() == f"{len(TEXT)}\n"


def test_an_input_edited_while_the_stage_runs_is_an_error_and_nothing_is_recorded(
    toy: Toy,
) -> None:
    toy.write(pause="1")
    build = toy.start()
    wait_for_file_in(toy.built, ".first-*/out/a")
    toy.write("another input\n")
    output, _ = build.communicate(timeout=20)

    assert build.returncode == 1
    assert "an input changed while the stage ran" in output
    assert not (toy.built / "first").exists()
    assert toy.run()[0] == 0
    assert (toy.built / "first" / "out" / "a").read_text() == "another input\n"


def test_a_killed_rerun_leaves_the_old_result_whole(toy: Toy) -> None:
    toy.run()
    before = toy.result()
    toy.write("quite another input\n", pause="30")
    build = toy.start()
    wait_for_file_in(toy.built, ".first-*/out/a")
    build.kill()
    build.communicate(timeout=10)
    toy.write()

    _, output = toy.run()

    assert toy.ran(output) == []
    assert toy.result() == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(path.read_bytes()[:5]),
        lambda path: path.unlink(),
        lambda path: path.write_text(TEXT.replace("input", "INPUT")),
    ],
    ids=["truncated", "deleted", "edited"],
)
def test_a_result_that_was_harmed_is_put_right(toy: Toy, harm: object) -> None:
    assert callable(harm)
    toy.run()
    before = toy.result()

    harm(toy.built / "first" / "out" / "a")
    _, output = toy.run()

    assert toy.ran(output) == ["first:m"]
    assert toy.result() == before


def test_the_full_audit_finds_a_byte_that_was_changed_behind_everybodys_back(toy: Toy) -> None:
    toy.run()
    path = toy.built / "first" / "out" / "a"
    stat = path.stat()
    # Read-only mount options and time travel aside, ctime cannot be put back; the cache can lie.
    path.write_text(TEXT.replace("input", "INPUT"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    code, output = toy.run("check")

    assert code == 1
    assert f"{path}: not as it was made" in output
    assert toy.run()[0] == 0
    assert path.read_text() == TEXT
    assert toy.run("check")[0] == 0


def test_a_touched_input_runs_nothing(toy: Toy) -> None:
    toy.run()
    os.utime(toy.beside / "in.txt")

    assert toy.ran(toy.run()[1]) == []


def test_an_equal_result_does_not_wake_the_stage_after(toy: Toy) -> None:
    toy.run()
    (toy.folder / "recipes" / "m.yaml").write_text("base: {path: .}\nmerge: {shard_size: 1GB}\n")

    assert toy.ran(toy.run()[1]) == ["first:m"]


def test_the_plan_sees_through_the_stages(toy: Toy) -> None:
    toy.run()
    toy.write("changed\n")

    code, output = toy.run("plan")

    assert code == 1
    assert "first:m   run" in output
    assert "m/in.txt: sha256:" in output
    assert "second:m  run" in output
    assert "first will be made anew" in output
    assert toy.ran(toy.run()[1]) == ["first:m", "second:m"]
    assert toy.run("plan")[0] == 0


def test_the_list_sees_through_the_stages(toy: Toy) -> None:
    toy.run()
    toy.write("changed\n")

    _, output = toy.run("list", "--all", "--status")

    assert "run   second:m" in output


def test_an_old_input_is_restored_and_not_made_again(toy: Toy) -> None:
    toy.run()
    before = toy.result()
    toy.write("other\n")
    toy.run()
    toy.write()

    _, output = toy.run()

    assert output.count("restored") == 2
    assert toy.result() == before


@pytest.mark.parametrize("builds", [2, 8])
def test_builds_at_once_wait_for_each_other_and_agree(toy: Toy, builds: int) -> None:
    toy.write(pause="0.5")

    running = [toy.start() for _ in range(builds)]
    outputs = [build.communicate(timeout=60)[0] for build in running]

    assert [build.returncode for build in running] == [0] * builds, outputs
    assert sum("bytes" in output and "s)" in output for output in outputs) >= 1
    assert any("waiting for process" in output for output in outputs)
    assert (toy.built / "first" / "out" / "a").read_text() == TEXT


def test_a_failed_stage_leaves_nothing_half_made(toy: Toy) -> None:
    toy.write(pause="no-number")

    code, _ = toy.run()

    assert code == 1
    assert list(toy.built.glob(".first-*")) == []


@pytest.mark.parametrize("junk", [b"", b"{", b"[]", b'{"version": 1}', b"\xff\xfe"])
def test_a_broken_manifest_is_no_manifest(toy: Toy, junk: bytes) -> None:
    toy.run()
    (toy.built / "first" / "manifest.json").write_bytes(junk)

    code, output = toy.run()

    assert (code, toy.ran(output)) == (0, ["first:m"])


@pytest.mark.parametrize("name", [".digests/cache.db", "ledger.jsonl", "m/locks/first"])
def test_broken_notes_cost_nothing_but_time(toy: Toy, name: str) -> None:
    toy.run()
    before = toy.result()
    (toy.folder / "build" / name).write_bytes(b"\x00junk\xff" * 50)

    code, _ = toy.run()

    assert code == 0
    assert toy.result() == before
    assert toy.run("plan")[0] == 0


def test_a_byte_that_changed_in_one_model_is_not_handed_to_another(toy: Toy) -> None:
    toy.run()
    path = toy.built / "first" / "out" / "b"
    good = path.read_bytes()
    path.write_bytes(good.upper())
    other = toy.folder / "recipes" / "n"
    other.mkdir()
    for name, text in (("in.txt", "another input\n"), ("pause", "0"), ("pause2", "0")):
        (other / name).write_text(text)
    (toy.folder / "recipes" / "n.yaml").write_text("base: {path: .}\n")

    toy.run()
    subprocess.run(["rm", "-r", toy.folder / "build" / "n"], check=True)
    toy.run()

    for model in ("m", "n"):
        assert (toy.folder / "build" / model / "first" / "out" / "b").read_bytes() == good
