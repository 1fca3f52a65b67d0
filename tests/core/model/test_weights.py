"""Model folders: whole ones are told, broken ones refused with path and fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.model import weights

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
HEADER = {"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def safetensors(header: Any = HEADER, data: bytes = bytes(12)) -> bytes:
    """Return a safetensors file; a header that is bytes goes in as it is."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model(tmp_path / "model")


def model(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


def index(folder: Path, places: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": places}))
    return path


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        weights.inspect(folder)
    return str(caught.value)


def test_a_whole_model_is_told(folder: Path) -> None:
    found = weights.inspect(folder)
    assert found.architecture == "LlamaForCausalLM"
    assert (found.parameters, found.dtype) == (6, "F16")


def test_shards_are_counted_together(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1-of-2.safetensors")
    header = {"v": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    (folder / "model-2-of-2.safetensors").write_bytes(safetensors(header, bytes(4)))
    index(folder, {"w": "model-1-of-2.safetensors", "v": "model-2-of-2.safetensors"})
    found = weights.inspect(folder)
    assert (found.parameters, found.dtype) == (7, "F16")


def test_a_folder_without_config_is_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert (
        refusal(folder) == f"{folder}: no config.json; is this the folder of a Hugging Face model?"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"architectures": []}', b'{"architectures": "Llama"}', b"\xff",
     b'{"architectures": [7]}', b'{"architectures": null}', b"[" * 100_000, LFS],
)  # fmt: skip
def test_a_config_that_names_no_architecture_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert refusal(folder).startswith(f"{folder}/config.json: ")


@pytest.mark.parametrize("name", ["model.safetensors", "model-1-of-2.safetensors"])
def test_a_git_lfs_pointer_is_no_weights(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(LFS)
    assert refusal(folder) == (
        f"{folder}/{name}: a Git-LFS pointer, not the weights; run `git lfs pull` in {folder}"
    )


def test_a_pickle_that_is_a_git_lfs_pointer_is_told_as_one(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(LFS)
    assert "a Git-LFS pointer" in refusal(folder)


def test_weights_without_a_tensor_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors({}, b""))
    path = folder / "model.safetensors"
    assert refusal(folder) == f"{path}: holds no tensor; fetch the model again"


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert refusal(folder).startswith(f"{folder}: no weights")


@pytest.mark.parametrize("end", [0, 1, 7, 8, 20, -12, -1])
def test_a_truncated_file_is_refused(folder: Path, end: int) -> None:
    (folder / "model.safetensors").write_bytes(safetensors()[:end])
    said = refusal(folder)
    assert said.startswith(f"{folder}/model.safetensors: byte ")
    assert "truncated" in said


def test_a_file_with_bytes_too_many_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors() + b"x")
    assert "damaged" in refusal(folder)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"w": {**HEADER["w"], **changes}}


@pytest.mark.parametrize(
    "header",
    [
        b"{", b"\xff", b"[" * 100_000, [], "w", 7, None, {"w": 7}, {"w": []}, {"w": {}},
        tensor(dtype="F17"), tensor(dtype=7), tensor(dtype=[]), tensor(shape=None),
        tensor(shape=[2, "3"]), tensor(shape=["a", 10**12]), tensor(shape=[-2, -3]),
        tensor(shape=[2, 4]), tensor(shape=[6.0]), tensor(shape=[2, 3, True]),
        tensor(data_offsets=[0]), tensor(data_offsets=[0, 12, 12]), tensor(data_offsets="ab"),
        tensor(data_offsets=[0.0, 12.0]), tensor(data_offsets=[12, 0]),
        tensor(data_offsets=[1, 13]), tensor(data_offsets=None), {**HEADER, "v": HEADER["w"]},
        {"__metadata__": 7, **HEADER},
    ],
)  # fmt: skip
def test_a_broken_header_is_refused_with_the_byte(folder: Path, header: Any) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(header))
    assert refusal(folder).startswith(f"{folder}/model.safetensors: byte ")


WORDS = st.sampled_from(["w", "v", "dtype", "shape", "data_offsets", "__metadata__", "F16", "F32"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=10,
)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": WORDS | TREES,
        "shape": st.lists(st.integers(-2, 3), max_size=3) | TREES,
        "data_offsets": st.lists(st.integers(-1, 13), max_size=3) | TREES,
    }
)


@effort(max_examples=150)
@given(
    st.binary(max_size=80)
    | st.builds(safetensors, TREES | st.dictionaries(WORDS, ENTRIES), st.binary(max_size=13))
    | st.builds(
        lambda whole, at, byte: whole[:at] + bytes([byte]) + whole[at + 1 :],
        st.just(safetensors()),
        st.integers(0, len(safetensors())),
        st.integers(0, 255),
    )
)
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = model(tmp_path_factory.getbasetemp() / "fuzz")
    (folder / "model.safetensors").write_bytes(content)
    said = ""
    try:
        found = weights.inspect(folder)
        assert found.parameters >= 0
    except UserError as error:
        said = str(error)
    assert not said or said.startswith(f"{folder}/model.safetensors: ")


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a.bin"]
)
def test_an_index_may_name_only_weights_of_its_own_folder(folder: Path, name: str) -> None:
    (folder.parent / "model.safetensors").write_bytes(safetensors())
    path = index(folder, {"w": name})
    assert refusal(folder) == f"{path}: weight_map: '{name}' is no file of this folder"


def test_an_index_may_not_name_what_is_missing(folder: Path) -> None:
    index(folder, {"w": "other.safetensors"})
    assert refusal(folder).startswith(f"{folder}/other.safetensors: missing, but ")


@pytest.mark.parametrize(
    "places", [None, 7, [], {}, {"w": 7}, {"w": None}, {"w": []}, {"w": {}}, {"w": 1, "v": "a"}]
)
def test_an_index_that_is_none_is_refused(folder: Path, places: Any) -> None:
    path = index(folder, places)
    assert refusal(folder).startswith(f"{path}: no index of weights")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, LFS])
def test_an_index_that_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "model.safetensors.index.json"
    path.write_bytes(content)
    assert refusal(folder).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "places", [{"v": "model.safetensors"}, {"w": "model.safetensors", "v": "model.safetensors"}]
)
def test_an_index_has_just_the_tensors_of_its_files(folder: Path, places: Any) -> None:
    index(folder, places)
    assert "fetch the model again" in refusal(folder)
