"""Time the way in from a Hub and the way out to a bucket: ours, and those that people use today.

    python -m tests.bench.inout [in|out [RUNS [MIB]]]

2 GiB, unless told, in 1 and in 200 files.  The servers share this machine's cores with the client.
`out` goes to the server of the settings (MODELWRIGHT_S3_ENDPOINT, ...; tests.bench.sink is one that
costs nothing), or to a Swift of its own.
Every run starts a new process and begins with nothing done; the order changes from round to round.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from minio.deleteobjects import DeleteObject

from tasks.core import paths, settings
from tasks.core.engine import manifest
from tasks.core.engine.manifest import Manifest
from tasks.core.s3 import connection
from tests.services import swift

ROOT = Path(__file__).resolve().parents[2]
SIZE = (int(sys.argv[3]) if len(sys.argv) > 3 else 2048) << 20
COUNTS = (1, 200)
FETCH = """
import sys
from pathlib import Path
from tasks.core.sections import Source
from tasks.core.sources import hub
source = Source(hub="org/model")
commit, files = hub.resolve(source)
hub.fetch(source, commit, files, Path(sys.argv[1]) / "out")
"""
SNAPSHOT = """
import sys
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
snapshot_download("org/model", local_dir=sys.argv[1])
"""
VERIFIED = (
    SNAPSHOT
    + """
import hashlib
from pathlib import Path
for path in Path(sys.argv[1]).glob("*.safetensors"):
    with path.open("rb") as file:
        sha = hashlib.sha256()
        while block := file.read(1 << 20):
            sha.update(block)
"""
)
Way = Callable[[Path], None]


class Taken(NamedTuple):
    """What a run took: seconds, and seconds of processor time in the client."""

    seconds: float
    processors: float


def fill(folder: Path, count: int) -> None:
    """Write SIZE random bytes in some files; equal blocks are no matter, nothing compresses."""
    folder.mkdir(parents=True)
    block = os.urandom(SIZE // max(COUNTS))
    for number in range(count):
        with (folder / f"model-{number:05}.safetensors").open("wb") as file:
            file.write(number.to_bytes(8, "little"))
            for _ in range(max(COUNTS) // count):
                file.write(block)


def run(command: list[str], **variables: str) -> None:
    """Run a command to its end, quietly."""
    # Debian's rclone refuses to start with a CA bundle.
    plain = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    environment = {**plain, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve a folder as org/model in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.services.hub", folder],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def rounds(
    ways: Mapping[str, Way], scratch: Path, runs: int, tidy: Callable[[], None] = lambda: None
) -> dict[str, list[Taken]]:
    """Return what every run of every way took; what one left is taken away before the next."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for turn in range(runs):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            tidy()
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            os.sync()
            start, busy = time.monotonic(), processors()
            ways[name](scratch)
            taken[name].append(Taken(time.monotonic() - start, processors() - busy))
    shutil.rmtree(scratch, ignore_errors=True)
    return taken


def processors() -> float:
    """Return the processor seconds of all clients that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(title: str, taken: Mapping[str, list[Taken]]) -> None:
    """Print one line a way: the median, all runs, and the processors' median."""
    print(f"\n{title}, load {os.getloadavg()[0]:.0f}", flush=True)
    for name, runs in taken.items():
        every = " ".join(f"{run.seconds:.2f}" for run in runs)
        median = statistics.median(run.seconds for run in runs)
        busy = statistics.median(run.processors for run in runs)
        print(
            f"  {name:28} {median:6.2f} s   ({every})   client's processors {busy:.2f} s",
            flush=True,
        )


def bench_in(folder: Path, runs: int) -> None:
    """Download; ours verifies every byte, snapshot_download none."""
    for count in COUNTS:
        model = folder / f"model-{count}"
        fill(model, count)
        with hub(model) as url:
            variables = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home")}

            def ours(scratch: Path, variables: Mapping[str, str] = variables) -> None:
                build = {"MODELWRIGHT_BUILD": str(scratch)}
                run([sys.executable, "-c", FETCH, str(scratch)], **variables, **build)

            def theirs(scratch: Path, variables: Mapping[str, str] = variables) -> None:
                run([sys.executable, "-c", SNAPSHOT, str(scratch)], **variables)

            def verified(scratch: Path, variables: Mapping[str, str] = variables) -> None:
                run([sys.executable, "-c", VERIFIED, str(scratch)], **variables)

            ways = {
                "modelwright": ours,
                "snapshot_download": theirs,
                "snapshot_download, hashed": verified,
            }
            show(f"in, {SIZE >> 20} MiB in {count} files", rounds(ways, folder / "scratch", runs))
        shutil.rmtree(model)


