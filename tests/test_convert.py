"""Datasets as xtuner reads them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks import convert
from tasks.core import paths
from tasks.core.xtuner import convert as program
from tests.conftest import Project

SCRIPT = paths.ROOT / "tasks/core/xtuner/convert.py"
# Prints a dataset's rows as `datasets` gives them.
SHOW = (
    "import sys, json, datasets\n"
    "print(json.dumps(list(datasets.load_from_disk(sys.argv[1])), ensure_ascii=False))\n"
)
ASKED = {"role": "user", "content": "2024-01-31"}
ANSWER = {"role": "assistant", "content": "é\n✓"}


def run(xtuner: str, origin: Path, place: Path, *more: object) -> subprocess.CompletedProcess[str]:
    place.mkdir()
    command = [xtuner, *map(str, (SCRIPT, origin, place, *more))]
    return subprocess.run(command, capture_output=True, text=True)


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path.parent


def shown(xtuner: str, place: Path) -> Any:
    done = subprocess.run([xtuner, "-c", SHOW, place], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("form", "row", "messages"),
    [
        ("agentflan", {"conversation": [ASKED, ANSWER], "id": 7}, [ASKED, ANSWER]),
        ("openai", {"messages": [ASKED, ANSWER]}, [ASKED, ANSWER]),
        (
            "sharegpt",
            {
                "system": "be brief",
                "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
            },
            [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
            ],
        ),
        (
            "alpaca",
            {"instruction": "add", "input": "1 2", "output": "3"},
            [{"role": "user", "content": "add\n1 2"}, {"role": "assistant", "content": "3"}],
        ),
    ],
)
def test_a_row_becomes_messages(
    xtuner: str, tmp_path: Path, form: str, row: Any, messages: Any
) -> None:
    origin = lines(tmp_path / "in/a.jsonl", row, row)
    done = run(xtuner, origin, tmp_path / "out", form)
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown(xtuner, tmp_path / "out") == [{"messages": messages}] * 2
    counts = json.loads(done.stdout)
    assert (counts["rows"], counts["turns"]) == (2, 2)


def test_files_whose_rows_have_different_keys_become_one_dataset(
    xtuner: str, tmp_path: Path
) -> None:
    with_loss = {**ANSWER, "loss": True}
    lines(tmp_path / "in/a.jsonl", {"conversation": [ASKED, ANSWER]})
    lines(tmp_path / "in/b.jsonl", {"conversation": [ASKED, with_loss], "tag": "x"})
    done = run(xtuner, tmp_path / "in", tmp_path / "out", "agentflan")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = shown(xtuner, tmp_path / "out")
    assert first == {
        "messages": [{**ASKED, "loss": None}, {**ANSWER, "loss": None}], "tag": None,
    }  # fmt: skip
    assert second == {"messages": [{**ASKED, "loss": None}, with_loss], "tag": "x"}


def test_a_list_in_a_json_file_is_rows_and_other_json_is_not(xtuner: str, tmp_path: Path) -> None:
    lines(tmp_path / "in/rows.json", [{"messages": [ASKED, ANSWER]}])
    lines(tmp_path / "in/dataset_infos.json", {"default": {}})
    done = run(xtuner, tmp_path / "in", tmp_path / "out", "openai")
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown(xtuner, tmp_path / "out") == [{"messages": [ASKED, ANSWER]}]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("{", "not JSON at column"),
        ("[1]", "not an object"),
        ({"x": 1}, "no 'conversation'; found 'x'"),
        ({"conversation": []}, "should be a list of messages"),
        ({"conversation": None}, "should be a list of messages"),
        ({"conversation": [{"role": "cat", "content": ""}]}, "role 'cat' is unknown"),
        ({"conversation": [{"role": "user"}]}, "'content' should be text"),
        ({"conversation": [{"role": "user", "content": 5}]}, "'content' should be text"),
        ({"conversation": [{**ASKED, "loss": "maybe"}]}, "'loss' should be true or false"),
        ('{"conversation": [], "conversation": []}', "key 'conversation' is given twice"),
        ('{"conversation": [{"role": "user", "content": "", "content": ""}]}', "given twice"),
    ],
)
def test_a_fault_names_file_and_line(xtuner: str, tmp_path: Path, row: Any, complaint: str) -> None:
    good = {"conversation": [ASKED, ANSWER]}
    origin = lines(tmp_path / "in/a.jsonl", good, good, row, good)
    done = run(xtuner, origin, tmp_path / "out", "agentflan")
    assert done.returncode == program.DATA_FAULT
    assert "a.jsonl:3: " in done.stdout
    assert complaint in done.stdout
    assert not (tmp_path / "out/state.json").exists()


def test_two_conversions_are_the_same_bytes(xtuner: str, tmp_path: Path) -> None:
    rows = [{"conversation": [ASKED, ANSWER], "id": n} for n in range(50)]
    origin = lines(tmp_path / "in/a.jsonl", *rows)
    for name in ("1", "2"):
        assert run(xtuner, origin, tmp_path / name, "agentflan").returncode == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_pieces_end_at_lines_and_leave_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "PIECE", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"%d\n" % 7**n for n in range(30)) + b"no newline at the end")
    found = list(program.pieces(tmp_path))
    raw = path.read_bytes()
    assert b"".join(raw[piece.start : piece.end] for piece in found) == raw
    assert all(raw[piece.end - 1 : piece.end] == b"\n" for piece in found[:-1])
    assert [program.lines_before(piece) for piece in found] == [
        1 + raw[: piece.start].count(b"\n") for piece in found
    ]


def test_lengths_are_counted_by_powers_of_two() -> None:
    assert program.histogram([1, 2, 3, 4, 5, 900, 1024]) == {
        "1": 1,
        "2": 1,
        "4": 2,
        "8": 1,
        "1024": 2,
    }


def test_the_tokenizer_is_asked_where_there_is_training(project: Project, tmp_path: Path) -> None:
    project.result("m", "base", {"tokenizer.json": b"{}"})
    train = "train: {prompt_template: default, max_epochs: 1, max_length: 99}\n"
    recipe = project.recipe("m", "base: {path: x}\ndata: {path: y}\n" + train)
    assert convert.key(recipe)["train.max_length"] == 99
    command = convert.command(recipe, tmp_path)
    assert command[-3:] == ["agentflan", str(project.build / "m/base/tokenizer.json"), "99"]
