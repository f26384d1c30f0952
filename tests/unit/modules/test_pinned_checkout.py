# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees come to their commits, and whatever a user did in them is found again afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ModuleResult, RunModule
from tests.unit.modules.local_engine import LocalEngine

NAMES = ("Megatron-LM", "MindSpeed", "MindSpeed-LLM")
IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(tree: Path, *arguments: str) -> str:
    line = ["git", "-c", "safe.directory=*", "-C", str(tree), *arguments]
    return subprocess.run(
        line, env={**os.environ, **IDENTITY}, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(tree: Path, files: Mapping[str, bytes | None]) -> str:
    for name, content in files.items():
        path = tree / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    git(tree, "add", "--all", "--force")
    git(tree, "commit", "--quiet", "--message", "x")
    return git(tree, "rev-parse", "HEAD")


@dataclass
class Site:
    """Mirrors with a history of their own, and the source root of one server."""

    root: Path
    engine: LocalEngine
    run_library: RunModule
    commits: dict[str, str]
    older: dict[str, str]

    @property
    def source(self) -> Path:
        return self.root / "source"

    def tree(self, name: str = "MindSpeed-LLM") -> Path:
        return self.source / name

    def run(self, check_mode: bool = False, **more: Any) -> ModuleResult:
        params = {
            "root": str(self.source),
            "mirror": str(self.root / "mirror"),
            "commits": self.commits,
            "branches": dict.fromkeys(self.commits, "2.0.0"),
            "container": self.engine.name,
            "docker_cli": self.engine.cli,
            **more,
        }
        return self.run_library("pinned_checkout", params, check_mode=check_mode)

    def heads(self) -> dict[str, str]:
        return {name: git(self.tree(name), "rev-parse", "HEAD") for name in NAMES}


def make_mirror(folder: Path, name: str) -> tuple[str, str]:
    """Make a bare mirror; return an older commit and the one to pin. Its branch goes on past the pin."""
    work = folder / f"{name}.work"
    work.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch", "2.0.0")
    (work / ".git" / "info" / "attributes").write_text("* -text -filter\n")  # CRLF gets into the commit as it is
    older = commit(work, {"README.md": name.encode(), "old/gone.py": b"1\n", "run.sh": b"echo\r\n"})
    pinned = commit(
        work,
        {
            "old/gone.py": None,
            "run.sh": b"#!/bin/bash\r\necho hello\r\n",
            "new/module.py": b"print(1)\n",
            "latin.txt": b"caf\xe9\n",
            ".gitignore": b"/megatron/\n/model_from_hf/\n__pycache__/\n",
            ".gitattributes": b"*.sh text eol=lf\n*.bin filter=lfs\n",
        },
    )
    commit(work, {"README.md": b"moved on\n"})
    git(work, "clone", "--quiet", "--bare", str(work), str(folder / f"{name}.git"))
    return older, pinned


@pytest.fixture(scope="session")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Mirrors made once; every test has a copy."""
    folder = tmp_path_factory.mktemp("mirrors")
    return folder, {name: make_mirror(folder, name) for name in NAMES}


@pytest.fixture
def site(tmp_path: Path, run_library: RunModule, mirrors: tuple[Path, dict[str, tuple[str, str]]]) -> Site:
    folder, made = mirrors
    shutil.copytree(folder, tmp_path / "mirror")
    commits = {name: pinned for name, (_, pinned) in made.items()}
    older = {name: old for name, (old, _) in made.items()}
    return Site(tmp_path, LocalEngine(tmp_path / "engine"), run_library, commits, older)


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


def test_an_edit_is_saved_as_a_patch_and_reset(site: Site) -> None:
    site.run()
    tree = site.tree()
    (tree / "README.md").write_text("mine\n")
    (tree / "latin.txt").write_bytes(b"caf\xe9 cr\xe8me\n")
    (tree / "new" / "module.py").unlink()
    (tree / "ckpt").mkdir()
    (tree / "ckpt" / "model.pt").write_bytes(b"weeks of work")
    result = site.run()
    assert result.changed
    assert "save and reset 3 changed files" in result["actions"][0]
    assert (tree / "README.md").read_text() == "MindSpeed-LLM"
    assert (tree / "ckpt" / "model.pt").read_bytes() == b"weeks of work"
    (patch,) = result["saved"]
    assert Path(patch).parent == site.source / ".saved"
    git(tree, "apply", patch)
    assert (tree / "README.md").read_text() == "mine\n"
    assert (tree / "latin.txt").read_bytes() == b"caf\xe9 cr\xe8me\n", "bytes that are no UTF-8 survive"
    assert not (tree / "new" / "module.py").exists()


def test_equal_edits_give_one_patch(site: Site) -> None:
    site.run()
    for _ in range(2):
        (site.tree() / "README.md").write_text("mine\n")
        site.run()
    assert len(list((site.source / ".saved").iterdir())) == 1


def test_staged_changes_are_saved_too(site: Site) -> None:
    site.run()
    (site.tree() / "added.py").write_text("print('mine')\n")
    git(site.tree(), "add", "added.py")
    (patch,) = site.run()["saved"]
    assert "print('mine')" in Path(patch).read_text()
    assert git(site.tree(), "status", "--porcelain") == ""


def test_a_new_pin_is_fetched_and_what_lies_around_stays(site: Site) -> None:
    pinned, site.commits = site.commits, site.older
    site.run()
    tree = site.tree()
    for name in (
        "model_from_hf/w",
        "model_weights/w",
        "dataset/d",
        "ckpt/c",
        "logs/l",
        "megatron/core/x.py",
        "notes.txt",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "old" / "__pycache__").mkdir()
    (tree / "old" / "__pycache__" / "gone.pyc").write_text("")
    site.commits = pinned
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["moved_aside"] == []
    assert site.heads() == pinned
    assert not (tree / "old" / "gone.py").exists()
    for name in (
        "model_from_hf/w",
        "model_weights/w",
        "dataset/d",
        "ckpt/c",
        "logs/l",
        "megatron/core/x.py",
        "notes.txt",
    ):
        assert (tree / name).read_text() == name


def test_untracked_files_in_the_way_are_moved_aside(site: Site) -> None:
    pinned, site.commits = site.commits, site.older
    site.run()
    tree = site.tree()
    (tree / "latin.txt").write_text("mine\n")
    (tree / "new").write_text("a file where a directory comes\n")
    (tree / "README.md").unlink()
    (tree / "README.md").mkdir()
    (tree / "README.md" / "deep.txt").write_text("mine too\n")
    site.commits = pinned
    result = site.run()
    assert not result.failed, result["msg"]
    kept = {Path(path).name: Path(path) for path in result["moved_aside"]}
    assert sorted(kept) == ["README.md", "latin.txt", "new"]
    assert kept["latin.txt"].read_text() == "mine\n"
    assert kept["new"].read_text().startswith("a file")
    assert (kept["README.md"] / "deep.txt").read_text() == "mine too\n"
    assert (tree / "latin.txt").read_bytes() == b"caf\xe9\n"
    assert not site.run().changed


def test_a_link_in_the_way_is_moved_and_what_it_points_to_stays(site: Site) -> None:
    pinned, site.commits = site.commits, site.older
    site.run()
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "module.py").write_text("mine\n")
    (site.tree() / "new").symlink_to(elsewhere)
    site.commits = pinned
    (moved,) = site.run()["moved_aside"]
    assert os.readlink(moved) == str(elsewhere)
    assert (elsewhere / "module.py").read_text() == "mine\n"
    assert (site.tree() / "new" / "module.py").read_text() == "print(1)\n"


def test_build_products_in_the_way_are_removed(site: Site, tmp_path: Path) -> None:
    work = tmp_path / "mirror" / "MindSpeed.work"
    with_build = commit(work, {"build/tracked.txt": b"x\n"})
    git(work, "push", "--quiet", str(tmp_path / "mirror" / "MindSpeed.git"), "HEAD:refs/heads/2.0.0")
    site.run()
    (site.tree("MindSpeed") / "build").mkdir()
    (site.tree("MindSpeed") / "build" / "tracked.txt").write_text("compiled\n")
    site.commits = {**site.commits, "MindSpeed": with_build}
    result = site.run()
    assert not result.failed, result["msg"]
    assert result["moved_aside"] == []
    assert (site.tree("MindSpeed") / "build" / "tracked.txt").read_text() == "x\n"


def test_a_commit_with_files_in_a_kept_directory_is_refused(site: Site, tmp_path: Path) -> None:
    work = tmp_path / "mirror" / "MindSpeed-LLM.work"
    greedy = commit(work, {"dataset/sample.jsonl": b"{}\n"})
    git(work, "push", "--quiet", str(tmp_path / "mirror" / "MindSpeed-LLM.git"), "HEAD:refs/heads/2.0.0")
    site.run()
    (site.tree() / "dataset").mkdir()
    (site.tree() / "dataset" / "sample.jsonl").write_text("mine\n")
    pinned = site.commits
    site.commits = {**pinned, "MindSpeed-LLM": greedy}
    result = site.run()
    assert result.failed
    assert "dataset/sample.jsonl" in result["msg"]
    assert (site.tree() / "dataset" / "sample.jsonl").read_text() == "mine\n"
    assert site.heads() == pinned


def test_a_zip_download_is_moved_aside_whole(site: Site) -> None:
    tree = site.tree()
    (tree / "model_from_hf").mkdir(parents=True)
    (tree / "model_from_hf" / "weights").write_text("15 GB")
    (tree / "README.md").write_text("from a zip\n")
    result = site.run()
    assert not result.failed, result["msg"]
    (aside,) = result["moved_aside"]
    assert (Path(aside) / "model_from_hf" / "weights").read_text() == "15 GB"
    assert aside in " ".join(result["actions"])
    assert site.heads() == site.commits


def test_a_download_inside_of_another_repository_is_no_part_of_it(site: Site) -> None:
    git(site.root, "init", "--quiet")
    (site.tree() / "sub").mkdir(parents=True)
    assert len(site.run()["moved_aside"]) == 1


def test_a_users_own_commit_keeps_a_name(site: Site) -> None:
    site.run()
    tree = site.tree()
    mine = commit(tree, {"mine.py": b"print('mine')\n"})
    result = site.run()
    assert site.heads() == site.commits
    assert result["saved"] == [f"{tree}: refs/saved/{mine}"]
    assert git(tree, "rev-parse", f"refs/saved/{mine}") == mine


def test_a_users_branch_stays_where_it_is(site: Site) -> None:
    site.run()
    tree = site.tree()
    git(tree, "checkout", "--quiet", "-b", "work")
    mine = commit(tree, {"mine.py": b"print('mine')\n"})
    site.run()
    assert git(tree, "rev-parse", "work") == mine
    assert site.heads() == site.commits


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


def test_an_unknown_commit_stops_before_any_tree_is_touched(site: Site) -> None:
    site.run()
    pinned = site.commits
    site.commits = {**site.older, "MindSpeed-LLM": "f" * 40}
    result = site.run()
    assert result.failed
    assert f"commit {'f' * 40} of MindSpeed-LLM (branch 2.0.0) is not in the mirror" in result["msg"]
    assert "git fetch" in result["remedy"]
    assert site.heads() == pinned


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