UPLOAD = """
import sys
from pathlib import Path
from tasks import upload
from tasks.core import recipe
from tasks.core.engine import stage
failed = stage.act("upload", upload, recipe.read(Path(sys.argv[1])))
sys.exit(failed and failed.message)
"""
AGAIN = """
import sys
from pathlib import Path
from tasks import upload
from tasks.core import recipe
from tasks.core.engine import stage
assert stage.is_fresh("upload", upload, recipe.read(Path(sys.argv[1])))
"""
MINIO = """
import os, sys
from pathlib import Path
from tasks.core.s3 import connection
client = connection.connect()
client.make_bucket(sys.argv[2])
for path in sorted(Path(sys.argv[1]).iterdir()):
    client.fput_object(sys.argv[2], f"m/{path.name}", str(path))
"""


def empty() -> None:
    """Take away the buckets of this benchmark."""
    client = connection.connect()
    for name in (one.name for one in client.list_buckets()):
        if name.startswith("bench-"):
            there = client.list_objects(name, recursive=True)
            doomed = [DeleteObject(str(one.object_name)) for one in there]
            assert not list(client.remove_objects(name, doomed))
            client.remove_bucket(name)


@contextmanager
def bucket_server(folder: Path) -> Iterator[settings.Settings]:
    """Give the settings with a server: the one that they name, or a Swift."""
    if settings.current().s3_endpoint:
        yield settings.current()
        return
    made = swift.start(folder / "swift")
    keys = {"ACCESS_KEY": swift.USER, "SECRET_KEY": swift.PASSWORD, "ENDPOINT": made.url}
    os.environ.update({f"MODELWRIGHT_S3_{name}": value for name, value in keys.items()})
    settings.current.cache_clear()
    try:
        yield settings.current()
    finally:
        made.stop()


def bench_out(folder: Path, runs: int) -> None:
    """Upload; the model's digests are known, as they are after its build."""
    os.environ["MODELWRIGHT_RECIPES"] = str(folder)
    os.environ["MODELWRIGHT_BUILD"] = str(folder / "build")
    os.environ.setdefault("TQDM_DISABLE", "1")
    with bucket_server(folder) as found:
        aws = {
            "AWS_ACCESS_KEY_ID": found.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": found.s3_secret_key,
            "AWS_REGION": "us-east-1",
            "RCLONE_CONFIG_S_TYPE": "s3",
            "RCLONE_CONFIG_S_PROVIDER": "Other",
            "RCLONE_CONFIG_S_ENV_AUTH": "true",
            "RCLONE_CONFIG_S_ENDPOINT": found.s3_endpoint,
            "RCLONE_CONFIG_S_REGION": "us-east-1",
        }
        for count in COUNTS:
            out(folder, runs, count, found.s3_endpoint, aws)


def out(folder: Path, runs: int, count: int, endpoint: str, aws: Mapping[str, str]) -> None:
    """Upload so many files in every way."""
    names = (f"bench-{count}-{number}" for number in itertools.count())
    model = paths.output("m", "base")
    fill(model, count)
    receipt = Manifest("m", "base", "", {}, manifest.describe(model), {})
    receipt = replace(receipt, key=manifest.key_of("base", {}))

    def ours(scratch: Path, receipt: Manifest = receipt) -> None:
        manifest.write(receipt, model)
        shutil.rmtree(paths.output("m", "upload"), ignore_errors=True)
        (folder / "m.yaml").write_text(f"base: {{path: x}}\nupload: {{bucket: {next(names)}}}\n")
        run([sys.executable, "-c", UPLOAD, str(folder / "m.yaml")])
        (model / manifest.NAME).unlink()

    def again(scratch: Path, receipt: Manifest = receipt) -> None:
        manifest.write(receipt, model)
        run([sys.executable, "-c", AGAIN, str(folder / "m.yaml")])

    def client(scratch: Path) -> None:
        run([sys.executable, "-c", MINIO, str(model), next(names)])

    def s5cmd(scratch: Path) -> None:
        bucket, at = next(names), ["s5cmd", "--endpoint-url", endpoint]
        run([*at, "mb", f"s3://{bucket}"], **aws)
        run([*at, "cp", f"{model}/", f"s3://{bucket}/m/"], **aws)

    def rclone(scratch: Path) -> None:
        run(["rclone", "--config", "", "copy", str(model), f"s:{next(names)}/m"], **aws)

    ways = {"s5cmd": s5cmd, "rclone": rclone, "minio client": client, "modelwright": ours}
    title = f"out, {SIZE >> 20} MiB in {count} files"
    show(title, rounds(ways, folder / "scratch", runs, empty))
    ours(folder)
    show("out again, nothing changed", rounds({"modelwright": again}, folder / "s", runs))
    shutil.rmtree(model)


def main() -> None:
    """Run what is asked for."""
    what = sys.argv[1] if len(sys.argv) > 1 else "in"
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as folder:
        {"in": bench_in, "out": bench_out}[what](Path(folder), runs)


if __name__ == "__main__":
    main()
