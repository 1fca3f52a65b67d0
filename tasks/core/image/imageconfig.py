"""The config of an image (image-spec: config.md): what runs, where, and on what layers."""

from __future__ import annotations

from ..sections import Image
from . import oci, stack, wheels

CREATED = "1970-01-01T00:00:00Z"
LABEL = "org.opencontainers.image"


def make(
    made: Image,
    title: str,
    base: oci.Image | None,
    entrypoint: list[str],
    own: list[stack.Layer],
) -> oci.Json:
    """Return the base's config with our layers and command.

    Args:
        made: what the recipe says of the image.
        title: the model's name.
        base: the image below, if any.
        entrypoint: the command; it also ends the base's default arguments.
        own: our layers.
    """
    below: oci.Json = base.config if base else {"architecture": "amd64", "os": "linux"}
    process = {name: value for name, value in (below.get("config") or {}).items() if name != "Cmd"}
    labels = {f"{LABEL}.title": title, **_origin(base), **made.labels}
    env = {line.partition("=")[0]: line for line in process.get("Env") or []}
    set_ = {**_wheels_path(own, env), **made.env}
    env.update({name: f"{name}={value}" for name, value in set_.items()})
    if env:
        process["Env"] = list(env.values())
    diff_ids = base.diff_ids if base else []
    history = [{"created": CREATED, "created_by": _told(layer)} for layer in own]
    return {
        **below,
        "created": CREATED,
        "config": {
            **process,
            "Entrypoint": entrypoint,
            "Labels": {**(process.get("Labels") or {}), **labels},
        },
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids, *(layer.digest for layer in own)]},
        "history": [*(below.get("history") or []), *history],
    }


def _wheels_path(own: list[stack.Layer], env: dict[str, str]) -> dict[str, str]:
    """Return the variable that makes Python see unpacked wheels, before what the base has in it."""
    if not any(layer.root == wheels.ROOT for layer in own):
        return {}
    before = env.get("PYTHONPATH", "").partition("=")[2]
    place = f"/{wheels.ROOT}/{wheels.FOLDER}"
    return {"PYTHONPATH": f"{place}:{before}" if before else place}


def _told(layer: stack.Layer) -> str:
    count = len(layer.files)
    return f"COPY {layer.files[0] if count == 1 else f'{count} files'} /{layer.root}"


def _origin(base: oci.Image | None) -> dict[str, str]:
    """Return the labels on the base: its digest, and its name where the layout has it."""
    if base is None:
        return {}
    name = (base.descriptor.get("annotations") or {}).get(f"{LABEL}.ref.name", "")
    named = {f"{LABEL}.base.name": name} if ":" in name else {}
    # An archive has no manifest, and so no digest that a registry knows.
    known = {f"{LABEL}.base.digest": base.descriptor["digest"]} if "size" in base.descriptor else {}
    return {**known, **named}
