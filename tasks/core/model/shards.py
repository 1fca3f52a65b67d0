"""Write tensors into safetensors files as they are made: in order, in bounded memory, hashed.

Threads make the pieces of a file, a few ahead of the one that is being written and hashed.  Big
models are several files, and on a machine with many processors several are written at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

from ..engine import digests
from ..errors import UserError
from . import ahead, safetensors
from .ahead import Job
from .hashedfile import HashedFile
from .tensors import BYTES, Tensor, read_into, rows

INDEX = "model.safetensors.index.json"
# A piece is whole rows of about this many bytes.
PIECE = 4 << 20
UNITS = {"MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Output:
    """A tensor to be written, and what fills memory with the bytes of some of its rows."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    fill: Callable[[int, int, memoryview], None]

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return prod(self.shape) * BYTES[self.dtype]


def copied(tensor: Tensor, name: str | None = None) -> Output:
    """Return the output that is a tensor as it is."""
    return Output(name or tensor.name, tensor.dtype, tensor.shape, partial(read_into, tensor))


def limit(text: str) -> int:
    """Return a recipe's shard size in bytes; a GB is 10**9, as for Hugging Face."""
    return int(text[:-2]) * UNITS[text[-2:]]


def write_model(
    folder: Path, outputs: Sequence[Output], most: int, metadata: Mapping[str, str]
) -> None:
    """Write a model's weights: one file, or several of at most `most` bytes and their index.

    Where one file fails, or the build is cancelled, the others are not written to their ends.
    """
    groups = split(outputs, most)
    if len(groups) == 1:
        write(folder / "model.safetensors", groups[0], metadata)
        return
    names = [f"model-{n:05}-of-{len(groups):05}.safetensors" for n in range(1, len(groups) + 1)]
    stop = threading.Event()
    with ThreadPoolExecutor(max(1, ahead.processors() // ahead.THREADS)) as pool:
        try:
            jobs = [
                pool.submit(write, folder / name, group, metadata, stop)
                for name, group in zip(names, groups, strict=True)
            ]
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    index = {
        "metadata": {"total_size": sum(output.size for output in outputs)},
        "weight_map": {
            output.name: name for name, group in zip(names, groups, strict=True) for output in group
        },
    }
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def split(outputs: Sequence[Output], most: int) -> list[list[Output]]:
    """Return the outputs of each file, in their order; one that is too big has a file to itself."""
    groups: list[list[Output]] = [[]]
    filled = 0
    for output in outputs:
        if groups[-1] and filled + output.size > most:
            groups.append([])
            filled = 0
        groups[-1].append(output)
        filled += output.size
    return groups


def write(
    path: Path,
    outputs: Iterable[Output],
    metadata: Mapping[str, str],
    stop: threading.Event | None = None,
) -> None:
    """Write one file; its digest is taken on the way and noted.

    Raises:
        CancelledError: `stop` was set before the file was whole.
    """
    # Wide types first, so that every tensor starts at a multiple of its element's size.
    ordered = sorted(outputs, key=lambda output: -BYTES[output.dtype])
    head = safetensors.header(ordered, {"format": "pt", **metadata})
    with HashedFile(path) as file:
        file.write(head)
        jobs = (job for output in ordered for job in pieces(output))
        for piece in ahead.filled(jobs, file.lend):
            if stop and stop.is_set():
                raise CancelledError
            file.write(piece)
    written, expected = path.stat().st_size, len(head) + sum(output.size for output in ordered)
    if written != expected:
        raise UserError(f"{path}: {written} bytes were written, not {expected}; a fault of ours")
    digests.remember(path, file.digest)


def pieces(output: Output) -> Iterator[Job]:
    """Yield what fills a tensor's rows, about a piece at a time."""
    count = rows(output.shape)
    if not output.size:
        return
    row = output.size // count
    step = max(1, PIECE // row)
    for first in range(0, count, step):
        last = min(count, first + step)
        yield Job((last - first) * row, partial(output.fill, first, last))
