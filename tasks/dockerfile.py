"""Render the Dockerfile and .dockerignore.

What goes in: the recipe.  No weights are needed.  BuildKit reads Dockerfile.dockerignore beside the
Dockerfile, so a build whose context is the model's folder needs no file of ours in that folder:
`docker build -f build/<model>/dockerfile/Dockerfile build/<model>/merge`.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from .core import modelfiles, paths, render
from .core.errors import UserError
from .core.recipe import Recipe
from .core.sections import Image
from .core.stage import Facts, TaskDict

VERSION = 1

TEMPLATES = ("Dockerfile.j2", "dockerignore.j2")
LAYOUT = "oci:"
# PEP 508 without blanks, markers and URLs.
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\[\],<>=!~*+-]*")
# `scratch`, an OCI layout, or host[:port]/repository[:tag][@digest].
BASE = re.compile(
    r"oci:[^\x00-\x1f\x7f]+"
    r"|([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{image(recipe).base} + model -> Dockerfile",
        "file_dep": [paths.TEMPLATES / name for name in TEMPLATES],
        "targets": ["Dockerfile", "Dockerfile.dockerignore", ".dockerignore"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    part = recipe.slice("image.base", "image.pip", "image.repository", "image.tag")
    return {
        "model": recipe.name,
        **part,
        "image.entrypoint": entrypoint(recipe),
        "left_out": list(modelfiles.LEFT_OUT),
    }


def image(recipe: Recipe) -> Image:
    """Return the recipe's image part; only recipes that have one get here."""
    assert recipe.image is not None
    return recipe.image


def entrypoint(recipe: Recipe) -> list[str]:
    """Return the command that serves the model: the recipe's own, or vLLM's OpenAI server."""
    own = image(recipe).entrypoint
    if own is not None:
        return list(own)
    serve = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "/data"]
    return serve + ["--trust-remote-code"] * recipe.base.trust_remote_code


def layout(recipe: Recipe) -> Path | None:
    """Return the folder of a base that is an OCI layout."""
    base = image(recipe).base
    return recipe.beside(base.removeprefix(LAYOUT)) if base.startswith(LAYOUT) else None


def command(recipe: Recipe) -> list[str]:
    """Return how a Docker engine builds this image."""
    made, base = image(recipe), layout(recipe)
    # Docker does not follow links, and a local base is links to the user's files.
    own = None if recipe.tuned or recipe.base.path is None else recipe.beside(recipe.base.path)
    file = paths.output(recipe.name, "dockerfile") / "Dockerfile"
    context = [] if base is None else ["--build-context", f"base=oci-layout://{base}"]
    tag = ["-t", f"{made.repository}:{made.tag}"]
    folder = own or paths.output(recipe.name, recipe.weights)
    return ["docker", "build", *tag, *context, "-f", str(file), str(folder)]


def variables(recipe: Recipe) -> dict[str, Any]:
    """Return what the template of the Dockerfile is filled in with.

    Raises:
        UserError: a value would not stay in its place in a Dockerfile.
    """
    made = image(recipe)
    if not BASE.fullmatch(made.base):
        raise UserError(f"{recipe.file}: image.base: should be scratch, oci:FOLDER or an image")
    for package in made.pip:
        if not PACKAGE.fullmatch(package):
            raise UserError(
                f"{recipe.file}: image.pip: {package!r} is no package with an optional version; "
                "write it like tiktoken==0.6.0"
            )
    is_layout = made.base.startswith(LAYOUT)
    return {
        "model": recipe.name,
        "reference": f"{made.repository}:{made.tag}",
        "layout": made.base.removeprefix(LAYOUT) if is_layout else None,
        "base": "base" if is_layout else made.base,
        "pip": shlex.join(made.pip),
        "entrypoint": json.dumps(entrypoint(recipe)),
    }


def run(recipe: Recipe, folder: Path) -> Facts:
    values = variables(recipe)
    dockerfile = render.text("Dockerfile.j2", **values)
    ignore = render.text("dockerignore.j2", model=recipe.name, patterns=modelfiles.LEFT_OUT)
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    for name in (".dockerignore", "Dockerfile.dockerignore"):
        (folder / name).write_text(ignore, encoding="utf-8")
    return {"reference": values["reference"]}
