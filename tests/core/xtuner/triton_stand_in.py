"""As much of Triton, computed by numpy, as our kernels are written in.

What they compute can be tested so where there is neither Triton nor a GPU; how they are compiled
cannot.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

_program = [0, 0, 0]


class Tile(np.ndarray[Any, Any]):
    """A block of values."""

    def to(self, dtype: Any) -> Tile:
        return tile(self.astype(dtype))


class Number(int):
    """An argument, or a program's own number."""

    def to(self, dtype: Any) -> Tile:
        return tile(dtype(self))


class Pointer:
    """Places in a tensor's memory."""

    def __init__(self, memory: np.ndarray[Any, Any], places: Any = 0) -> None:
        self.memory, self.places = memory, places
        self.dtype = SimpleNamespace(element_ty=memory.dtype)

    def __add__(self, further: Any) -> Pointer:
        return Pointer(self.memory, self.places + further)


class Kernel:
    """A function that runs once for each place of a grid, or is called by another."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, num_warps: int = 0, num_stages: int = 0, **sizes: int) -> None:
            given = [passed(argument) for argument in arguments]
            for place in np.ndindex(*grid):
                _program[: len(place)] = place
                self.function(*given, **sizes)

        return launch


def tile(values: Any) -> Tile:
    return np.asarray(values).view(Tile)


def passed(argument: Any) -> Any:
    """Return an argument as a kernel sees it."""
    if isinstance(argument, torch.Tensor):
        size = argument.untyped_storage().nbytes() // argument.element_size()
        rest = size - argument.storage_offset()
        return Pointer(argument.detach().as_strided((rest,), (1,)).numpy())
    return Number(argument) if isinstance(argument, int) else argument


def load(pointer: Pointer, mask: Any = True, other: float = 0.0) -> Tile:
    found = pointer.memory[np.where(mask, pointer.places, 0)]
    return tile(np.where(mask, found, np.asarray(other, found.dtype)))


def store(pointer: Pointer, values: Any, mask: Any = True) -> None:
    places, values, mask = np.broadcast_arrays(pointer.places, values, mask)
    pointer.memory[places[mask]] = values[mask]


def jit(function: Any = None, **options: Any) -> Any:
    return Kernel(function) if function else Kernel


def install() -> None:
    """Take Triton's place in this process."""
    language: Any = types.ModuleType("triton.language")
    for name in ("exp", "log", "max", "maximum", "minimum", "sum", "where"):
        setattr(language, name, getattr(np, name))
    for name in ("float32", "int32", "int64", "uint32"):
        setattr(language, name, getattr(np, name))
    language.arange = lambda start, end: tile(np.arange(start, end, dtype=np.int32))
    language.debug_barrier = lambda: None
    language.dot = lambda a, b: tile(np.asarray(a, np.float32) @ np.asarray(b, np.float32))
    language.full = lambda shape, value, dtype: tile(np.full(shape, value, dtype))
    language.load, language.store = load, store
    language.program_id = lambda axis: Number(_program[axis])
    language.trans = np.transpose
    language.zeros = lambda shape, dtype: tile(np.zeros(shape, dtype))
    triton: Any = types.ModuleType("triton")
    triton.cdiv = lambda number, size: -(-number // size)
    triton.jit, triton.language = jit, language
    triton.next_power_of_2 = lambda number: 1 << (number - 1).bit_length()
    sys.modules |= {"triton": triton, "triton.language": language}
