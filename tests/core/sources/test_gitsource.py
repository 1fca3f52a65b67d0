"""Sources in Git, with a real Git, a real Git LFS, and a server for both."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import base
from tasks.core import paths
from tasks.core.engine import digests
from tasks.core.errors import LoadError
from tasks.core.recipe import Recipe
from tasks.core.sections import Base
from tasks.core.sources import downloads, gitsource
from tests.conftest import Project, doit
from tests.core.sources.test_hub import build, content, lock, model
from tests.services import git

pytestmark = pytest.mark.needs("git", "git-lfs")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own Git settings out."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "served" / "m"
    files = model()
    del files[".gitattributes"]
    git.repository(folder, files)
    return folder


@pytest.fixture
def server(origin: Path) -> Iterator[git.Server]:
    with git.running(origin.parent) as served:
        yield served


def recipe(project: Project, url: str, more: str = "") -> Recipe:
    return project.recipe("m", f"base: {{git: '{url}'{more}}}\n")


def check_whole(origin: Path) -> None:
    made = content(paths.output("m", "base"))
    assert sorted(made) == ["config.json", "model.safetensors", "sub/notes.txt", "tokenizer.json"]
    for name, value in made.items():
        assert (origin / name).read_bytes() == value


def test_a_repository_over_http_comes_in_at_its_commit(
    project: Project, origin: Path, server: git.Server
) -> None:
    wanted = recipe(project, f"{server.url}/m")
    assert build(wanted) == ""
    check_whole(origin)
    assert lock(wanted)["commit"] == git.git(origin, "rev-parse", "HEAD")


def test_what_is_wrong_with_a_model_is_told_of_the_repository_s_file(
    project: Project, origin: Path
) -> None:
    git.repository(origin, {"model.safetensors": b"short"})
    said = build(recipe(project, str(origin)))
    assert said.startswith(f"{origin}/model.safetensors: byte 0: ")


def test_a_repository_in_a_folder_comes_in(project: Project, origin: Path) -> None:
    for url in (str(origin), f"file://{origin}"):
        assert build(recipe(project, url)) == ""
        check_whole(origin)


def test_the_weights_are_on_disk_once_and_the_clone_is_gone(
    project: Project, origin: Path, server: git.Server
) -> None:
    assert build(recipe(project, f"{server.url}/m")) == ""
    big = [p for p in project.build.rglob("*") if not p.is_symlink() and p.stat().st_size > 30_000]
    assert [p.parent.name for p in big if p.parent.name != ".digests"] == [".downloads"]
    assert not list(project.build.rglob(".git"))


def test_an_object_that_git_lfs_verified_is_not_read_again(
    project: Project, origin: Path, server: git.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = digests.read

    def small(path: Path) -> str:
        assert path.stat().st_size < 30_000
        return plain(path)

    monkeypatch.setattr(digests, "read", small)
    assert build(recipe(project, f"{server.url}/m")) == ""


def test_a_moved_branch_waits_for_update(project: Project, origin: Path) -> None:
    wanted = recipe(project, str(origin))
    assert build(wanted) == ""
    first = lock(wanted)["commit"]
    second = git.repository(origin, {"new.txt": b"new"})
    assert build(wanted) == ""
    assert lock(wanted)["commit"] == first
    base.update(wanted)
    assert build(wanted) == ""
    assert lock(wanted)["commit"] == second
    assert "new.txt" in content(paths.output("m", "base"))


@pytest.mark.parametrize("revision", ["v1", "annotated", "side", "commit"])
def test_tags_branches_and_commits_are_found(
    project: Project, origin: Path, server: git.Server, revision: str
) -> None:
    commit = git.git(origin, "rev-parse", "HEAD")
    git.git(origin, "tag", "v1")
    git.git(origin, "tag", "--annotate", "--message=x", "annotated")
    git.git(origin, "branch", "side")
    git.repository(origin, {"config.json": b"later"})
    named = commit if revision == "commit" else revision
    assert gitsource.resolve(Base(git=f"{server.url}/m", revision=named)) == commit
    assert build(recipe(project, f"{server.url}/m", f", revision: {named}")) == ""
    assert content(paths.output("m", "base"))["config.json"] != b"later"


def test_an_object_cut_off_is_fetched_to_its_end(
    project: Project, origin: Path, server: git.Server
) -> None:
    server.cut = 20_000
    assert build(recipe(project, f"{server.url}/m")) == ""
    check_whole(origin)


def test_a_killed_build_s_clone_is_used_again(
    project: Project, origin: Path, server: git.Server
) -> None:
    wanted = recipe(project, f"{server.url}/m")
    base.settle(wanted)
    clone = gitsource.clone_of(wanted.base, lock(wanted)["commit"])
    gitsource._checkout(wanted.base, lock(wanted)["commit"], clone)
    assert build(wanted) == ""
    check_whole(origin)


def test_builds_of_one_commit_at_once_wait_for_each_other(
    project: Project, origin: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow" / "git"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 0.05\nexec {shutil.which("git")} "$@"\n')
    slow.chmod(0o755)
    project.recipe("m", f"base: {{git: '{origin}'}}\n")
    project.recipe("n", f"base: {{git: '{origin}', ignore: ['sub/*']}}\n")
    path = f"{slow.parent}:{os.environ['PATH']}"

    done = doit("-n", "2", "base:m", "base:n", build=project.build, PATH=path)

    assert done.returncode == 0, done.stdout + done.stderr
    check_whole(origin)
    made = content(paths.output("n", "base"))
    assert sorted(made) == ["config.json", "model.safetensors", "tokenizer.json"]


def test_objects_that_are_here_already_are_not_asked_for(
    project: Project, origin: Path, server: git.Server
) -> None:
    assert build(recipe(project, f"{server.url}/m")) == ""
    git.repository(origin, {"new.txt": b"new"})
    wanted = recipe(project, f"{server.url}/m")
    base.update(wanted)
    server.asked.clear()
    assert build(wanted) == ""
    assert not any("lfs" in path for path in server.asked)


def test_only_the_files_that_the_patterns_allow_are_fetched(
    project: Project, origin: Path, server: git.Server
) -> None:
    git.repository(origin, {"other, [old].safetensors": os.urandom(9000)})
    assert build(recipe(project, f"{server.url}/m", ", ignore: ['other*']")) == ""
    assert server.sent == (origin / "model.safetensors").stat().st_size
    assert build(recipe(project, f"{server.url}/m", ", allow: ['*']")) == ""
    assert "other, [old].safetensors" in content(paths.output("m", "base"))


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("/etc/hostname", "a link out of the repository"),
        ("nowhere", "a link that leads nowhere"),
        ("link.txt", "a link that leads nowhere"),
    ],
)
def test_a_link_that_leads_out_or_nowhere_is_refused_until_it_is_left_out(
    project: Project, origin: Path, to: str, error: str
) -> None:
    (origin / "link.txt").symlink_to(to)
    git.repository(origin, {})
    assert f"link.txt: {error}; leave it out" in build(recipe(project, str(origin)))
    assert build(recipe(project, str(origin), ", ignore: [link.txt]")) == ""
    check_whole(origin)


def test_an_object_that_the_server_lacks_is_named(
    project: Project, origin: Path, server: git.Server
) -> None:
    oid = digests.read(origin / "model.safetensors").removeprefix("sha256:")
    (origin / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid).unlink()
    error = build(recipe(project, f"{server.url}/m"))
    assert re.search(r"git lfs failed: .*(not here|404)", error)


@pytest.mark.parametrize(
    ("url", "more", "error"),
    [
        ("{}/none", "", "git ls-remote failed"),
        ("{}/m", ", revision: nope", "no branch or tag 'nope'"),
        ("http://127.0.0.1:9/m", "", "git ls-remote failed: .*[Cc]onnect"),
        ("ext::sh -c true", "", "git ls-remote failed: .*ext"),
        ("--upload-pack=x", "", "git ls-remote failed"),
    ],
)
def test_a_wrong_address_is_one_clear_error(
    project: Project, server: git.Server, url: str, more: str, error: str
) -> None:
    assert re.search(error, build(recipe(project, url.format(server.url), more)))


def test_a_password_stays_out_of_recipes_and_messages(project: Project) -> None:
    for secret in ("me:s3cret@", "s3cret@"):
        with pytest.raises(LoadError, match="take the password out of the URL") as error:
            recipe(project, f"https://{secret}host/m")
        assert "s3cret" not in str(error.value)
    assert recipe(project, "ssh://git@host/m").base.git


def test_the_disk_is_looked_at_before_the_objects_come(
    project: Project, origin: Path, server: git.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "RESERVE", 1 << 60)
    assert "to fetch" in build(recipe(project, f"{server.url}/m"))
    assert server.sent == 0
