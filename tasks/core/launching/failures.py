"""What a failed training said last, and what to try: which keys to change, and by how much."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from ..errors import CommandFailed
from ..sections import ZERO, Train
from .job import Job

# Lines of torchrun and of Slurm's about a failure, which is told before them.
AFTERMATH = re.compile(
    r"torch[./]distributed[./](run|elastic|launcher)|ChildFailedError|^srun: |^slurmstepd: "
    r"|elastic_launch|^\W*Sending process \d+ closing signal|^\W*failed \(exitcode"
)
# What an exception ends with, whichever process it was in.
ERROR = re.compile(r"(\[rank\d+\]: ?)?[A-Za-z_][\w.]*(Error|Exception|Interrupt)\b")
# What the others say when a process is gone.
GONE = r"Connection (reset|closed|refused)|NCCL (error|WARN)|Dist(Network|Backend)Error|Watchdog"
SHOWN = 12
# How much of a log's end is looked at, in bytes.
END = 200_000
# Samples are cut to three quarters, in steps that devices like.
SHORTER, STEP = 0.75, 64


def explained(error: CommandFailed, job: Job) -> CommandFailed:
    """Return the failure with the log's words that matter, and what to try."""
    lines = _end(job)
    head = str(error).splitlines()[:3]
    cure = [line for line in str(error).splitlines()[3:] if not line.startswith("  | ")]
    words = last_words(lines)
    advice = advise("\n".join(words), job.train) or killed(
        "\n".join(lines), job.train, error.status
    )
    told = [f"  | {line}" for line in words]
    return CommandFailed("\n".join([*head, *told, *cure, *advice]), error.status, error.tail)


def last_words(lines: Sequence[str]) -> list[str]:
    """Return the last lines before those that torchrun adds to every failure."""
    told = [line for line in lines if line.strip()]
    end = next((n for n, line in enumerate(told) if AFTERMATH.search(line)), len(told))
    errors = [n for n, line in enumerate(told) if ERROR.match(line) and not AFTERMATH.search(line)]
    # A process that fails takes the others along, who then complain of their connection.
    causes = [n for n in errors if not re.search(GONE, told[n])] or errors
    end = causes[-1] + 1 if causes else end
    return [line for line in told[:end] if not AFTERMATH.search(line)][-SHOWN:]


def advise(text: str, train: Train) -> list[str]:
    """Return what to try, by the last words."""
    for pattern, cure in CURES:
        if re.search(pattern, text):
            return list(cure(text, train))
    return []


def killed(text: str, train: Train, status: int) -> list[str]:
    """Return what to try where a process was killed from outside, without a word."""
    if status in (-9, 137) or re.search(r"exitcode\s*: -9|oom[-_ ]kill|SIGKILL", text):
        return list(_host_memory(train))
    return []


def _device_memory(text: str, train: Train) -> Iterator[str]:
    """Yield which keys to lower and by how much, what costs least first."""
    tried = _gigabytes(text, r"Tried to allocate ([\d.]+ \w+)")
    free = _gigabytes(text, r"of which ([\d.]+ \w+) is free")
    short = f", by {max(tried - free, 0):.2f} GiB at that moment" if tried and free else ""
    yield f"the device's memory did not suffice{short}.  Try, what costs least first:"
    if not train.use_activation_checkpointing:
        yield "  train.use_activation_checkpointing: true, at a quarter more time"
    if train.batch_size > 1:
        batch = train.batch_size // 2
        counts = -(-train.batch_size * train.accumulative_counts // batch)
        yield (
            f"  train.batch_size: {batch} and accumulative_counts: {counts}, now "
            f"{train.batch_size} and {train.accumulative_counts}: half the activations, the same "
            "effective batch"
        )
    zero = _next_zero(train)
    if zero:
        now = train.launch.deepspeed or "none"
        yield f"  train.launch.deepspeed: {zero}, now {now}"
    shorter = int(train.max_length * SHORTER) // STEP * STEP
    if shorter:
        yield f"  train.max_length: {shorter}, now {train.max_length}; longer samples are cut"
    if train.method != "qlora":
        smaller = "lora" if train.method == "full" else "qlora"
        yield f"  train.method: {smaller}, now {train.method}"


def _next_zero(train: Train) -> str:
    """Return the stage of DeepSpeed's that takes less memory than this one, if there is one."""
    now = train.launch.deepspeed
    if now not in (*ZERO, None):
        return ""
    shared = ("zero2", "zero3") if train.launch.devices > 1 else ("zero2_offload",)
    further = (*shared, "zero3_offload")
    later = [stage for stage in further if now is None or ZERO.index(stage) > ZERO.index(now)]
    return later[0] if later else ""


def _gigabytes(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if not found:
        return 0.0
    number, unit = found[1].split()
    return float(number) / {"KiB": 2**20, "MiB": 2**10, "GiB": 1}.get(unit, 1)


def _host_memory(train: Train) -> Iterator[str]:
    yield (
        "a process was killed from outside: mostly the host's memory ran out (`dmesg` tells).  Try:"
    )
    if train.dataloader_num_workers:
        fewer = train.dataloader_num_workers // 2
        yield f"  train.dataloader_num_workers: {fewer}, now {train.dataloader_num_workers}"
    zero = train.launch.deepspeed or ""
    if zero.endswith("_offload"):
        yield (
            f"  train.launch.deepspeed: {zero.removesuffix('_offload')}, now {zero}, which keeps "
            "weights or optimiser in the host's memory"
        )
    if train.launch.processes > 1:
        yield "  fewer train.launch.processes on more nodes: each loads the base for itself"
    yield "  more memory from Slurm, where it gave too little: MODELWRIGHT_SLURM_OPTIONS=--mem=0"


def _say(*lines: str) -> Callable[[str, Train], Iterator[str]]:
    return lambda text, train: iter(lines)


def _disk(text: str, train: Train) -> Iterator[str]:
    yield (
        "the disk is full; no checkpoint that was there is lost.  Free some space and run doit "
        f"again; train.save_total_limit (now {train.save_total_limit}) says how many are kept"
    )


CURES: tuple[tuple[str, Callable[[str, Train], Iterator[str]]], ...] = (
    (r"[Oo]ut of memory|OutOfMemoryError", _device_memory),
    (r"No space left on device|Disk quota exceeded|file write failed|unexpected pos", _disk),
    (
        r"EADDRINUSE|[Aa]ddress already in use",
        _say("a port is in use; set MODELWRIGHT_RENDEZVOUS_PORT to one that is free on node 0"),
    ),
    (
        r"clients joined|RendezvousTimeout",
        _say("not all nodes came; start run.sh on each, see that MODELWRIGHT_RENDEZVOUS_HOST and "
             "_PORT can be reached from all"),
    ),
    (
        r"[Nn]inja is required|Error building extension|CUDA_HOME|No such file.*g\+\+",
        _say("DeepSpeed compiles what this optimiser needs: install g++ and ninja, for CUDA also "
             "nvcc, and set CUDA_HOME"),
    ),
    (
        GONE,
        _say("a process or a node went away, or cannot be reached.  Look in the log for what "
             "failed first; NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME in "
             "MODELWRIGHT_LAUNCHER_ENVIRON name the network interface.  doit goes on from the "
             "newest checkpoint"),
    ),
)  # fmt: skip


def _end(job: Job) -> list[str]:
    """Return the last lines of the log."""
    try:
        with job.log.open("rb") as file:
            file.seek(max(0, job.log.stat().st_size - END))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    # Of a bar that was drawn over itself, what was seen last.
    return [line.rpartition("\r")[2] for line in text.split("\n")]
