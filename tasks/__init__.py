"""The pipeline: every stage, in order."""

from __future__ import annotations

from . import (
    adapter,
    app,
    archive,
    base,
    config,
    convert,
    data,
    dockerfile,
    evaluate,
    image,
    merge,
    onboard,
    push,
    train,
    upload,
)
from .core.stage import Stage

STAGES: dict[str, Stage] = {
    "base": base,
    "data": data,
    "convert": convert,
    "config": config,
    "train": train,
    "adapter": adapter,
    "merge": merge,
    "evaluate": evaluate,
    "archive": archive,
    "dockerfile": dockerfile,
    "image": image,
    "push": push,
    "upload": upload,
    "onboard": onboard,
    "app": app,
}

# `doit <model>` leaves these out; they run when they are named.
ON_REQUEST = frozenset({"archive", "push", "upload", "app"})
