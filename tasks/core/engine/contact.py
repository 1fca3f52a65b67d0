"""Where the store that a team shares is, and whether it answers.

One look a build: a request that nobody answers takes seconds, or minutes, and a build has many.
"""

from __future__ import annotations

import threading

from .. import console, settings
from ..errors import UserError

# What this build knows of the store; nothing before the first look.
_answers: bool | None = None
_looking = threading.Lock()


def address() -> tuple[str, str] | None:
    """Return bucket and prefix of the shared store, if the settings name one."""
    bucket, _, prefix = settings.current().store_s3.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return (bucket, f"{prefix}/" if prefix else "") if bucket else None


def check() -> str:
    """Ask for the bucket; return its address, or nothing where there is no shared store.

    Raises:
        UserError: it does not answer.
    """
    found = address()
    if not found:
        return ""
    from ..s3.connection import connect, explained

    bucket, prefix = found
    with explained(bucket):
        there = connect(quick=True).bucket_exists(bucket)
        new = "" if there else ", a bucket that the first build makes"
    return f"s3://{bucket}/{prefix}{new}"


def answers() -> bool:
    """Return whether the store has answered so far; the first stage of a build asks it."""
    global _answers
    with _looking:
        if _answers is None:
            _answers = True
            try:
                check()
            except UserError as error:
                # A refusal is an answer; it is told of what is refused.
                _lost(error)
        return _answers


def tell(what: str, error: UserError | OSError) -> None:
    """Say what was not done because of an error; that the store is silent, once a build."""
    with _looking:
        if not _lost(error):
            console.say(f"   {what}: {error}")


def _lost(error: UserError | OSError) -> bool:
    """Return whether an error means that the store does not answer; the first says so."""
    global _answers
    from ..s3.connection import NoAnswer

    if not isinstance(error, NoAnswer):
        return False
    if _answers:
        console.say(f"   shared store: {error}")
        console.say(
            f"   from {console.task()} on this build does without it, and a later one sends what "
            "it makes; to take what is there, stop, and run doit again when it answers"
        )
    _answers = False
    return True
