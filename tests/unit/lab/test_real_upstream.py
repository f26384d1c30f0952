# SPDX-License-Identifier: GPL-3.0-or-later
"""The real repositories for a rehearsal: where they are looked for, what is taken of them, and what is said when one is missing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab import real_upstream
from lab.real_upstream import Source
from lab.shell import LabError
from tests.conftest import ROOT, free_ports

GIT = ["git", "-c", "user.name=tester", "-c", "user.email=tester@lab", "-c", "init.defaultBranch=main"]


def git(place: Path, *words: str) -> str:
    """Run git in a repository and return what it prints."""
    return subprocess.run([*GIT, "-C", str(place), *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A work tree with two commits, below a directory as a user names it."""
    place = tmp_path / "upstream" / "MindSpeed"
    place.mkdir(parents=True)
    git(place, "init", "--quiet")
    for text in ("pinned", "later"):
        (place / "setup.py").write_text(f"# {text}\n")
        git(place, "add", "--all")
        git(place, "commit", "--quiet", "-m", text)
    return place


@pytest.fixture
def source(clone: Path) -> Source:
    """The older of its commits, as a release row pins it."""
    return Source(
        "MindSpeed", "2.0.0_core_r0.8.0", git(clone, "rev-parse", "HEAD~1"), "https://example.invalid/MindSpeed"
    )


def make_bare(clone: Path, name: str) -> None:
    """Put a bare mirror in the place of the work tree."""
    git(clone, "clone", "--quiet", "--mirror", str(clone), str(clone.with_name("mirror")))
    subprocess.run(["rm", "-r", str(clone)], check=True)
    clone.with_name("mirror").rename(clone.with_name(name))


@pytest.mark.parametrize("name", ["", "MindSpeed", "MindSpeed.git"], ids=["work-tree", "bare", "bare-with-suffix"])
def test_the_pinned_commit_is_taken_from_a_work_tree_and_from_mirrors(
    clone: Path, source: Source, name: str, tmp_path: Path
) -> None:
    if name:
        make_bare(clone, name)
    real_upstream.build([source], tmp_path / "git", str(clone.parent))
    made = tmp_path / "git" / "MindSpeed.git"
    assert git(made, "rev-parse", f"refs/heads/{source.branch}") == source.commit
    assert git(made, "for-each-ref", "--format=%(refname)") == f"refs/heads/{source.branch}"
    assert git(made, "show", f"{source.commit}:setup.py") == "# pinned"


def test_a_mirror_that_lacks_old_commits_is_good_enough(clone: Path, source: Source, tmp_path: Path) -> None:
    newest = replace(source, commit=git(clone, "rev-parse", "HEAD"))
    old = git(clone, "rev-parse", f"{source.commit}:setup.py")
    (clone / ".git" / "objects" / old[:2] / old[2:]).unlink()
    real_upstream.build([newest], tmp_path / "git", str(clone.parent))
    made = tmp_path / "git" / "MindSpeed.git"
    assert git(made, "show", f"{newest.commit}:setup.py") == "# later"


def test_a_clone_without_the_pinned_commit_is_named_with_the_commit(
    clone: Path, source: Source, tmp_path: Path
) -> None:
    absent = replace(source, commit="0123456789" * 4)
    with pytest.raises(LabError) as failed:
        real_upstream.build([absent], tmp_path / "git", str(clone.parent))
    assert absent.commit in str(failed.value)
    assert str(clone) in str(failed.value)
    assert "Fetch the branch there" in str(failed.value)


def test_a_missing_repository_is_named_with_the_command_that_gets_it(tmp_path: Path) -> None:
    pinned = {one.name: one for one in real_upstream.sources()}
    (tmp_path / "MindSpeed" / ".git").mkdir(parents=True)
    assert real_upstream.locate(pinned["MindSpeed"], str(tmp_path)) == str(tmp_path / "MindSpeed")
    wanted = pinned["Megatron-LM"]
    with pytest.raises(LabError) as failed:
        real_upstream.locate(wanted, str(tmp_path))
    assert f"{tmp_path} has neither Megatron-LM nor Megatron-LM.git" in str(failed.value)
    assert f"git clone --bare {wanted.url} upstream/Megatron-LM.git" in str(failed.value)


def test_a_directory_of_that_name_which_is_no_repository_does_not_count(tmp_path: Path, source: Source) -> None:
    (tmp_path / "MindSpeed").mkdir()
    with pytest.raises(LabError, match="has neither"):
        real_upstream.locate(source, str(tmp_path))


@pytest.fixture
def published(clone: Path, source: Source) -> Iterator[Source]:
    """The same behind a real git server, which gives a commit by its name as the published places do."""
    make_bare(clone, "MindSpeed.git")
    (port,) = free_ports(1)
    daemon = ["git", "daemon", "--listen=127.0.0.1", f"--port={port}", "--export-all", f"--base-path={clone.parent}"]
    url = f"git://127.0.0.1:{port}/MindSpeed.git"
    with subprocess.Popen(daemon) as server:
        try:
            wait_for(url)
            yield replace(source, url=url)
        finally:
            server.terminate()


def wait_for(url: str) -> None:
    """Return once the server answers."""
    for _ in range(100):
        if subprocess.run(["git", "ls-remote", url], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    pytest.fail(f"{url} does not answer")


def test_download_gets_the_pinned_commit_and_nothing_before_it(published: Source, tmp_path: Path) -> None:
    real_upstream.build([published], tmp_path / "git", "download")
    got = tmp_path / "git" / "MindSpeed.git"
    assert git(got, "rev-list", published.branch) == published.commit
    assert git(got, "show", f"{published.branch}:setup.py") == "# pinned"


def test_a_published_place_that_lost_the_commit_is_named(published: Source, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"127.0.0.1.* does not give commit {'0' * 39}1 of MindSpeed"):
        real_upstream.build([replace(published, commit="0" * 39 + "1")], tmp_path / "git", "download")


def test_the_sources_are_the_pins_of_the_release_row() -> None:
    assert {one.name for one in real_upstream.sources()} == {"MindSpeed-LLM", "MindSpeed", "Megatron-LM"}
    assert all(len(one.commit) == 40 for one in real_upstream.sources())


def test_a_rehearsal_without_the_repositories_says_how_to_get_them(tmp_path: Path) -> None:
    """Through the command that make runs first; an empty cache, so that nothing fetched before counts."""
    environment = {**os.environ, "LAB_VARIANT": "rehearsal", "REHEARSAL_UPSTREAM": "", "XDG_CACHE_HOME": str(tmp_path)}
    command = [str(ROOT / ".venv" / "bin" / "python"), "-m", "lab.rehearsal", "sources"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the real repositories are needed" in done.stderr
    assert done.stderr.count("git clone --bare https://") == 3
    assert "make rehearse UPSTREAM=" in done.stderr
