"""torch's checkpoints, read without torch and without running them."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.model import checkpoint, unpickling
from tasks.core.model.tensors import Tensor, read

NUMBERS = struct.pack("<6f", *range(6))


class Named:
    """Pickles as a name of another module, called with arguments."""

    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


# Python's own pickler, which can be bent as the one in C cannot.
Plain: Any = pickle._Pickler


class Writer(Plain):  # type: ignore[misc]
    """Writes names of modules that are not there."""

    dispatch: ClassVar[Any] = dict(Plain.dispatch)

    def save_named(self, thing: Named) -> None:
        self.write(f"c{thing.module}\n{thing.name}\n".encode())
        if thing.arguments != (None,):
            self.save(thing.arguments)
            self.write(b"R")

    dispatch[Named] = save_named

    def persistent_id(self, thing: Any) -> Any:
        return thing[1] if isinstance(thing, tuple) and thing[:1] == ("persistent",) else None


def name(module: str, word: str) -> Named:
    return Named(module, word, None)


def storage(key: str = "0", elements: int = 6, kind: str = "FloatStorage") -> Any:
    return "persistent", ("storage", name("torch", kind), key, "cpu", elements)


def tensor(shape: Any = (2, 3), stride: Any = (3, 1), offset: int = 0, **options: Any) -> Named:
    rest = (False, name("collections", "OrderedDict"))
    return Named(
        "torch._utils", "_rebuild_tensor_v2", storage(**options), offset, shape, stride, *rest
    )


def saved(path: Path, content: Any, storages: dict[str, bytes] | None = None) -> Path:
    stream = io.BytesIO()
    Writer(stream, 2).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, raw in (storages or {"0": NUMBERS}).items():
            archive.writestr(f"archive/data/{key}", raw)
    return path


def test_a_state_dict_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"w": tensor(), "part": tensor((2,), (1,), 4)})
    found = checkpoint.tensors(checkpoint.load(path), path)
    assert (found["w"].dtype, found["w"].shape, found["w"].name) == ("F32", (2, 3), "w")
    assert read(found["w"]) == NUMBERS
    assert read(found["part"]) == NUMBERS[16:]
    checkpoint.verify(path, found.values())


@pytest.mark.parametrize(
    ("module", "word"),
    [
        ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"),
        ("subprocess", "Popen"), ("numpy", "load"), ("torch", "load"), ("runpy", "run_path"),
        ("numpy.f2py.crackfortran", "myeval_exec"), ("torch.hub", "load"), ("webbrowser", "open"),
        ("tasks.core.model.checkpoint", "load"), ("torch.utils._config", "compile"),
    ],
)  # fmt: skip
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, module: str, word: str) -> None:
    mark = tmp_path / "ran"
    path = saved(tmp_path / "x.pth", {"w": Named(module, word, f"touch {mark}")})
    with pytest.raises(UserError, match=rf"x\.pth: data\.pkl asks for {module}\.{word}"):
        checkpoint.load(path)
    assert not mark.exists()


def test_harmless_names_stay_names(tmp_path: Path) -> None:
    history = Named("mmengine.logging.history_buffer", "HistoryBuffer")
    path = saved(tmp_path / "x.pth", {"hub": [history], "state_dict": {"w": tensor()}})
    content = checkpoint.load(path)
    assert isinstance(content["hub"][0], unpickling.Opaque)
    assert isinstance(content["state_dict"]["w"], Tensor)
    assert "mmengine" not in sys.modules
    with pytest.raises(UserError, match="hub: a list, not a tensor"):
        checkpoint.tensors(content, path)
    with pytest.raises(UserError, match=r"x\.pth: a tensor's name: '\\ud800' is no text"):
        checkpoint.tensors({"\ud800": content["state_dict"]["w"]}, path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"w": tensor(elements=7)}, "storage 0: not the 28 bytes"),
        ({"w": tensor(key="1")}, "storage 1"),
        ({"w": tensor(kind="DoubleStorage")}, "storage 0: not the 48 bytes"),
        ({"w": tensor((3, 3))}, "does not fit"),
        ({"w": tensor(offset=1)}, "does not fit"),
        ({"w": tensor(offset=-1)}, "does not fit"),
        ({"w": tensor((3, 2), (1, 3))}, r"no contiguous run of numbers; save it with .contig"),
        ({"w": tensor(kind="QInt8Storage")}, "unknown kind of storage"),
    ],
)
def test_a_tensor_that_lies_is_refused(tmp_path: Path, content: Any, complaint: str) -> None:
    path = saved(tmp_path / "x.pth", content)
    with pytest.raises(UserError, match=rf"x\.pth: .*{complaint}"):
        checkpoint.load(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"w": tensor()})
    found = checkpoint.tensors(checkpoint.load(path), path)
    raw = bytearray(path.read_bytes())
    raw[found["w"].extents[0].start + 5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"x\.pth: w: damaged"):
        checkpoint.verify(path, found.values())


def test_a_file_before_torch_1_6_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match=r"older than torch 1\.6"):
        checkpoint.load(path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_an_error_or_leaves_tensors_inside_the_file(tmp_path: Path, data: Any) -> None:
    path = saved(tmp_path / "x.pth", {"w": tensor()})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with contextlib.suppress(UserError):
        for found in checkpoint.tensors(checkpoint.load(path), path).values():
            assert len(read(found)) == found.size


def test_what_torch_saves_is_read(xtuner: str, tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "big = torch.arange(24.).reshape(4, 6)\n"
        "tensors = {'f': big, 'row': big[1], 'scalar': torch.tensor(3),\n"
        "  'p': torch.nn.Parameter(big.half()), 'b': big.bfloat16(), 'none': torch.empty(0, 3)}\n"
        "torch.save({'state_dict': tensors, 'shape': big.shape}, sys.argv[1])\n"
    )
    path = tmp_path / "x.pth"
    subprocess.run([xtuner, "-c", program, path], check=True)
    content = checkpoint.load(path)
    found = checkpoint.tensors(content["state_dict"], path)
    kinds = {name: (each.dtype, each.shape) for name, each in found.items()}
    assert kinds == {
        "f": ("F32", (4, 6)), "row": ("F32", (6,)), "scalar": ("I64", ()), "p": ("F16", (4, 6)),
        "b": ("BF16", (4, 6)), "none": ("F32", (0, 3)),
    }  # fmt: skip
    assert struct.unpack("<6f", read(found["row"])) == (6, 7, 8, 9, 10, 11)
    assert content["shape"] == (4, 6)
    checkpoint.verify(path, found.values())
