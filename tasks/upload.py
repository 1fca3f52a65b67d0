"""Upload the model to an S3 bucket and verify it there.

What goes in: the model's finished files and its card; never .git, caches or checkpoints.
What comes out: objects `<prefix>/<model>/<file>`, each with its own sha256 in its metadata, and
`objects.json`, which says what is in the bucket.  An object that is there with the same sha256 is
not sent again; one that was deleted or replaced there is put back when the stage is named.
`doit upload:MODEL --verify=full` reads every object back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from . import card
from .core import console, paths, settings
from .core.engine import manifest, publish
from .core.engine.journal import Journal
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import modelfiles
from .core.recipe import Recipe, present
from .core.s3 import objects

VERSION = 1
RESUMES = True
# What is in a bucket is asked for there, never taken from a store.
STORED = False

JOURNAL = "parts.jsonl"
SAMPLE = 8
VERIFY = {
    "name": "verify",
    "long": "verify",
    "default": "metadata",
    "choices": [
        ("metadata", "compare sizes and the sha256 in the objects' metadata"),
        ("full", "read every object back and hash it"),
    ],
    "help": "how the bucket is verified",
}


def wanted(recipe: Recipe) -> bool:
    return recipe.upload is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"model -> s3://{present(recipe.upload).bucket}/{root(recipe)}",
        "file_dep": [
            paths.manifest(recipe.name, stage)
            for stage in [recipe.weights, *["card"] * card.wanted(recipe), *recipe.gates]
        ],
        "targets": [objects.NAME],
        "params": [VERIFY],
        "uptodate": [(is_unasked, [])],
        "actions": [(verify_fully, [recipe])],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {
        **recipe.slice("upload"),
        "model": recipe.name,
        "left_out": list(modelfiles.LEFT_OUT),
    }


def is_unasked(task: Any) -> bool:
    """Return whether nobody asked to read the objects back; doit gives the task."""
    return (task.options or {}).get("verify") != "full"


def lacks(recipe: Recipe) -> str:
    """Return the setting that says where objects go, if it is not set."""
    return "" if settings.current().s3_endpoint else "MODELWRIGHT_S3_ENDPOINT"


def check(recipe: Recipe) -> None:
    """Refuse an address or keys that are none, before a model is made for them."""
    from .core.s3 import connection

    connection.connect()


def root(recipe: Recipe) -> str:
    """Return what the names of all objects of the model begin with."""
    return f"{present(recipe.upload).prefix}/{recipe.name}/".lstrip("/")


def drifted(recipe: Recipe) -> bool:
    """Return whether objects in the bucket were deleted or replaced since; one listing tells."""
    from .core.s3.buckets import Bucket

    asked, told = present(recipe.upload), objects.read(paths.output(recipe.name, "upload"))
    try:
        there = Bucket(asked.bucket).listing(root(recipe))
    except UserError:
        return True  # the upload itself says what is wrong
    extra = there.keys() - told["objects"].keys()
    same = len(objects.unchanged(told, there)) == len(told["objects"])
    return not same or bool(asked.prune and extra)


def undo(recipe: Recipe, receipt: manifest.Manifest | None) -> list[str]:
    """Remove the objects that are still as they were sent; say how many went and stay."""
    from .core.s3 import unfinished

    scratch = paths.output(recipe.name, "upload").parent.glob(f".upload-*/{JOURNAL}")
    lines = unfinished.take_away(Journal(recipe.name, "upload"), list(scratch))
    publish.sweep(recipe.name, "upload")
    return [*lines, *(_undo(recipe, receipt) if receipt else [])]


def _undo(recipe: Recipe, receipt: manifest.Manifest) -> list[str]:
    """Remove what the last run that was finished has sent; return a line on what went and stays."""
    from .core.s3.buckets import Bucket

    folder = paths.output(recipe.name, "upload")
    told = objects.read(folder)
    if server := objects.elsewhere(told):
        raise UserError(
            f"the objects are at {server}; set MODELWRIGHT_S3_ENDPOINT to that and unship, or, if "
            f"that server is no more, delete {folder}"
        )
    bucket = Bucket(told["bucket"])
    there = bucket.listing(receipt.facts["prefix"])
    ours = objects.unchanged(told, there)
    bucket.remove(ours)
    stay = len(there.keys() & told["objects"].keys()) - len(ours)
    left = [f"{stay} objects stay: they were replaced since"] if stay else []
    return [f"{len(ours)} objects removed from {bucket.name}", *left] if ours else left


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core.s3 import unfinished
    from .core.s3.buckets import Bucket
    from .core.s3.plan import Parts
    from .core.s3.uploading import Sender, by_name

    bucket = Bucket(present(recipe.upload).bucket)
    files = by_name(outgoing(recipe))
    there = bucket.listing(root(recipe), make=True)
    alike = [
        name for name, file in files.items() if name in there and there[name].size == file.size
    ]
    known = bucket.digests(alike)
    to_send = [file for name, file in files.items() if known.get(name) != file.digest]
    unfinished.note(Journal(recipe.name, "upload"), bucket.name, root(recipe), files)
    sent = Sender(bucket, Parts(folder / JOURNAL)).send(to_send)
    _tidy(recipe, bucket, sorted(there.keys() - files.keys()))
    there = bucket.listing(root(recipe))
    _verify(bucket, files, there, sent)
    objects.write(folder, bucket.name, files, there)
    (folder / JOURNAL).unlink(missing_ok=True)
    return {"bucket": bucket.name, "prefix": root(recipe), "objects": len(files)}


def _tidy(recipe: Recipe, bucket: Any, extra: list[str]) -> None:
    """Remove what the model no longer has, if the recipe says so, and uploads long given up."""
    if extra and present(recipe.upload).prune:
        bucket.remove(extra)
    elif extra:
        console.say(
            f"   {len(extra)} objects in the bucket are not in the model; "
            "`prune: true` removes them"
        )
    if aborted := bucket.abort_unfinished(root(recipe)):
        console.say(f"   {aborted} uploads of long ago, never finished, are taken away")


def outgoing(recipe: Recipe) -> list[Any]:
    """Return the files to send, with the digests that the model's manifest has.

    Raises:
        UserError: there is no model yet, or it has a file that cannot be sent.
    """
    from .core.s3.plan import Local

    found = []
    for stage in [recipe.weights, *["card"] * card.wanted(recipe)]:
        folder = paths.output(recipe.name, stage)
        receipt = manifest.of(recipe.name, stage)
        known = {file.path: file for file in receipt.files} if receipt else {}
        found += [
            Local(f"{root(recipe)}{name}", folder / name, known[name].size, known[name].digest)
            for name in modelfiles.outgoing(folder)
        ]
    return found


def verify_fully(recipe: Recipe, verify: str) -> TaskFailed | None:
    """Read every object back if that was asked for; the second action of the task."""
    if verify != "full":
        return None
    from .core.s3.buckets import Bucket

    try:
        bucket, files = Bucket(present(recipe.upload).bucket), outgoing(recipe)
        wrong = [file.name for file in files if bucket.read(file.name) != file.digest]
    except UserError as error:
        return TaskFailed(str(error))
    if wrong:
        return TaskFailed(
            f"{', '.join(wrong)}: the bucket holds other bytes; delete them there and run again"
        )
    console.say(f"   read back: {len(files)} objects, all as they should be")
    return None


def _verify(bucket: Any, files: Any, there: Any, sent: dict[str, str]) -> None:
    """Compare what the bucket lists with what was sent: names, sizes, ETags, metadata.

    An ETag that the server gave to our own request stands for that request's bytes and metadata, so
    the metadata is asked for where it differs, and of some to see that the server keeps it at all.
    """
    wrong = [name for name, f in files.items() if name not in there or there[name].size != f.size]
    doubtful = [name for name, etag in sent.items() if name in there and there[name].etag != etag]
    told = bucket.digests(sorted({*doubtful, *list(sent)[:SAMPLE]} - set(wrong)))
    wrong += [name for name, digest in told.items() if digest != files[name].digest]
    if wrong:
        raise UserError(
            f"{bucket.name}: {', '.join(wrong)}: not there as sent; does someone else write there?"
        )
