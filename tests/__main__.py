"""Run every check: ruff, mypy, pytest.  Arguments go to pytest."""

from __future__ import annotations

import os
import subprocess
import sys

CHECKS = (
    ("ruff check", ["ruff", "check", "."]),
    ("ruff format", ["ruff", "format", "--check", "."]),
    ("mypy", ["mypy"]),
    ("pytest", ["pytest", *sys.argv[1:]]),
)


def main() -> int:
    """Return 0 when all checks pass; run them all, so that one run shows everything."""
    failed = []
    for name, command in CHECKS:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", *command], env=os.environ)
        if done.returncode:
            failed.append(name)
    print("== all checks passed" if not failed else f"== failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
