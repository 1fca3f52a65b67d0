"""A stand-in for vLLM's image: a small Linux whose programs tell what an image holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

DOCKER = "application/vnd.docker"


def rootfs(busybox: Path) -> bytes:
    """Return a tar of a root folder in which `python3 -m ...` lists every file under /data."""
    programs = "sh sha256sum find sort cat ls echo".split()
    script = b"#!/bin/sh\nfind /data -type f -exec sha256sum {} \\; | sort -k 2\n"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for folder in ("bin", "tmp", "usr", "usr/bin"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, content in (("bin/busybox", busybox.read_bytes()), ("usr/bin/python3", script)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
        for name in programs:
            info = tarfile.TarInfo(f"bin/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(info)
    return stream.getvalue()


def image(layer: bytes) -> tuple[bytes, bytes, bytes]:
    """Return manifest, config and gzip layer of an image in Docker's own types."""
    packed = gzip.compress(layer, 1, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/bin:/bin", "VLLM=stand-in"],
                "Cmd": ["sh"],
                "Labels": {"of": "base"},
            },
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created_by": "a test"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
            "config": {
                "mediaType": f"{DOCKER}.container.image.v1+json",
                "digest": digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": f"{DOCKER}.image.rootfs.diff.tar.gzip",
                    "digest": digest(packed),
                    "size": len(packed),
                }
            ],
        }
    ).encode()
    return manifest, config, packed


def put(host: str, repository: str, tag: str, content: tuple[bytes, bytes, bytes]) -> str:
    """Push an image with nothing but HTTP requests; return its digest."""
    import httpx

    manifest, *blobs = content
    with httpx.Client(base_url=f"http://{host}/v2/{repository}/") as client:
        for blob in blobs:
            place = client.post("blobs/uploads/").headers["Location"]
            question = {"digest": digest(blob)}
            url = httpx.URL(place).copy_merge_params(question)
            client.put(url, content=blob).raise_for_status()
        kind = {"Content-Type": json.loads(manifest)["mediaType"]}
        client.put(f"manifests/{tag}", content=manifest, headers=kind).raise_for_status()
    return digest(manifest)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
