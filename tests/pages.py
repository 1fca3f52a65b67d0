"""The console blocks of our pages: what they tell to type, and what they say comes of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.core.paths import ROOT

# What a project needs to run; the rest of ours is not copied.
PARTS = "dodo.py docs pyproject.toml recipes tasks templates".split()
ANY = "..."
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A command of a page and the lines that the page shows below it."""

    page: Path
    command: str
    shown: Sequence[str]


def steps(page: Path) -> list[Step]:
    """Return the commands of a page's console blocks, in order."""
    found = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.rstrip("\n").split("\n")
            while command.endswith("\\"):
                command = command[:-1] + shown.pop(0).strip()
            found.append(Step(page, command.partition("  #")[0].rstrip(), shown))
    return found


def project(place: Path) -> Path:
    """Return a copy of our project whose ./doitw runs with the Python that runs the tests."""
    place.mkdir(parents=True)
    for name in PARTS:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, place / name)
    doitw = place / "doitw"
    doitw.write_text(f'#!/bin/sh\nexec {sys.executable} -m doit "$@"\n')
    doitw.chmod(0o755)
    return place


def run(step: Step, place: Path, **settings: str) -> list[str]:
    """Run a command in a project and return the lines that it prints."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("MODELWRIGHT_")}
    environ = {**ours, "NO_COLOR": "1", "PYTHONPATH": str(place), **settings}
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=place,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout.splitlines()


def fits(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Return whether what a page shows is what was printed, but for numbers and times.

    The order is not looked at: which of two stages runs first is chance, where neither waits for
    the other.
    """
    wanted = Counter(plain(line) for line in shown if line.strip() != ANY)
    found = Counter(map(plain, printed))
    is_open = any(line.strip() == ANY for line in shown)
    return not wanted - found and (is_open or not found - wanted)


def plain(line: str) -> str:
    """Return a line without what differs from machine to machine and from day to day."""
    for pattern, name in (
        (r" on [\w.-]+, (built|restored) in ", " in "),
        (r", restored|,? ?~[\d.:]+( s)?|; about .*", ""),
        (r"sha256:[0-9a-f]+|xtuner-[0-9a-f]{12}|\b[0-9a-f]{12}\b", "D"),
        (r"\d+([.:,T-]\d+)*Z?( s\b)?", "N"),
        (r"\s+", " "),
    ):
        line = re.sub(pattern, name, line)
    return line.strip()


def written(page: Path, place: Path, **settings: str) -> str:
    """Return a page whose blocks show what is printed now; a page is begun with bare commands."""

    def filled(block: re.Match[str]) -> str:
        lines = []
        for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]:
            command = part.split("\n")[0]
            step = Step(page, command.partition("  #")[0].rstrip(), part.split("\n")[1:])
            lines += [f"$ {command}", *run(step, place, **settings)]
        return "\n".join(["```console", *lines, "```"])

    return BLOCK.sub(filled, page.read_text(encoding="utf-8"))


def main() -> None:
    """Fill pages with what their commands print:  python -m tests.pages PAGE..."""
    import tempfile

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            page = Path(name)
            settings = {k: v for k, v in os.environ.items() if k.startswith("MODELWRIGHT_")}
            text = written(page, project(Path(folder) / "modelwright"), **settings)
            page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
