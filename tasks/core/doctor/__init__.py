"""What this machine and the services of the settings can do: looked at and tried, not assumed.

A check says what is there.  It raises UserError for what does not work, with what to do, and
returns nothing for what is neither there nor asked for.  A program that is there and does not
work, though nothing asks for it, is no fault either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .. import paths
from ..errors import LoadError, UserError, refused
from . import machine, services

GOOD, NONE, WRONG = "ok", "none", "wrong"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        state: ok, none, or wrong.
        what: what is there, or what is wrong with it and what to do.
    """

    name: str
    state: str
    what: str


def examine() -> list[Finding]:
    """Return what all checks find; they run side by side, in no more than the slowest's time."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return list(pool.map(_try, CHECKS))


def _try(name: str) -> Finding:
    check, missing = CHECKS[name]
    try:
        found = check()
    except (UserError, LoadError) as error:
        if not _is_asked_for(name):
            return Finding(name, NONE, f"nothing asks for it here; {error}")
        return Finding(name, WRONG, str(error))
    except OSError as error:
        return Finding(name, WRONG, refused(error, paths.build()))
    except Exception as error:  # noqa: BLE001  # one check's fault must not hide the others
        return Finding(name, WRONG, f"{type(error).__name__}: {error}; a fault of ours, report it")
    return Finding(name, GOOD if found else NONE, found or missing)


def _is_asked_for(name: str) -> bool:
    """Return whether a build needs it; where recipes or settings cannot be read, it may."""
    try:
        return name not in ASKED or ASKED[name]()
    except LoadError:
        return True


# Programs that many machines have and few builds need: whether a recipe or a setting asks for one.
ASKED: Mapping[str, Callable[[], bool]] = {
    "Docker": services.asks_for_docker,
    "Slurm": machine.asks_for_slurm,
}
# Name, check, and what is said where there is nothing.
CHECKS: Mapping[str, tuple[Callable[[], str], str]] = {
    "Python": (machine.python, ""),
    "settings": (machine.given, ""),
    "recipes": (machine.recipes, "no recipe yet; `doit new MODEL --base ...` writes one"),
    "disk": (machine.disk, ""),
    "store": (machine.store, ""),
    "memory": (machine.memory, ""),
    "GPUs": (machine.gpus, "no nvidia-smi: everything runs on the CPU"),
    "toolchain xtuner": (
        lambda: machine.toolchain("xtuner"),
        "not made yet; the first training makes it",
    ),
    "toolchain xinference": (
        lambda: machine.toolchain("xinference"),
        "not made yet; `serve` makes it, where Xinference runs here",
    ),
    "Docker": (services.docker, "not here; images are built without it"),
    "registry": (services.registry, "MODELWRIGHT_REGISTRY is not set; `push` needs it"),
    "S3": (services.s3, "MODELWRIGHT_S3_ENDPOINT is not set; `upload` needs it"),
    "Xinference": (
        services.xinference,
        "MODELWRIGHT_XINFERENCE_ENDPOINT is not set; `serve` starts one here",
    ),
    "vLLM": (services.vllm, "MODELWRIGHT_VLLM_ENDPOINT is not set"),
    "gateway": (services.gateway, "MODELWRIGHT_GATEWAY_ENDPOINT is not set; `gateway` needs it"),
    "FastGPT": (services.fastgpt, "MODELWRIGHT_FASTGPT_DIR is not set; `app` writes files alone"),
    "Slurm": (machine.slurm, "no sinfo; training runs on this machine"),
}
