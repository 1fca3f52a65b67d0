"""What an image is made of, told beside it: a bill of materials, a statement of provenance.

Formats: CycloneDX 1.6; in-toto Statement v1 with SLSA provenance v1.  Both are artifacts that refer
to the image (image-spec 1.1: `subject`); where a registry has no referrers API, the tag that the
distribution spec names in its place lists them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from ..engine import digests, manifest
from ..engine.manifest import Manifest, canonical
from ..recipe import Recipe, present
from . import oci
from .reference import Reference
from .registry import Registry

KINDS = {
    "sbom": "application/vnd.cyclonedx+json",
    "provenance": "application/vnd.in-toto+json",
}
EMPTY: oci.Descriptor = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": digests.of_bytes(b"{}"),
    "size": 2,
}
BUILD_TYPE = "urn:modelwright:image:v1"


def attach(there: Registry, image: Reference, recipe: Recipe) -> list[str]:
    """Push what the recipe asks for beside an image; return the digests.

    Args:
        image: the image in the registry, with its digest.
    """
    subject, _ = there.manifest(replace(image, tag=None))
    made = []
    for kind in present(recipe.image).attest:
        content = canonical(sbom(recipe) if kind == "sbom" else provenance(recipe, image))
        descriptor = refer(there, image, subject, KINDS[kind], content)
        made.append(str(descriptor["digest"]))
    return made


def sbom(recipe: Recipe) -> dict[str, Any]:
    """Return the model's bill of materials: its sources and every file with its digest."""
    found = _manifest(recipe, recipe.weights)
    files = [
        {"type": "file", "name": file.path, "hashes": [_hash(file.digest)]}
        for file in (found.files if found else ())
    ]
    kinds = {"base": "machine-learning-model", "data": "data", "adapter": "machine-learning-model"}
    sources = [
        {"type": kinds[stage], "name": label, "version": version, "hashes": [_hash(content)]}
        for stage, label, version, content in _sources(recipe)
    ]
    model = {
        "type": "machine-learning-model",
        "name": recipe.name,
        "version": present(recipe.image).tag,
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": [*sources, *files],
    }


def provenance(recipe: Recipe, image: Reference) -> dict[str, Any]:
    """Return which recipe and which sources an image comes from."""
    assert image.digest is not None
    sources = [
        {"name": f"{stage}: {label}", "digest": _digest_set(content), "annotations": {"v": version}}
        for stage, label, version, content in _sources(recipe)
    ]
    own = {"name": recipe.file.name, "digest": _digest_set(digests.of_file(recipe.file))}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": image.repository, "digest": _digest_set(image.digest)}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"recipe": own},
                "resolvedDependencies": sources,
            },
            "runDetails": {"builder": {"id": "urn:modelwright"}},
        },
    }


def refer(
    there: Registry, image: Reference, subject: oci.Descriptor, kind: str, content: bytes
) -> oci.Descriptor:
    """Push an artifact that refers to an image; return its descriptor."""
    blob = {"mediaType": kind, "digest": digests.of_bytes(content), "size": len(content)}
    about = {name: subject[name] for name in ("mediaType", "digest", "size")}
    made = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": kind,
        "config": EMPTY,
        "layers": [blob],
        "subject": about,
    }
    raw = canonical(made)
    for one, bytes_ in ((EMPTY, b"{}"), (blob, content)):
        there.put_blob(image.repository, one, bytes_)
    descriptor = {"mediaType": oci.MANIFEST, "digest": digests.of_bytes(raw), "size": len(raw)}
    name = replace(image, tag=None, digest=str(descriptor["digest"]))
    if not there.put_manifest(name, raw).headers.get("OCI-Subject"):
        _list(there, image, {**descriptor, "artifactType": kind})
    return descriptor


def _list(there: Registry, image: Reference, descriptor: oci.Descriptor) -> None:
    """Add an artifact to the index that stands in for the referrers API, in its kind's place."""
    assert image.digest is not None
    name = replace(image, tag=image.digest.replace(":", "-"), digest=None)
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": []}
    if there.digest(name):
        index = json.loads(there.manifest(name)[1])
    others = [
        one for one in index["manifests"] if one.get("artifactType") != descriptor["artifactType"]
    ]
    raw = canonical({**index, "manifests": [*others, descriptor]})
    there.put_manifest(name, raw, oci.INDEX)


def _sources(recipe: Recipe) -> list[tuple[str, str, str, str]]:
    """Return stage, label, version and digest of what the model is made from."""
    found = []
    for stage, source in (
        ("base", recipe.base),
        ("data", recipe.data),
        ("adapter", recipe.adapter),
    ):
        made = _manifest(recipe, stage) if source else None
        if source and made:
            version = str(made.facts.get("revision") or "local")
            found.append((stage, source.label, version, made.content))
    return found


def _manifest(recipe: Recipe, stage: str) -> Manifest | None:
    return manifest.of(recipe.name, stage)


def _hash(digest: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _digest_set(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}
