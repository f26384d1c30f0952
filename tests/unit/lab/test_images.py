# SPDX-License-Identifier: GPL-3.0-or-later
"""A recipe's tag changes with everything in it and with nothing else, and so do the keys of staging content."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import images, staging


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe `tiny` of two files and an overlay."""
    (tmp_path / "tiny" / "root" / "etc").mkdir(parents=True)
    (tmp_path / "tiny" / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    (tmp_path / "tiny" / "root" / "etc" / "file").write_text("one\n", encoding="utf-8")
    (tmp_path / "extra" / "__pycache__").mkdir(parents=True)
    (tmp_path / "extra" / "tool").write_text("#!/bin/sh\n", encoding="utf-8")
    monkeypatch.setattr(images, "RECIPES", tmp_path)
    monkeypatch.setitem(images.OVERLAYS, "tiny", (images.Overlay(tmp_path / "extra", "/usr/bin"),))
    return tmp_path


def test_the_tag_is_stable_and_names_the_image(recipes: Path) -> None:
    assert images.tag("tiny") == images.tag("tiny")
    assert images.tag("tiny").startswith("ascend-lab/tiny:")


@pytest.mark.parametrize("path", ["tiny/Dockerfile", "tiny/root/etc/file", "extra/tool"])
def test_a_changed_file_changes_the_tag(recipes: Path, path: str) -> None:
    before = images.tag("tiny")
    (recipes / path).write_text("other\n", encoding="utf-8")
    assert images.tag("tiny") != before


def test_a_run_bit_and_a_new_file_change_the_tag(recipes: Path) -> None:
    tags = {images.tag("tiny")}
    (recipes / "extra" / "tool").chmod(0o755)
    tags.add(images.tag("tiny"))
    (recipes / "tiny" / "root" / "etc" / "more").touch()
    tags.add(images.tag("tiny"))
    assert len(tags) == 3


def test_the_umask_of_whoever_cloned_does_not_change_the_tag(recipes: Path) -> None:
    before = images.tag("tiny")
    (recipes / "extra" / "tool").chmod(0o600)
    assert images.tag("tiny") == before


def test_compiled_files_do_not_change_the_tag(recipes: Path) -> None:
    before = images.tag("tiny")
    (recipes / "extra" / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert images.tag("tiny") == before


def test_every_recipe_of_the_lab_has_its_files() -> None:
    for name in ("server", "staging", "training"):
        targets = [target for target, _ in images.recipe_files(name)]
        assert "Dockerfile" in targets
        assert len(targets) == len(set(targets))
    server = dict(images.recipe_files("server"))
    assert "root/usr/local/sbin/npu-smi" in server
    assert "root/usr/local/Ascend/driver/tools/hccn_tool" in server
    assert "root/usr/local/Ascend/driver/version.info" in server


def test_content_keys_follow_the_builders_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab" / "x").mkdir(parents=True)
    source = tmp_path / "lab" / "x" / "build.py"
    source.write_text("1\n", encoding="utf-8")
    monkeypatch.setattr(staging, "CLONE", tmp_path)
    before = staging.content_key("lab/x")
    (tmp_path / "lab" / "x" / "README.md").write_text("words\n", encoding="utf-8")
    assert staging.content_key("lab/x") == before
    source.write_text("2\n", encoding="utf-8")
    assert staging.content_key("lab/x") != before


def test_a_builder_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(target: Path) -> None:
        (target / "half").touch()
        raise OSError("disk full")

    piece = staging.Piece("model", "abc", fail)
    with pytest.raises(OSError, match="disk full"):
        staging.make(piece)
    assert list((tmp_path / "ascend-fleet-lab").iterdir()) == []


def test_only_the_newest_results_of_a_piece_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number in range(5):
        staging.make(staging.Piece("git", f"key{number}", lambda target: (target / "x").touch()))
    staging.make(staging.Piece("model", "other", lambda target: (target / "x").touch()))
    found = sorted(path.name for path in (tmp_path / "ascend-fleet-lab").iterdir())
    assert found == ["git-key2", "git-key3", "git-key4", "model-other"]
