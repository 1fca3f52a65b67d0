"""safetensors files, whole and damaged."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.model import safetensors
from tasks.core.model.tensors import Extent, Tensor, read

A = Tensor("a", "F32", (2, 3), ())
B = Tensor("模型.b", "BF16", (), ())


def file(path: Path, header: Any, body: bytes = b"", length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + body)
    return path


def entry(first: int, last: int, dtype: Any = "U8", shape: Any = None) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [last - first] if shape is None else shape,
        "data_offsets": [first, last],
    }


def test_what_is_declared_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    head = safetensors.header([A, B], {"format": "pt"})
    path.write_bytes(head + bytes(range(26)))
    found = safetensors.read(path)
    assert len(head) % 8 == 0
    assert found.metadata == {"format": "pt"}
    assert found.tensors == {
        "a": Tensor("a", "F32", (2, 3), (Extent(path, len(head), 24),)),
        "模型.b": Tensor("模型.b", "BF16", (), (Extent(path, len(head) + 24, 2),)),
    }
    assert read(found.tensors["a"], 1, 2) == bytes(range(12, 24))


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.header([A, B], {"format": "pt"}) + bytes(26))
    with library.safe_open(path, "np") as opened:
        assert sorted(opened.keys()) == ["a", "模型.b"]
        assert opened.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    ("header", "body", "complaint"),
    [
        ({"a": entry(0, 4)}, b"123", "byte .*: the tensors end at byte"),
        ({"a": entry(0, 4)}, b"12345", "the tensors end at byte"),
        ({"a": entry(1, 4)}, b"1234", "tensor a does not fit its place"),
        ({"a": entry(0, 4), "b": entry(2, 6)}, b"123456", "tensor b does not fit"),
        ({"a": entry(0, 4), "b": entry(5, 6)}, b"123456", "tensor b does not fit"),
        ({"a": entry(0, 4, "F32", [2])}, b"1234", "tensor a does not fit"),
        ({"a": entry(0, 4, "F4")}, b"1234", "tensor a: its dtype 'F4' is unknown"),
        ({"a": entry(0, 4, ["F32"])}, b"1234", "tensor a: its dtype|header is broken"),
        ({"a": entry(0, 4, "U8", [-2, -2])}, b"1234", "tensor a: .* is no shape"),
        ({"a": entry(0, 4, "U8", [True, 4])}, b"1234", "tensor a: .* is no shape"),
        ({"a": {"dtype": "U8", "shape": [4]}}, b"1234", "tensor a: no pair of data_offsets"),
        ({"a": entry(0, 4) | {"data_offsets": [0, 4.0]}}, b"1234", "tensor a: .* no range"),
        ({"a": 3}, b"1234", "tensor a: no pair"),
        ([], b"", "header is broken"),
        (b"{", b"", "header is broken"),
        (b"\xff\xfe", b"", "header is broken"),
        (b"[" * 100_000, b"", "header is broken"),
        ({"__metadata__": {"format": 1}}, b"", "should hold text only"),
        ({"__metadata__": {"format": "\ud800"}}, b"", r"'\\ud800' is no text"),
        ({"\ud800": entry(0, 4)}, b"1234", r"'\\ud800' is no text"),
        (b'{"a":' + json.dumps(entry(0, 1)).encode() + b',"a":1}', b"1", "'a' is named twice"),
    ],
)
def test_a_header_that_lies_is_refused(
    tmp_path: Path, header: Any, body: bytes, complaint: str
) -> None:
    path = file(tmp_path / "x.safetensors", header, body)
    with pytest.raises(UserError, match=f"x.safetensors: .*{complaint}"):
        safetensors.read(path)


@pytest.mark.parametrize("length", [2**63, 100_000_001, 1000])
def test_a_header_longer_than_the_file_is_not_read(tmp_path: Path, length: int) -> None:
    path = file(tmp_path / "x.safetensors", {}, length=length)
    with pytest.raises(UserError, match=f"byte 0: the header is said to take {length}"):
        safetensors.read(path)


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_a_file_too_short_for_a_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="byte 0"):
        safetensors.read(path)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(UserError, match="git lfs pull"):
        safetensors.read(path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.header([A], {}) + bytes(24))
    tensor = safetensors.read(path).tensors["a"]
    with path.open("r+b") as opened:
        opened.truncate(path.stat().st_size - 4)
    with pytest.raises(UserError, match=r"x\.safetensors: a: the file ends at byte"):
        read(tensor)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_an_error_or_leaves_tensors_inside_the_file(tmp_path: Path, data: Any) -> None:
    raw = bytearray(safetensors.header([A, B], {"format": "pt"}) + bytes(26))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(UserError):
        for tensor in safetensors.read(path).tensors.values():
            assert len(read(tensor)) == tensor.size
