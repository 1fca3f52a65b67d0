"""Bring an image into a registry: every blob once and side by side, the manifest last; then look.

The order is the distribution spec's: blobs, then what refers to them, then the tag.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from .. import console
from ..errors import UserError
from ..model import modelfiles
from ..recipe import Recipe
from . import bases, blobupload, layers, layouts, oci, reference, stack
from .blobupload import Progress, Source
from .reference import Reference
from .registry import Registry

# Files on their way at a time, as Docker has it.
PARALLEL = 5


def push(there: Registry, name: Reference, image: Path, recipe: Recipe) -> None:
    """Send what the registry lacks, then the manifest under its tag.

    Args:
        image: the folder of the stage `image`.

    Raises:
        UserError: a blob cannot be read or is refused.
    """
    listed = stack.read(image)
    if not listed:
        raise UserError(f"{image}: no list of layers; run `doit image:{recipe.name}`")
    progress = Progress(threading.Event())
    with ExitStack() as opened:
        sources = {there.host: there}
        for layer in listed:
            host = _host(layer)
            if host and host not in sources:
                sources[host] = opened.enter_context(Registry(host))
        work = [_config_work(there, name, image, progress)]
        for layer in {layer.digest: layer for layer in listed}.values():
            work.append(_layer_work(there, name, image, layer, recipe, sources, progress))
        side_by_side(work, progress)
    console.clear()
    if progress.sent:
        console.say(f"   sent {console.size(progress.sent)} to {there.host}")
    there.put_manifest(name, _manifest(image)[1])


def verify(there: Registry, name: Reference) -> None:
    """Fetch the manifest back by its tag and look up every blob.

    Args:
        name: the tag, and the digest that it should have.

    Raises:
        UserError: the registry does not have what was pushed.
    """
    found, content = there.manifest(replace(name, digest=None))
    if found["digest"] != name.digest:
        raise UserError(
            f"{name}: the tag is another image, {found['digest']}; somebody else pushed at the "
            "same time: run doit again, or choose another tag"
        )

    def look(blob: oci.Descriptor) -> None:
        size = there.blob_size(name.repository, blob["digest"])
        if size not in (blob["size"], -1):
            state = "is missing" if size is None else f"has {size} bytes"
            raise UserError(f"{name}: {blob['digest']} {state} in the registry; run doit again")

    work = [functools.partial(look, blob) for blob in _blobs(content)]
    side_by_side(work, Progress(threading.Event()))


def _config_work(
    there: Registry, name: Reference, image: Path, progress: Progress
) -> Callable[[], None]:
    blob = json.loads(_manifest(image)[1])["config"]
    content = layouts.check(image, blob).read_bytes()
    return lambda: bring(there, name, blob, lambda start: iter([content[start:]]), progress)


def _layer_work(
    there: Registry,
    name: Reference,
    image: Path,
    layer: stack.Layer,
    recipe: Recipe,
    sources: dict[str, Registry],
    progress: Progress,
) -> Callable[[], None]:
    """Return what brings a layer over: a mount, a relay, or a stream from this machine."""
    blob = layer.descriptor
    host = _host(layer)
    repository = layer.origin.removeprefix(f"{host}/") if host else ""
    source = _source(image, layer, recipe, sources.get(host), repository)

    def work() -> None:
        if there.blob_size(name.repository, layer.digest) == layer.size:
            return
        same = host == there.host and repository != name.repository
        if same and blobupload.mount(there, name.repository, layer.digest, repository):
            return
        blobupload.send(there, name.repository, blob, source, progress)

    return work


def _source(
    image: Path, layer: stack.Layer, recipe: Recipe, host: Registry | None, repository: str
) -> Source:
    if layouts.holds(image, layer.digest):
        path = layouts.place(image, layer.digest)
        return lambda start: modelfiles.pieces(path, layer.size, start)
    if host:
        return lambda start: host.read_blob(repository, layer.digest, start)
    if layer.is_ours:
        return lambda start: layers.read(stack.parts(layer, recipe.name), start)
    return lambda start: bases.pieces(recipe, layer.descriptor, start)


def bring(
    there: Registry, name: Reference, blob: oci.Descriptor, source: Source, progress: Progress
) -> None:
    """Send a blob unless the registry has it."""
    if there.blob_size(name.repository, blob["digest"]) != blob["size"]:
        blobupload.send(there, name.repository, blob, source, progress)


def side_by_side(work: Iterable[Callable[[], None]], progress: Progress) -> None:
    """Do all of it in a few threads; the first error stops the rest.

    Ctrl-C waits for none of them: a registry that is down keeps them for minutes.  Hence threads
    that end with the process, which those of a pool do not.
    """
    left: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    for one in (*work, *[None] * PARALLEL):
        left.put(one)
    as_we = console.same_task()
    first, running = None, PARALLEL
    try:
        for _ in range(PARALLEL):
            threading.Thread(target=_work, args=(left, ended, progress, as_we), daemon=True).start()
        while running:
            with suppress(Empty):
                error = ended.get(timeout=0.2)
                first, running = first or error, running - 1
            console.status(f"sent {console.size(progress.sent)}")
    finally:
        progress.stop.set()
    if first:
        raise first


def _work(
    left: SimpleQueue[Callable[[], None] | None],
    ended: SimpleQueue[BaseException | None],
    progress: Progress,
    as_we: Callable[[], None],
) -> None:
    """Do in a thread what is left, until nothing is or all stop; tell how that ended."""
    as_we()
    fault = None
    try:
        for one in iter(left.get, None):
            if progress.stop.is_set():
                break
            one()
    except blobupload.Stopped:
        pass
    except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
        fault = error
        progress.stop.set()
    ended.put(fault)


def _manifest(image: Path) -> tuple[oci.Descriptor, bytes]:
    """Return the image manifest of a layout."""
    index: dict[str, Any] = json.loads((image / "index.json").read_bytes())
    (descriptor,) = index["manifests"]
    return descriptor, layouts.check(image, descriptor).read_bytes()


def _blobs(content: bytes) -> list[oci.Descriptor]:
    made = json.loads(content)
    return [made["config"], *made["layers"]]


def _host(layer: stack.Layer) -> str:
    """Return the registry that a layer of the base is in, if any."""
    is_name = layer.origin and not layer.origin.startswith((bases.LAYOUT, bases.ARCHIVE))
    return reference.parse(layer.origin).host if is_name else ""
