"""Render the scripts that start training elsewhere: run.sh on each node, and Slurm's.

They hold paths and what the recipe says.  No variable of our environment is written into them.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from .. import paths, render, settings
from .job import Job

PORT = 29500
RUN = "run.sh"


def port() -> str:
    """Return the port that the settings name, or nothing."""
    return settings.current().rendezvous_port


def run_sh(job: Job) -> Path:
    """Write run.sh and return its path."""
    return _write(job, RUN, run_text(job))


def run_text(job: Job) -> str:
    """Return what run.sh says; a training of another key has another folder."""
    python, launcher, _, _, _, work_dir, *options = job.words()
    return render.text(
        "run.sh.j2",
        source=job.recipe.file.name,
        nodes=job.train.launch.nodes,
        processes=job.train.launch.processes,
        environ={name: shlex.quote(value) for name, value in job.environ().items()},
        folder=_quoted(paths.build() / job.recipe.name),
        python=shlex.quote(python),
        launcher=shlex.quote(launcher),
        work_dir=shlex.quote(work_dir),
        options=shlex.join(options),
        port=port() or PORT,
    )


def slurm_sh(job: Job, **variables: Any) -> Path:
    """Write Slurm's script, which starts run.sh on each node, and return its path."""
    script = run_sh(job)
    text = render.text(
        "slurm.sh.j2",
        source=job.recipe.file.name,
        nodes=job.train.launch.nodes,
        host=settings.current().rendezvous_host,
        port=port(),
        run=_quoted(script),
        config=_quoted(job.config),
        **variables,
    )
    return _write(job, "train.slurm.sh", text)


def _quoted(path: Path) -> str:
    return shlex.quote(str(path.absolute()))


def _write(job: Job, name: str, text: str) -> Path:
    path = paths.launch(job.recipe.name) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
