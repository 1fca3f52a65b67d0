"""Time the way from a model's folder to a registry: ours, and those that people use today.

    python -m tests.bench.images [GIB [RUNS [PEER ...]]]

Every run builds from scratch and pushes to an empty docker-registry on this machine; the registry
and all tools share its cores.  The weights are random, as bf16 weights nearly are to gzip.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.services import docker, registry

GIB = 1 << 30
SHARD = GIB // 2
ROOT = Path(__file__).resolve().parents[2]
RECIPE = "base: {path: model}\nimage: {base: scratch, layout: false, repository: m, tag: v1}\n"


class Bench:
    """A model, a registry and an engine in a folder of their own."""

    def __init__(self, folder: Path, gib: int) -> None:
        self.folder = folder
        self.model = folder / "recipes/m/model"
        self.model.mkdir(parents=True)
        (folder / "recipes/m.yaml").write_text(RECIPE)
        shards = gib * GIB // SHARD
        for number in range(1, shards + 1):
            self.fill(self.model / f"model-{number:05}-of-{shards:05}.safetensors")
        (self.model / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
        (self.model / "Dockerfile").write_text("FROM scratch\nCOPY . /data\n")
        (self.model / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
        self.registry = registry.start(folder / "registry")
        self.engine: docker.Engine | None = None

    @staticmethod
    def fill(path: Path) -> None:
        """Write a shard that the tool accepts as one: a header and noise."""
        piece = os.urandom(64 << 20)
        name = path.stem.encode()
        text = b'{"%s":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (name, SHARD, SHARD)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _ in range(SHARD // len(piece)):
                file.write(piece)

    def shell(self, script: str, **environ: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", script],
            env={**os.environ, "H": self.registry.host, "M": str(self.model),
                 "W": str(self.folder / "work"), **environ},
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])

    def ours(self, task: str = "push:m") -> None:
        self.shell(
            f"{sys.executable} -m doit {task}",
            MODELWRIGHT_RECIPES=str(self.folder / "recipes"),
            MODELWRIGHT_BUILD=str(self.folder / "build"),
            MODELWRIGHT_STORE=str(self.folder / "store"),
            MODELWRIGHT_REGISTRY=self.registry.host,
        )

    def curl(self) -> None:
        """The same bytes, one file after the other, each hashed beforehand as the protocol asks."""
        self.shell(
            'for f in "$M"/*.safetensors; do d=$(sha256sum "$f" | cut -d" " -f1);'
            ' l=$(curl -sfi -X POST "http://$H/v2/m/blobs/uploads/" | tr -d "\\r"'
            " | sed -n 's/^Location: //p');"
            ' curl -sf -T "$f" -H "Content-Type: application/octet-stream" -X PUT'
            ' "$l&digest=sha256:$d"; done'
        )

    def dockerd(self) -> None:
        if self.engine is None:
            self.engine = docker.start(self.folder / "docker")
        self.shell(
            'docker build -q --no-cache -t "$H/m:v1" "$M"; docker push -q "$H/m:v1"',
            DOCKER_HOST=self.engine.host, DOCKER_BUILDKIT="0",
        )  # fmt: skip
        self.engine.docker("system", "prune", "-af")

    def buildah(self) -> None:
        self.shell(
            'S="--root $W/b --runroot $W/r --storage-driver vfs";'
            ' buildah $S bud -q --isolation chroot --no-cache -t m "$M";'
            ' buildah $S push -q --tls-verify=false m "docker://$H/m:v1"'
        )

    def umoci(self) -> None:
        self.shell(
            'mkdir -p "$W"; umoci init --layout "$W/u"; umoci new --image "$W/u:v1";'
            ' umoci insert --rootless --image "$W/u:v1" "$M" /data;'
            ' skopeo copy -q --dest-tls-verify=false "oci:$W/u:v1" "docker://$H/m:v1"'
        )

    def clean(self) -> None:
        self.registry.empty()
        for name in ("build", "work", "store"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        self.registry.server.stop()
        if self.engine:
            self.engine.stop()


def measure(work: Callable[[], None]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def main() -> None:
    gib = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    peers = sys.argv[3:] or ["curl", "ours", "umoci", "buildah", "dockerd"]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(Path(folder), gib)
        times: dict[str, list[float]] = {peer: [] for peer in peers}
        try:
            for _ in range(runs):
                for peer in peers:
                    if peer == "ours":
                        bench.ours("base:m")  # the model is there, as it is for the others
                    times[peer].append(measure(getattr(bench, peer)))
                    bench.clean()
                    load = os.getloadavg()[0]
                    print(f"{peer:8} {times[peer][-1]:7.2f} s, load {load:.1f}", flush=True)
        finally:
            bench.close()
    for peer, found in times.items():
        print(f"{gib} GiB  {peer:8} median {statistics.median(found):7.2f} s of {len(found)}")


if __name__ == "__main__":
    main()
