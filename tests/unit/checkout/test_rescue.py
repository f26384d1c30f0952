# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a user did in a tree is found again after the checkout."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.checkout.conftest import Site, commit, git


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


def test_an_unknown_commit_stops_before_any_tree_is_touched(site: Site) -> None:
    site.run()
    pinned = site.commits
    site.commits = {**site.older, "MindSpeed-LLM": "f" * 40}
    result = site.run()
    assert result.failed
    assert f"commit {'f' * 40} of MindSpeed-LLM (branch 2.0.0) is not in the mirror" in result["msg"]
    assert "git fetch" in result["remedy"]
    assert site.heads() == pinned
