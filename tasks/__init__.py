"""The pipeline: every stage, in order."""

from __future__ import annotations

from . import (
    adapter,
    app,
    archive,
    base,
    card,
    compose,
    config,
    convert,
    data,
    dockerfile,
    evaluate,
    gateway,
    image,
    merge,
    onboard,
    push,
    report,
    select,
    serve,
    train,
    upload,
)
from .core.engine.stage import Stage

STAGES: dict[str, Stage] = {
    "base": base,
    "data": data,
    "convert": convert,
    "config": config,
    "train": train,
    "select": select,
    "adapter": adapter,
    "merge": merge,
    "evaluate": evaluate,
    "card": card,
    "archive": archive,
    "dockerfile": dockerfile,
    "image": image,
    "push": push,
    "upload": upload,
    "onboard": onboard,
    "compose": compose,
    "serve": serve,
    "gateway": gateway,
    "app": app,
    "report": report,
}

# What leaves this machine, in the order of shipping; `doit ship:<model>` runs them.
OUTWARD = ("push", "upload", "serve", "gateway", "app")
# `doit <model>` leaves these out; they run when they are named.
ON_REQUEST = frozenset({"archive", *OUTWARD})
