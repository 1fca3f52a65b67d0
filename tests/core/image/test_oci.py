"""OCI layouts: what we write, and what we refuse of others'."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core.engine import digests
from tasks.core.errors import UserError
from tasks.core.image import layouts, oci

# The cache of digests lies in the project's build folder.
pytestmark = pytest.mark.usefixtures("project")

GZIP = f"{oci.LAYER}+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def put(layout: Path, content: bytes, media_type: str) -> dict[str, Any]:
    """Write a blob with nothing of the code under test and return its descriptor."""
    name = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (layout / "blobs/sha256" / name).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)}


def put_json(layout: Path, value: Any, media_type: str) -> dict[str, Any]:
    return put(layout, json.dumps(value, indent=2).encode(), media_type)


def put_image(layout: Path, *, docker: bool = False, arch: str = "amd64", layers: int = 2) -> Any:
    """Write a small runnable-looking image and return its manifest's descriptor."""
    tars = [f"{arch} layer {number}".encode() for number in range(layers)]
    config = {
        "architecture": arch,
        "os": "linux",
        "created": "2024-04-24T01:02:03Z",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["old"], "Cmd": ["-x"], "WorkingDir": "/w"},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars],
        },
        "history": [{"created_by": f"step {number}"} for number in range(layers)],
    }
    packed = [
        put(layout, gzip.compress(tar, mtime=0), DOCKER_LAYER if docker else GZIP) for tar in tars
    ]
    kind = DOCKER_MANIFEST if docker else oci.MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": put_json(layout, config, DOCKER_CONFIG if docker else oci.CONFIG),
        "layers": packed,
    }
    return put_json(layout, manifest, kind)


def put_index(layout: Path, *descriptors: Any) -> Path:
    (layout / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": list(descriptors)})
    )
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return layout


def put_layout(layout: Path, **options: Any) -> Path:
    """Write a layout that others could have made, with one image."""
    layout.mkdir(parents=True, exist_ok=True)
    return put_index(layout, put_image(layout, **options))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return put_layout(tmp_path / "base")


def test_a_blob_lies_under_its_digest(tmp_path: Path) -> None:
    descriptor = layouts.write_blob(tmp_path, [b"ab", memoryview(b"c")], oci.LAYER)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert descriptor == {"mediaType": oci.LAYER, "digest": f"sha256:{digest}", "size": 3}
    assert (tmp_path / "blobs/sha256" / digest).read_bytes() == b"abc"
    assert [path.name for path in (tmp_path / "blobs/sha256").iterdir()] == [digest]


def test_what_was_hashed_on_its_way_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = layouts.write_blob(tmp_path, [b"layer"], oci.LAYER)
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [layer["digest"]]}}
    descriptor = layouts.write_image(tmp_path, config, [layer])
    monkeypatch.setattr(digests, "read", lambda path: pytest.fail(f"{path} is read again"))
    assert layouts.verify(tmp_path).descriptor["digest"] == descriptor["digest"]


def test_an_image_is_read(layout: Path) -> None:
    image = layouts.verify(layout)
    assert image.config["config"]["WorkingDir"] == "/w"
    assert [layer["mediaType"] for layer in image.layers] == [GZIP, GZIP]
    assert image.diff_ids[0] == f"sha256:{hashlib.sha256(b'amd64 layer 0').hexdigest()}"


def test_the_types_of_docker_become_those_of_oci(tmp_path: Path) -> None:
    image = layouts.verify(put_layout(tmp_path, docker=True))
    assert image.descriptor["mediaType"] == oci.MANIFEST
    assert {layer["mediaType"] for layer in image.layers} == {GZIP}


@pytest.mark.parametrize("kind", [oci.INDEX, DOCKER_LIST])
def test_our_platform_is_found_in_a_nested_index(tmp_path: Path, kind: str) -> None:
    ours = {**put_image(tmp_path), "platform": {"os": "linux", "architecture": "amd64"}}
    other = put_image(tmp_path, arch="arm64")
    other["platform"] = {"os": "linux", "architecture": "arm64"}
    attestation = {**put_image(tmp_path, arch="unknown"), "platform": {"os": "unknown"}}
    nested = put_json(tmp_path, {"manifests": [other, ours, attestation]}, kind)
    put_index(tmp_path, nested)
    assert layouts.read(tmp_path).config["architecture"] == "amd64"


def test_an_only_image_is_taken_whatever_its_platform(tmp_path: Path) -> None:
    assert layouts.read(put_layout(tmp_path, arch="arm64")).config["architecture"] == "arm64"


def test_one_image_under_two_names_is_one_image(tmp_path: Path) -> None:
    one = put_image(tmp_path)
    put_index(tmp_path, one, {**one, "annotations": {"org.opencontainers.image.ref.name": "x"}})
    assert layouts.read(tmp_path).descriptor["digest"] == one["digest"]


def test_two_images_without_a_platform_are_refused(tmp_path: Path) -> None:
    put_index(tmp_path, put_image(tmp_path), put_image(tmp_path, layers=3))
    with pytest.raises(UserError, match="holds 2 images, 0 of them for linux/amd64"):
        layouts.read(tmp_path)


