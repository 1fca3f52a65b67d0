"""What a run of doit says: its own marks, failures without noise, and how long it took."""

from __future__ import annotations

import sys
import time
from typing import Any

from doit.reporter import ConsoleReporter

from . import console
from .engine import untouched


class Reporter(ConsoleReporter):  # type: ignore[misc]  # doit is untyped
    """doit's console reporter; a failure is said once, and the end says how long it took."""

    desc = "what ran, what it made, what failed"

    def __init__(self, outstream: Any, options: Any) -> None:
        # doit took sys.stdout as it was when doit was imported.
        super().__init__(sys.stdout if outstream is sys.__stdout__ else outstream, options)
        self.started = time.monotonic()
        self.ran = 0
        self.running: set[str] = set()
        self.said = ""

    def write(self, text: str) -> None:
        """Print, and remember what was printed."""
        super().write(text)
        self.said += text

    def execute_task(self, task: Any) -> None:
        """Note a task that starts."""
        super().execute_task(task)
        if task.actions:
            self.running.add(task.name)

    def add_success(self, task: Any) -> None:
        """Note a task that ends well."""
        super().add_success(task)
        self._end(task)

    def add_failure(self, task: Any, fail: Any) -> None:
        """Note a task that fails, or could not begin."""
        super().add_failure(task, fail)
        self._end(task)

    def _end(self, task: Any) -> None:
        self.ran += task.name in self.running
        self.running.discard(task.name)

    def _write_failure(self, result: Any, write_exception: bool = True) -> None:
        fail = result["exception"]
        if fail.get_name() == "UnmetDependency":
            return
        console.clear()
        self.outstream.flush()
        sys.stderr.write(f"ERROR: {result['task'].name}: {fail.get_msg().strip()}\n")

    def complete_run(self) -> None:
        """Say what the run came to."""
        for message in self.runtime_errors:
            sys.stderr.write(f"ERROR: {message}\n")
        if self.ran or self.running:
            plural = "s" if self.ran != 1 else ""
            took = console.duration(time.monotonic() - self.started)
            self.write(f"{self.ran} task{plural} ran in {took}{self._outcome()}\n")
        elif not self.failures and not self.runtime_errors and not sys.exc_info()[0]:
            untouched.note(sys.argv[1:], self.said)

    def _outcome(self) -> str:
        """Return how many tasks failed, waited for one that did, or were stopped."""
        kept = sum(f["exception"].get_name() == "UnmetDependency" for f in self.failures)
        failed = len(self.failures) - kept
        counts = {"failed": failed, "could not begin": kept, "stopped": len(self.running)}
        return "".join(f", {count} {what}" for what, count in counts.items() if count)
