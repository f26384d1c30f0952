# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees come to their commits whatever state they and their mirrors are in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.checkout.conftest import Site, git


def test_the_first_run_makes_every_tree(site: Site) -> None:
    result = site.run()
    assert not result.failed, result["msg"]
    assert result.changed
    assert site.heads() == site.commits
    assert (site.tree() / "latin.txt").read_bytes() == b"caf\xe9\n"
    assert result["diff"]["before"]["MindSpeed"]["state"] == "absent"
    assert result["diff"]["after"]["MindSpeed"]["commit"] == site.commits["MindSpeed"]


def test_the_second_run_is_one_look(site: Site) -> None:
    site.run()
    site.engine.starts()
    result = site.run()
    assert not result.changed
    assert result["actions"] == []
    assert "diff" not in result.data
    assert site.engine.starts() == 1, "three trees, one start in the container"


def test_check_mode_predicts_and_touches_nothing(site: Site) -> None:
    result = site.run(check_mode=True)
    assert result.changed
    assert not site.source.exists()
    site.run()
    (site.tree() / "README.md").write_text("mine\n")
    index = (site.tree() / ".git" / "index").read_bytes()
    predicted = site.run(check_mode=True)
    assert predicted["diff"]["before"]["MindSpeed-LLM"]["changed_files"] == ["README.md"]
    assert (site.tree() / "README.md").read_text() == "mine\n"
    assert (site.tree() / ".git" / "index").read_bytes() == index
    assert not (site.source / ".saved").exists()


def test_check_mode_predicts_while_there_is_no_container(site: Site) -> None:
    site.engine.remove()
    assert site.run(check_mode=True).changed
    refused = site.run()
    assert refused.failed
    assert "tag container" in refused["remedy"]
    site.engine.run("first")
    site.run()
    site.engine.remove()
    assert not site.run(check_mode=True).changed, "the trees' own records say that they are at their commits"


def test_crlf_and_modes_are_as_in_git_and_make_nothing_dirty(site: Site) -> None:
    site.run()
    script = site.tree() / "run.sh"
    assert script.read_bytes() == b"#!/bin/bash\r\necho hello\r\n"
    script.chmod(0o755)
    os.utime(script)
    assert not site.run().changed


def test_a_users_own_settings_do_not_matter(site: Site) -> None:
    site.run()
    tree = site.tree()
    for setting in ("core.autocrlf=true", "core.fileMode=true", "filter.lfs.required=true", "filter.lfs.clean=false"):
        git(tree, "config", *setting.split("=", 1))
    hook = tree / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch HOOKED\nexit 1\n")
    hook.chmod(0o755)
    (tree / "README.md").write_text("mine\n")
    result = site.run()
    assert not result.failed, result["msg"]
    assert (tree / "README.md").read_text() == "MindSpeed-LLM"
    assert (tree / "run.sh").read_bytes().endswith(b"\r\n")
    assert not (tree / "HOOKED").exists()
    assert not site.run().changed


def test_a_clone_that_a_user_made_is_taken_over(site: Site) -> None:
    site.source.mkdir()
    git(site.root, "clone", "--quiet", str(site.root / "mirror" / "MindSpeed.git"), str(site.tree("MindSpeed")))
    result = site.run()
    assert result["moved_aside"] == []
    assert result["trees"]["MindSpeed"]["found"]["state"] == "other-commit"
    assert site.heads() == site.commits


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another owner")
def test_a_tree_and_a_mirror_of_another_owner_are_usable(site: Site) -> None:
    site.run()
    for folder in (site.tree(), site.root / "mirror" / "MindSpeed-LLM.git"):
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 12345, 12345)
    site.commits = {**site.commits, "MindSpeed-LLM": site.older["MindSpeed-LLM"]}
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["trees"]["MindSpeed-LLM"]["found"]["state"] == "other-commit"
    assert site.heads() == site.commits


def test_an_interrupted_first_run_is_continued(site: Site) -> None:
    site.tree().mkdir(parents=True)
    git(site.tree(), "init", "--quiet")
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["moved_aside"] == []
    assert site.heads() == site.commits


def test_a_shallow_mirror_will_do(site: Site, tmp_path: Path) -> None:
    mirror, work = tmp_path / "mirror" / "MindSpeed.git", tmp_path / "mirror" / "MindSpeed.work"
    git(work, "branch", "--force", "pin", site.commits["MindSpeed"])
    subprocess.run(["rm", "-r", str(mirror)], check=True)
    git(tmp_path, "clone", "--quiet", "--bare", "--depth", "1", "--branch", "pin", f"file://{work}", str(mirror))
    assert not site.run().failed
    assert site.heads() == site.commits


def test_a_mirror_that_is_not_whole_is_named_in_plain_words(site: Site, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror" / "MindSpeed.git"
    blob = git(mirror, "rev-parse", f"{site.commits['MindSpeed']}:latin.txt")
    (mirror / "objects" / blob[:2] / blob[2:]).unlink()
    result = site.run()
    assert result.failed
    assert result["msg"].startswith(f"`git -C {site.tree('MindSpeed')} fetch")
    assert "git fsck" in result["remedy"]


def test_every_lack_is_named_at_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "MindSpeed.git").rename(tmp_path / "mirror" / "elsewhere.git")
    site.commits = {**site.commits, "Megatron-LM": "e" * 40}
    result = site.run()
    assert result.failed
    assert len(result["problems"]) == 2


@pytest.mark.parametrize("place", ["MindSpeed.git", "MindSpeed-2.0.0.zip", "MindSpeed"])
def test_a_download_in_place_of_a_mirror_is_named(site: Site, tmp_path: Path, place: str) -> None:
    """The page gives a link to a zip beside the clone command; what it unpacks to has no commits."""
    mirror = tmp_path / "mirror"
    shutil.rmtree(mirror / "MindSpeed.git")
    (mirror / place).mkdir()
    (mirror / place / "README.md").write_text("from a zip\n")
    result = site.run()
    assert result.failed
    assert place in result["problem"]
    assert "git clone --bare" in result["problem"]
    assert not site.source.exists(), "no tree was touched"


@pytest.mark.parametrize("commit_id", ["2.0.0", "b626d239cd", "B" * 40, ""])
def test_names_and_short_commits_are_no_pins(site: Site, commit_id: str) -> None:
    site.commits = {"MindSpeed": commit_id}
    result = site.run()
    assert result.failed
    assert "40 hexadecimal digits" in result["remedy"]


@pytest.mark.parametrize("name", ["../x", "a b", "", "-x"])
def test_names_that_lead_elsewhere_are_refused(site: Site, name: str) -> None:
    site.commits = {name: "a" * 40}
    assert site.run().failed


def test_the_sources_of_a_running_job_stay_as_they_are(site: Site) -> None:
    site.run()
    (site.tree() / "README.md").write_text("mine\n")
    site.engine.run("first", job="7 python supervise_training.py")
    refused = site.run()
    assert refused.failed
    assert "README.md" in refused["msg"]
    assert (site.tree() / "README.md").read_text() == "mine\n"