def lowest(layout: Path) -> Path:
    """Return the blob of one layer."""
    digest: str = layouts.read(layout).layers[0]["digest"]
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")


def edit_manifest(layout: Path, edit: Callable[[Any], object]) -> None:
    """Change the image manifest and have the index point at the new one."""
    index = json.loads((layout / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((layout / "blobs/sha256" / digest).read_text())
    edit(manifest)
    put_index(layout, put_json(layout, manifest, oci.MANIFEST))


def corrupt(layout: Path) -> None:
    path = lowest(layout)
    path.write_bytes(path.read_bytes()[:-1] + b"?")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "corrupted layer": (corrupt, "another digest"),
    "missing layer": (lambda at: lowest(at).unlink(), "the blob is missing"),
    "truncated layer": (lambda at: lowest(at).write_bytes(b"x"), "1 bytes, not"),
    "no index": (lambda at: (at / "index.json").unlink(), "no OCI layout there.*skopeo copy"),
    "no JSON": (lambda at: (at / "index.json").write_text("{"), "not a sound OCI layout"),
    "no object": (lambda at: (at / "index.json").write_text("[1]"), "not a sound OCI layout"),
    "no image": (put_index, "holds 0 images"),
    "no digest": (lambda at: put_index(at, {"mediaType": oci.MANIFEST}), "not a sound OCI layout"),
    "number as digest": (
        lambda at: put_index(at, {"mediaType": oci.MANIFEST, "digest": 1, "size": 1}),
        "not a sound OCI layout",
    ),
    "digest that is a path": (
        lambda at: edit_manifest(
            at, lambda manifest: manifest["layers"][0].update(digest="sha256:../../index.json")
        ),
        "is not a sha256 digest",
    ),
    "digest in capitals": (
        lambda at: edit_manifest(
            at, lambda manifest: manifest["layers"][0].update(digest="sha256:" + "A" * 64)
        ),
        "is not a sha256 digest",
    ),
    "digest with a line after it": (
        lambda at: edit_manifest(
            at, lambda manifest: manifest["layers"][0].update(digest=f"sha256:{'a' * 64}\n")
        ),
        "is not a sha256 digest",
    ),
    "layer too few": (
        lambda at: edit_manifest(at, lambda manifest: manifest["layers"].pop()),
        "differ on the layers",
    ),
    "layer of an unknown type": (
        lambda at: edit_manifest(at, lambda manifest: manifest["layers"][0].update(mediaType="x")),
        "not a layer's media type",
    ),
    "config of another size": (
        lambda at: edit_manifest(at, lambda manifest: manifest["config"].update(size=3)),
        "bytes, not 3",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_layout_is_refused(layout: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(layout)
    with pytest.raises(UserError, match=message):
        layouts.verify(layout)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.startswith("digest ")])
def test_no_digest_is_handed_on_unread(layout: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(layout)
    with pytest.raises(UserError, match=message):
        layouts.read(layout)


def test_a_config_that_lies_about_a_plain_layer_is_refused(tmp_path: Path) -> None:
    layer = layouts.write_blob(tmp_path, [b"layer"], oci.LAYER)
    other = f"sha256:{'0' * 64}"
    config = {"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [other]}}
    layouts.write_image(tmp_path, config, [layer])
    with pytest.raises(UserError, match="is not its layer's digest"):
        layouts.verify(tmp_path)


def test_a_blob_is_taken_over_as_a_link(layout: Path, tmp_path: Path) -> None:
    layouts.take(tmp_path / "new", layout, layouts.read(layout).layers[0])
    (taken,) = (tmp_path / "new/blobs/sha256").iterdir()
    assert taken.samefile(lowest(layout))
    assert taken.stat().st_nlink == 2


def test_where_links_are_refused_a_blob_is_copied(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", refuse)
    layouts.take(tmp_path / "new", layout, layouts.read(layout).layers[0])
    (taken,) = (tmp_path / "new/blobs/sha256").iterdir()
    assert taken.read_bytes() == lowest(layout).read_bytes()
    assert not taken.samefile(lowest(layout))


def test_a_blob_that_changes_while_it_is_taken_is_refused(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def meddle(source: Path, target: Path) -> None:
        link(source, target)
        source.write_bytes(b"?" * source.stat().st_size)

    monkeypatch.setattr("os.link", meddle)
    with pytest.raises(UserError, match="another digest"):
        layouts.take(tmp_path / "new", layout, layouts.read(layout).layers[0])


def test_a_linked_blob_does_not_become_a_link_to_a_link(layout: Path, tmp_path: Path) -> None:
    blob = lowest(layout)
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    layouts.take(tmp_path / "new", layout, layouts.read(layout).layers[0])
    (taken,) = (tmp_path / "new/blobs/sha256").iterdir()
    assert taken.is_file()
    assert not taken.is_symlink()


def test_a_corrupted_blob_is_not_taken_over(layout: Path, tmp_path: Path) -> None:
    layer = layouts.read(layout).layers[0]
    corrupt(layout)
    with pytest.raises(UserError, match="another digest"):
        layouts.take(tmp_path / "new", layout, layer)
    assert not list((tmp_path / "new/blobs/sha256").iterdir())
