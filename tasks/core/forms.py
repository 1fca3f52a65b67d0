"""What the values of settings must look like: told when they are read, not where one is needed."""

from __future__ import annotations

import re
from collections.abc import Callable

Form = tuple[Callable[[str], object], str]


def _among(*words: str) -> Form:
    return words.__contains__, f"{', '.join(words[:-1])} or {words[-1]}"


def _like(pattern: str, words: str) -> Form:
    return lambda value: re.fullmatch(pattern, value), words


def _is_port(value: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", value)) and 0 < int(value) < 65536


def _is_time(value: str) -> bool:
    try:
        return float(value) >= 0
    except ValueError:
        return False


PORT: Form = _is_port, "a port, a number from 1 to 65535"
FORMS: dict[str, Form] = {
    "torch": _among("auto", "cpu", "cuda"),
    "force": (("0", "1", "false", "true").__contains__, "0 or 1"),
    "pools_gpu": _like("[0-9]{1,6}", "a number of devices, such as 2"),
    "pools_variable": _among(
        "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES"
    ),
    "launcher": _among("local", "torchrun", "slurm"),
    "rendezvous_port": PORT,
    "node_rank": _like("[0-9]{1,6}", "the number of a node, of which 0 is the first"),
    "store_limit": _like("[0-9]{1,12}(MB|GB|TB)", "a size, such as 200GB"),
    "store_s3": _like("s3://[^/]+(/.*)?", "s3://bucket/prefix"),
    "gateway_kind": _among("oneapi", "newapi", "aiproxy"),
    "serve_run": _among("local", "docker"),
    "serve_port": PORT,
    "serve_timeout": (_is_time, "a number of seconds, such as 600"),
}


def wanted(name: str, value: str) -> str:
    """Return what a setting should be, in words, where its value is something else."""
    is_sound, words = FORMS.get(name, (bool, ""))
    return "" if not value or is_sound(value) else words
