"""Files into a bucket: in parts, side by side, resumed.

Of the `minio` client we use the calls for single parts, because its own `fput_object` begins a
broken upload anew and sends one file at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .. import console
from ..engine import digests
from ..errors import UserError
from .buckets import META, Bucket
from .client import CONTENT, pieces
from .connection import WORKERS, explained
from .plan import Local, Parts, Plan, part_size


class Sender:
    """Sends files to a bucket."""

    def __init__(self, bucket: Bucket, journal: Parts) -> None:
        self.bucket, self.name, self.client = bucket, bucket.name, bucket.client
        self.journal = journal
        self.stopped = threading.Event()
        self.own = threading.local()
        self.sent = self.total = 0

    def send(self, files: Sequence[Local]) -> dict[str, str]:
        """Send files, several at once and each in several parts; finished parts stay finished.

        Returns the ETag that the server gave to each.

        Raises:
            UserError: the server refuses, or a file changed while it was read.
        """
        with explained(self.name):
            pool = ThreadPoolExecutor(WORKERS, initializer=console.same_task())
            try:
                plans = list(pool.map(self.plan, files))
                self.total = sum(file.size for file in files)
                jobs = [
                    pool.submit(self._part, plan, number)
                    for plan in sorted(plans, key=lambda plan: -plan.file.size)
                    for number in plan.missing or [0]
                ]
                for job in jobs:
                    job.result()
            finally:
                self.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                console.clear()
        return {plan.file.name: plan.etag for plan in plans}

    def plan(self, file: Local) -> Plan:
        """Decide on parts; find what an interrupted run left."""
        from minio.error import S3Error

        plan = Plan(file, digests.state_of(file.path), part_size(file.size))
        if file.size <= plan.part:
            return plan
        known = self.journal.uploads.get((file.name, file.digest, plan.part))
        if known:
            try:
                parts = self.bucket.parts(file.name, known)
                there = {part.part_number: part.etag for part in parts}
                sent = self.journal.parts.get(known, {})
                plan.upload = known
                plan.etags = {n: etag for n, etag in sent.items() if there.get(n) == etag}
                return plan
            except S3Error as error:
                if error.code != "NoSuchUpload":
                    raise
        plan.upload = self.client._create_multipart_upload(self.name, file.name, _headers(file))
        self.journal.note(
            object=file.name, digest=file.digest, part_size=plan.part, upload=plan.upload
        )
        return plan

    def _part(self, plan: Plan, number: int) -> None:
        """Send one part; whoever sends the last one closes the file."""
        if self.stopped.is_set():
            return
        file = plan.file
        if number:
            length = plan.length(number)
            body = pieces(self._read(file.path, (number - 1) * plan.part, length))
            if not plan.upload:
                self._check(plan)
                signed = {CONTENT: file.digest.removeprefix("sha256:")}
                done = self.client._put_object(
                    self.name, file.name, body, {**_headers(file), **signed}
                )
                plan.etag = done.etag or ""
            else:
                etag = self.client._upload_part(
                    self.name, file.name, body, None, plan.upload, number
                )
                self.journal.note(upload=plan.upload, part=number, etag=etag)
                plan.etags[number] = etag
            self._show(length)
        with self.journal.lock:
            last = plan.upload and not plan.missing
            upload, plan.upload = plan.upload, "" if last else plan.upload
        if last:
            self._complete(plan, upload)

    def _complete(self, plan: Plan, upload: str) -> None:
        from minio.datatypes import Part

        self._check(plan)
        parts = [Part(number, etag) for number, etag in sorted(plan.etags.items())]
        done = self.client._complete_multipart_upload(self.name, plan.file.name, upload, parts)
        plan.etag = (done.etag or "").strip('"')

    def _read(self, path: Path, start: int, length: int) -> Any:
        """Return a piece of a file; a file cut off meanwhile is an error, never a short part."""
        # Each thread reads into the same memory again: new memory costs more than the reading.  The
        # largest files come first, so that what fits those fits the rest.
        if len(room := getattr(self.own, "room", b"")) < length:
            room = self.own.room = bytearray(length)
        view, done = memoryview(room)[:length], 0
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            while done < length and (count := file.readinto(view[done:])):
                done += count
        if done < length:
            raise UserError(f"{path}: ends too early; run it again when it is at rest")
        return view

    def _check(self, plan: Plan) -> None:
        if digests.state_of(plan.file.path) != plan.state:
            raise UserError(f"{plan.file.path}: changed while it was sent; run it again at rest")

    def _show(self, count: int) -> None:
        self.sent += count
        console.status(f"{console.size(self.sent)} of {console.size(self.total)} sent")


def _headers(file: Local) -> dict[str, Any]:
    return {META: file.digest.removeprefix("sha256:"), "Content-Type": "application/octet-stream"}


def by_name(files: Sequence[Local]) -> Mapping[str, Local]:
    """Return files by the names of their objects."""
    return {file.name: file for file in files}
