"""Two builds of a model side by side: what went in differently, and what came of it.

A build is told by one of its results: what that was made from is found by the digests in its
manifest, what was made from it likewise.  Manifests of earlier builds are in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import paths
from ..engine import cas, ledger, manifest
from ..engine.manifest import Manifest
from ..errors import LoadError

NOW = "now"
Build = dict[str, Manifest]
# Digests and counts that follow from others, and so tell nothing of their own.
SILENT = ("content", "digest")


def build(stages: Sequence[str], model: str, name: str) -> Build:
    """Return a build's manifests by stage, in the order of the stages.

    Args:
        name: `now` for what the build folder has, else the first digits of a result's key.

    Raises:
        LoadError: nothing was built, or no result or more than one has such a key.
    """
    if name == NOW:
        found = {stage: manifest.of(model, stage) for stage in stages}
        there = {stage: receipt for stage, receipt in found.items() if receipt}
        if not there:
            raise LoadError([f"{paths.build() / model}: nothing was built; `doit {model}` does"])
        return there
    known = results(model)
    start = _by_key(known, model, name)
    build, size = {start.stage: start}, 0
    while size < len(build):
        size = len(build)
        for receipt in known:
            if receipt.stage not in build and _belongs(receipt, build):
                build[receipt.stage] = receipt
    return {stage: build[stage] for stage in stages if stage in build}


def results(model: str) -> list[Manifest]:
    """Return the manifests of all results of a model that are still kept, the newest first."""
    keys = [str(run.get("key")) for run in ledger.lines() if run.get("model") == model]
    stored = (manifest.read(cas.result(key)) for key in dict.fromkeys(reversed(keys)))
    kept = [receipt for receipt in stored if receipt]
    there = (
        manifest.read(path) for path in sorted((paths.build() / model).glob("*/manifest.json"))
    )
    found = kept + [receipt for receipt in there if receipt and receipt not in kept]
    age = {key: at for at, key in enumerate(keys)}
    return sorted(found, key=lambda receipt: age.get(receipt.key, -1), reverse=True)


def _by_key(known: Sequence[Manifest], model: str, name: str) -> Manifest:
    digits = name.removeprefix("sha256:").lower()
    found = {r.key: r for r in known if digits and r.key.removeprefix("sha256:").startswith(digits)}
    if len(found) == 1:
        return next(iter(found.values()))
    what = f"{len(found)} results have keys that start" if found else "no kept result has a key"
    raise LoadError(
        [f"{model}: {what} with {name}; `doit compare {model}` lists them, `now` is the last build"]
    )


def _belongs(receipt: Manifest, build: Build) -> bool:
    """Return whether a result went into one of the build, or was made from nothing else."""
    if any(each.inputs.get(receipt.stage) == receipt.content for each in build.values()):
        return True
    before = [stage for stage in build if stage in receipt.inputs]
    return bool(before) and all(receipt.inputs[s] == build[s].content for s in before)


def values(build: Build) -> dict[str, Any]:
    """Return all that tells a build from others: the recipe's values first, then facts."""
    recipe: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for stage, receipt in build.items():
        told = receipt.inputs.get("recipe", {})
        recipe |= {name: value for name, value in told.items() if "sha256:" not in str(value)}
        plain = {k: v for k, v in receipt.inputs.items() if k != "recipe" and k not in build}
        facts |= {f"{stage}: {name}": value for name, value in plain.items()}
        made = {k: v for k, v in receipt.facts.items() if k not in SILENT}
        facts |= {f"{stage}: {name}": value for name, value in _flat(made)}
        facts[f"{stage}: result"] = receipt.content
    return {**dict(sorted(recipe.items())), **facts}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def differences(one: Build, other: Build) -> list[tuple[str, Any, Any]]:
    """Return what differs in the stages that both have; None is no value."""
    both = [stage for stage in one if stage in other]
    first, second = (values({stage: build[stage] for stage in both}) for build in (one, other))
    return [
        (name, first.get(name), second.get(name))
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def lone(one: Build, other: Build) -> list[tuple[str, Any, Any]]:
    """Return, as one difference, the stages that only one of two whole builds has."""
    first, second = (
        [stage for stage in build if stage not in against]
        for build, against in ((one, other), (other, one))
    )
    alone = ", ".join(first) or None, ", ".join(second) or None
    return [("only built here", *alone)] if any(alone) else []
