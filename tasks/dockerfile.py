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

from . import adapter
from .core import paths, render
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.image import bases, layers
from .core.model import modelfiles
from .core.recipe import Recipe, present

VERSION = 1

TEMPLATES = ("Dockerfile.j2", "dockerignore.j2")
ADAPTER = "adapter"
# What an engine calls a base that is a file or folder here, before the model's name.
LOADED = "modelwright-base"
# What vLLM takes for --max-lora-rank.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# PEP 508 without blanks, markers and URLs.
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\[\],<>=!~*+-]*")
# `scratch`, an OCI layout, an archive of `docker save`, or host[:port]/repository[:tag][@digest].
BASE = re.compile(
    r"(oci|docker-archive):[^\x00-\x1f\x7f]+"
    r"|([A-Za-z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{present(recipe.image).base} + model -> Dockerfile",
        "file_dep": [paths.TEMPLATES / name for name in TEMPLATES],
        "targets": ["Dockerfile", "Dockerfile.dockerignore", ".dockerignore"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    keys = "base pip repository tag env labels build.args serve".split()
    part = recipe.slice(*(f"image.{key}" for key in keys))
    return {
        "model": recipe.name,
        **part,
        "image.base": base(recipe),
        "image.entrypoint": entrypoint(recipe),
        "left_out": left_out(recipe),
    }


def left_out(recipe: Recipe) -> list[str]:
    """Return what a Docker engine must not copy: the card that lies beside merged weights too."""
    return [*modelfiles.LEFT_OUT, *([modelfiles.CARD] if recipe.tuned else [])]


def base(recipe: Recipe) -> str:
    """Return what FROM names: for an engine the digest that is locked, if one is."""
    made = present(recipe.image)
    if bases.is_here(recipe):
        return f"{LOADED}/{recipe.name}:latest"
    found = bases.remote(recipe) if made.builder == "docker" and "@" not in made.base else None
    return str(found) if found and found.digest else made.base


def sources(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the stages whose files go into the image, each with its folder there."""
    if present(recipe.image).serve == "adapter" and adapter.wanted(recipe):
        return [("base", layers.ROOT), ("adapter", ADAPTER)]
    return [(recipe.weights, layers.ROOT)]


def entrypoint(recipe: Recipe) -> list[str]:
    """Return the command that serves the model: the recipe's own, or vLLM's OpenAI server."""
    made = present(recipe.image)
    if made.entrypoint is not None:
        return list(made.entrypoint)
    serve = ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", f"/{layers.ROOT}"]
    serve += ["--trust-remote-code"] * recipe.base.trust_remote_code
    if made.tool_parser:
        serve += ["--enable-auto-tool-choice", "--tool-call-parser", made.tool_parser]
    if made.serve == "adapter":
        serve += ["--enable-lora", "--lora-modules", f"{recipe.name}=/{ADAPTER}"]
        rank = _rank(recipe)
        serve += ["--max-lora-rank", str(rank)] if rank else []
    return serve


def _rank(recipe: Recipe) -> int | None:
    """Return the least rank that vLLM offers for the adapter; None where its rank is unknown."""
    rank = recipe.train.lora.r if recipe.train else _given_rank(recipe)
    if rank is None:
        return None
    return next((offered for offered in RANKS if offered >= rank), rank)


def _given_rank(recipe: Recipe) -> int | None:
    """Return the rank of an adapter that the recipe names, if its settings are here already."""
    own = recipe.adapter.path if recipe.adapter else None
    places = [recipe.beside(own)] if own else []
    for folder in [*places, paths.output(recipe.name, "adapter")]:
        try:
            return int(json.loads((folder / "adapter_config.json").read_bytes())["r"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


def options(recipe: Recipe) -> list[str]:
    """Return how a Docker engine builds this image: all but the Dockerfile and the context."""
    made, contexts = present(recipe.image), []
    args = [word for pair in made.build.args.items() for word in ("--build-arg", "=".join(pair))]
    network = ["--network", made.build.network] if made.build.network else []
    pull = ["--pull"] * (made.build.pull == "always" and not bases.is_here(recipe))
    if made.serve == "adapter":
        contexts = ["--build-context", f"adapter={paths.output(recipe.name, 'adapter')}"]
    tag = ["-t", f"{made.repository}:{made.tag}"]
    return ["docker", "build", *tag, *contexts, *args, *network, *pull]


def context(recipe: Recipe) -> Path:
    """Return the folder of the model; Docker does not follow links, and a local base is links."""
    stage = sources(recipe)[0][0]
    own = recipe.base.path if stage == "base" else None
    return recipe.beside(own) if own else paths.output(recipe.name, stage)


def lint(recipe: Recipe) -> None:
    """Judge what the recipe tells before anything is built.

    Raises:
        UserError: the image could not serve the model.
    """
    from .core.image import lints

    has_adapter = adapter.wanted(recipe)
    found = lints.of_recipe(recipe, entrypoint(recipe), has_adapter=has_adapter)
    lints.check(recipe, found)


def variables(recipe: Recipe) -> dict[str, Any]:
    """Return what the template of the Dockerfile is filled in with.

    Raises:
        UserError: a value would not stay in its place in a Dockerfile.
    """
    made = present(recipe.image)
    if not BASE.fullmatch(made.base):
        raise UserError(f"{recipe.file}: image.base: should be scratch, oci:FOLDER or an image")
    for package in made.pip:
        if not PACKAGE.fullmatch(package):
            raise UserError(
                f"{recipe.file}: image.pip: {package!r} is no package with an optional version; "
                "write it like tiktoken==0.6.0"
            )
    return {
        "model": recipe.name,
        "reference": f"{made.repository}:{made.tag}",
        "is_here": bases.is_here(recipe),
        "base": base(recipe),
        "pip": shlex.join(made.pip),
        "adapter": ADAPTER if made.serve == "adapter" else None,
        "args": list(made.build.args),
        "env": {name: _quoted(recipe, "env", value) for name, value in made.env.items()},
        "labels": {name: _quoted(recipe, "labels", value) for name, value in made.labels.items()},
        "entrypoint": json.dumps(entrypoint(recipe)),
    }


def _quoted(recipe: Recipe, key: str, value: str) -> str:
    """Return a value as one word of a Dockerfile in which nothing is filled in.

    Raises:
        UserError: it has a character that Dockerfiles cannot hold.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise UserError(f"{recipe.file}: image.{key}: a line break or control character; remove it")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def run(recipe: Recipe, folder: Path) -> Facts:
    lint(recipe)
    values = variables(recipe)
    dockerfile = render.text("Dockerfile.j2", **values)
    ignore = render.text("dockerignore.j2", model=recipe.name, patterns=left_out(recipe))
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    for name in (".dockerignore", "Dockerfile.dockerignore"):
        (folder / name).write_text(ignore, encoding="utf-8")
    return {"reference": values["reference"]}
