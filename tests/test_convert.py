"""Datasets as xtuner reads them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import convert
from tasks.core import paths
from tasks.core.errors import CommandFailed, UserError
from tasks.core.xtuner import convert as program
from tasks.core.xtuner import counts, pieces, texts
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


def test_plain_texts_become_rows_of_text(xtuner: str, tmp_path: Path) -> None:
    origin = lines(tmp_path / "in/a.jsonl", {"text": "é\n2024-01-31 ", "id": 7, "messages": []})
    (origin / "b.txt").write_text("One text.\n\nOf two paragraphs.\n")
    done = run(xtuner, origin, tmp_path / "out", "text")
    assert done.returncode == 0, done.stdout + done.stderr
    texts = ["é\n2024-01-31 ", "One text.\n\nOf two paragraphs.\n"]
    assert shown(xtuner, tmp_path / "out") == [{"text": text} for text in texts]
    assert json.loads(done.stdout) == {"rows": 2}


def test_text_files_are_rows_of_plain_text_only(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jsonl"):
        (tmp_path / name).write_text("x\n")
    names = {f: [p.path.name for p in pieces.pieces(tmp_path, f)] for f in ("text", "openai")}
    assert names == {"text": ["a.txt", "b.jsonl"], "openai": ["b.jsonl"]}


class Words:
    """Stands in for a tokenizer: a word and the blanks before it are a token."""

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        ends = [found.span() for found in re.finditer(r"\s*\S+|\s+$", text)]
        return type("Encoding", (), {"offsets": ends})


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("a b c", 3, ["a b c"]),
        ("a b c d", 3, ["a b ", "c d"]),
        ("a b\n\nc d e f", 4, ["a b\n\n", "c d e f"]),
        ("abcdefgh", 3, ["abcdefgh"]),
        ("a b c  \n ", 3, ["a b ", "c  \n "]),
        ("", 3, []),
    ],
)
def test_a_text_that_is_too_long_is_cut_where_words_end(
    text: str, most: int, parts: list[str]
) -> None:
    assert list(texts.cut(text, Words(), most + texts.SPARE)) == parts


@pytest.mark.parametrize("block", [7, 1 << 20])
@given(text=st.text("ab \n", max_size=80), most=st.integers(1, 9))
def test_no_word_is_lost_when_a_text_is_cut(block: int, text: str, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "BLOCK", block)
        parts = list(texts.cut(text, Words(), most + texts.SPARE))
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part in text and len(part.split()) <= most for part in parts)


def test_texts_longer_than_a_sample_become_several_rows(xtuner: str, tmp_path: Path) -> None:
    text = "\n".join(f"Paragraph {n} tells of the weather in Graz." for n in range(200))
    origin = lines(tmp_path / "in/a.jsonl", {"text": text})
    tokenizer = paths.ROOT / "recipes/tiny-agent/base/tokenizer.json"
    done = run(xtuner, origin, tmp_path / "out", "text", tokenizer, 64)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(done.stdout)
    assert counted["rows"] > 10
    assert counted["tokens"]["over_max_length"] == 0
    assert "".join(row["text"] for row in shown(xtuner, tmp_path / "out")) == text


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


def test_a_fault_ends_the_conversion_with_file_and_line(xtuner: str, tmp_path: Path) -> None:
    good = {"conversation": [ASKED, ANSWER]}
    origin = lines(tmp_path / "in/a.jsonl", good, good, "{", good)
    (origin / "b.jsonl").write_bytes(json.dumps(good).replace("2024", "\xff").encode("latin-1"))
    done = run(xtuner, origin, tmp_path / "out", "agentflan")
    assert done.returncode == program.DATA_FAULT
    assert "a.jsonl:3: not JSON at column" in done.stdout
    assert "b.jsonl:1: not UTF-8 at byte" in done.stdout
    assert not (tmp_path / "out/state.json").exists()


def test_a_file_is_called_as_people_find_it(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file that a link leads to, from where they stand; not from build/<model>."""
    (tmp_path / "here/in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert pieces.known_as(Path("in/a.jsonl")) == "in/a.jsonl"
    Path("link.jsonl").symlink_to(tmp_path / "b.jsonl")
    assert pieces.known_as(Path("link.jsonl")) == f"{tmp_path}/b.jsonl"

    def run(*_: object, cwd: Path) -> None:
        assert cwd == paths.ROOT
        raise CommandFailed("", program.DATA_FAULT, [])

    monkeypatch.setattr("tasks.core.xtuner.run", run)
    monkeypatch.setattr(convert, "command", lambda *_: [])
    with pytest.raises(UserError):
        convert.run(project.recipe("m", "base: {path: x}\ndata: {path: y}\n"), tmp_path)


CHAT = '{"conversation": %s}'


@pytest.mark.parametrize(
    ("form", "row", "complaint"),
    [
        ("agentflan", b"{", "not JSON at column"),
        ("agentflan", b"[1]", "not an object"),
        ("agentflan", b'{"x": 1}', "no 'conversation'; found 'x'"),
        ("agentflan", CHAT % "[]", "should be a list of messages"),
        ("agentflan", CHAT % "null", "should be a list of messages"),
        ("agentflan", CHAT % '[{"role": "cat", "content": ""}]', "role 'cat' is unknown"),
        ("agentflan", CHAT % '[{"role": "user"}]', "'content' should be text"),
        ("agentflan", CHAT % '[{"role": "user", "content": 5}]', "'content' should be text"),
        (
            "agentflan",
            CHAT % '[{"role": "user", "content": "", "loss": "maybe"}]',
            "'loss' should be true or false",
        ),
        (
            "agentflan",
            '{"conversation": [], "conversation": []}',
            "key 'conversation' is given twice",
        ),
        ("agentflan", CHAT % '[{"role": "user", "content": "", "content": ""}]', "given twice"),
        ("agentflan", b"\xff", "not UTF-8 at byte 0"),
        ("agentflan", b"[" * 100_000, "nested too deep"),
        ("sharegpt", '{"conversations": [{"from": "cat", "value": ""}]}', "'from' is 'cat'"),
        ("alpaca", '{"instruction": "add"}', "'output' should be text; found 'instruction'"),
        ("sharegpt", '{"conversations": [{"from": ["x"], "value": ""}]}', "'from' is ['x']"),
        ("alpaca", '{"instruction": "a", "output": "b", "input": 5}', "'input' should be text"),
        ("alpaca", '{"instruction": "a", "output": "b\\ud83d"}', r"'\ud83d' is half a character"),
        ("alpaca", '{"instruction": "a", "output": "b", "\\ud800": 1}', "is half a character"),
        ("alpaca", '{"instruction": "a", "output": "b", "n": [9223372036854775808]}', "64 bits"),
        ("alpaca", '{"n": %s}' % ("9" * 5000), "thousands of digits"),
        ("text", '{"text": "\\udfff"}', "is half a character"),
        ("text", '{"text": " \\n"}', "'text' should be text, and not empty"),
        ("text", '{"text": 5}', "'text' should be text"),
        ("text", '{"body": "b"}', "'text' should be text"),
    ],
)
def test_a_fault_names_file_and_line(
    tmp_path: Path, form: str, row: str | bytes, complaint: str
) -> None:
    raw = b"\n\n" + (row if isinstance(row, bytes) else row.encode()) + b"\n"
    (tmp_path / "a.jsonl").write_bytes(raw)
    result = program.Result()
    (piece,) = pieces.pieces(tmp_path, form)
    assert program.slowly(raw, form, piece, result) == []
    (fault,) = result.faults
    assert f"{tmp_path.name}/a.jsonl:3: " in fault
    assert complaint in fault


@pytest.mark.parametrize(
    ("name", "raw", "complaint"),
    [
        ("a.txt", b" \n", "a.txt: 'text' should be text, and not empty"),
        ("a.txt", b"a\xff", "a.txt: not UTF-8 at byte 1"),
        ("a.json", b'[{"text": "a"}, {"text": 5}]', "a.json:row 2: 'text' should be text"),
        ("a.json", b"[", "a.json: not JSON at column"),
    ],
)
def test_a_file_that_has_no_lines_is_named_alone(
    tmp_path: Path, name: str, raw: bytes, complaint: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    result = program.Result()
    (piece,) = pieces.pieces(tmp_path, "text")
    program.slowly(raw, "text", piece, result)
    assert f"/{complaint}" in result.faults[0]


def test_files_of_different_types_are_both_named(xtuner: str, tmp_path: Path) -> None:
    chat = {"messages": [ASKED, ANSWER]}
    lines(tmp_path / "in/a.jsonl", {**chat, "n": 2**60 + 1})
    origin = lines(tmp_path / "in/b.jsonl", {**chat, "n": 1.5})
    done = run(xtuner, origin, tmp_path / "cast", "openai")
    assert done.returncode == program.DATA_FAULT, done.stderr
    assert re.search(r"a\.jsonl and \S*b\.jsonl: rows of different types: Integer", done.stdout)
    lines(tmp_path / "in/c.jsonl", {**chat, "n": "x"})
    done = run(xtuner, origin, tmp_path / "unified", "openai")
    assert done.returncode == program.DATA_FAULT, done.stderr
    assert re.search(r"a\.jsonl and \S*c\.jsonl: rows of different types: .*n has", done.stdout)


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (tmp_path / "a.json").write_bytes(mark + b'[{"text": "a"}]')
    (tmp_path / "b.jsonl").write_bytes(mark + b'{"text": "b"}\n')
    (tmp_path / "c.txt").write_bytes(mark + b"c")
    result, found = program.Result(), []
    for piece in pieces.pieces(tmp_path, "text"):
        found += program.slowly(piece.path.read_bytes(), "text", piece, result)
    assert (found, result.faults) == ([{"text": each} for each in "abc"], [])


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
    monkeypatch.setattr(pieces, "PIECE", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b"%d\n" % 7**n for n in range(30)) + b"no newline at the end")
    found = list(pieces.pieces(tmp_path, "openai"))
    raw = path.read_bytes()
    assert b"".join(raw[piece.start : piece.end] for piece in found) == raw
    assert all(raw[piece.end - 1 : piece.end] == b"\n" for piece in found[:-1])
    assert [pieces.lines_before(piece) for piece in found] == [
        1 + raw[: piece.start].count(b"\n") for piece in found
    ]


def test_lengths_are_counted_by_powers_of_two() -> None:
    assert counts.histogram([1, 2, 3, 4, 5, 900, 1024]) == {
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
