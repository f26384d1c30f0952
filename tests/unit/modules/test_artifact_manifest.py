# SPDX-License-Identifier: GPL-3.0-or-later
"""artifact_manifest: contents, refusals, and hashes that are kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store

from tests.conftest import ModuleResult, RunModule


class Source:
    """A directory to look at, with a cache beside it."""

    def __init__(self, run: RunModule, tmp_path: Path) -> None:
        self.run_module = run
        self.root, self.cache = tmp_path / "source", tmp_path / "cache"
        (self.root / "deep").mkdir(parents=True)
        (self.root / "deep" / "b.bin").write_bytes(b"bbb")
        (self.root / "a.txt").write_text("a")

    def look(self, check: bool = False, **other: Any) -> ModuleResult:
        params = {"path": str(self.root), "cache_dir": str(self.cache), **other}
        return self.run_module("artifact_manifest", params, check_mode=check)


@pytest.fixture
def source(run_library: RunModule, tmp_path: Path) -> Source:
    return Source(run_library, tmp_path)


def test_every_file_has_size_time_and_hash(source: Source) -> None:
    (source.root / "empty" / "inner").mkdir(parents=True)
    (source.root / "receipt.json").write_text("not part of the artifact")
    found = source.look()
    assert not found.changed
    assert set(found["manifest"]) == {"a.txt", "deep/b.bin"}
    entry = found["manifest"]["deep/b.bin"]
    assert entry["size"] == 3
    assert entry["mtime_ns"] == (source.root / "deep" / "b.bin").stat().st_mtime_ns
    assert entry["sha256"] == found["contents"]["deep/b.bin"] == hashlib.sha256(b"bbb").hexdigest()
    assert found["directories"] == ["empty/inner"]
    assert (found["kind"], found["files"], found["bytes"], found["hashed"]) == ("directory", 2, 4, 2)


def test_hashes_are_kept_as_long_as_size_and_time_are(source: Source) -> None:
    first = source.look()
    assert source.look()["hashed"] == 0
    path = source.root / "a.txt"
    os.utime(path, ns=(1, 1))
    touched = source.look()
    assert touched["hashed"] == 1
    assert touched["contents"] == first["contents"], "the time is not what identifies a file"
    assert source.look(verify="content")["hashed"] == 2


def test_a_flipped_bit_behind_an_old_time_is_found_by_content(source: Source) -> None:
    path = source.root / "a.txt"
    before = source.look()
    old = path.stat()
    path.write_text("b")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert source.look()["contents"] == before["contents"]
    assert source.look(verify="content")["contents"] != before["contents"]


def rounds(source: Source, **other: Any) -> list[ModuleResult]:
    """Look as the action does, one file at a time, until all is known."""
    answers = [source.look(seconds=1e-9, **other)]
    while answers[-1]["bytes_left"]:
        answers.append(source.look(seconds=1e-9, known=answers[-1]["known"], **other))
    return answers


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("verify", ["stat", "content"])
def test_a_look_in_rounds_says_how_far_it_is_and_ends_with_the_same(source: Source, check: bool, verify: str) -> None:
    usual = source.look(cache_dir="")
    first, *_, last = rounds(source, check=check, verify=verify, cache_dir="" if check else str(source.cache))
    assert "manifest" not in first.data
    assert (first["bytes_left"], first["progress"]["done"], first["progress"]["total"]) == (3, 1, 4)
    assert [answer["hashed"] for answer in (first, last)] == [1, 1], "nothing is read twice"
    assert last["manifest"] == usual["manifest"]
    assert source.cache.exists() is not check


def test_a_look_that_was_ended_goes_on_where_it_was(source: Source) -> None:
    source.look(seconds=1e-9)
    assert source.look()["hashed"] == 1


def test_a_file_that_changes_between_two_rounds_is_read_again(source: Source) -> None:
    first = source.look(seconds=1e-9)
    (source.root / "a.txt").write_text("another")
    last = source.look(known=first["known"])
    assert last["hashed"] == 2
    assert last["contents"]["a.txt"] == hashlib.sha256(b"another").hexdigest()


def test_check_mode_and_an_empty_cache_dir_write_nothing(source: Source) -> None:
    assert source.look(check=True)["hashed"] == 2
    assert not source.cache.exists()
    assert source.look(cache_dir="")["hashed"] == 2
    assert not source.cache.exists()


def test_a_damaged_cache_costs_time_and_nothing_else(source: Source) -> None:
    first = source.look()
    for path in source.cache.iterdir():
        path.write_text("{")
    again = source.look()
    assert again["hashed"] == 2
    assert again["manifest"] == first["manifest"]


def test_a_single_file_is_known_by_its_name(source: Source) -> None:
    found = source.look(path=str(source.root / "deep" / "b.bin"))
    assert found["kind"] == "file"
    assert found["root"] == str(source.root / "deep")
    assert list(found["manifest"]) == ["b.bin"]


def test_the_artifact_in_use_is_looked_at_through_its_link(source: Source) -> None:
    (source.root.parent / "current").symlink_to("source")
    assert set(source.look(path=str(source.root.parent / "current"))["manifest"]) == {"a.txt", "deep/b.bin"}


def test_an_absent_source_is_named(source: Source) -> None:
    gone = source.look(path="/srv/gone/model")
    assert gone.failed
    assert gone["problem"] == "/srv/gone/model is not there."
    assert gone["remedy"]
    empty = source.root / "nothing"
    empty.mkdir()
    assert "has no files" in source.look(path=str(empty))["msg"]


def test_what_the_real_run_makes_first_is_predicted_in_check_mode_only(source: Source) -> None:
    predicted = source.look(check=True, path="/srv/gone/model", predicted=True)
    assert predicted["manifest"] == {}
    assert source.look(path="/srv/gone/model", predicted=True).failed


def test_what_the_real_run_repairs_first_is_predicted_whole(source: Source) -> None:
    whole = source.look()["manifest"]
    store = Store(Host(), str(source.root.parent), "source")
    store.write(Receipt("source", {}, Manifest.from_dict(whole)), str(source.root))
    (source.root / "a.txt").unlink()
    assert source.look(check=True, predicted=True)["manifest"] == whole
    assert set(source.look(predicted=True)["manifest"]) == {"deep/b.bin"}


def test_all_broken_files_are_named_at_once(source: Source) -> None:
    (source.root / "a.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (source.root / "b.safetensors").write_bytes(b"")
    refused = source.look()
    assert refused.failed
    assert len(refused["problems"]) == 2
    assert "git lfs pull" in refused["problems"][0]
    assert "b.safetensors is empty" in refused["problems"][1]
    assert not source.cache.exists()


def test_a_link_out_of_the_directory_is_refused(source: Source) -> None:
    (source.root.parent / "elsewhere.txt").write_text("x")
    (source.root / "link.txt").symlink_to("../elsewhere.txt")
    refused = source.look()
    assert refused.failed
    assert "link.txt is a link out of its directory" in refused["msg"]


def test_what_lies_beside_a_model_is_no_part_of_it(source: Source) -> None:
    from tests.unit.mirror.conftest import model_files

    for name, data in model_files().items():
        (source.root / name).parent.mkdir(exist_ok=True)
        (source.root / name).write_bytes(data)
    for name in (".git/index", ".cache/huggingface/x.lock", "README.md", "LICENSE", ".gitattributes"):
        (source.root / name).parent.mkdir(parents=True, exist_ok=True)
        (source.root / name).write_text("changes by itself")
    (source.root / ".git" / "refs").mkdir()
    found = source.look(expect="model", allow_pickle=True)
    assert set(found["manifest"]) == {*model_files(), "a.txt", "deep/b.bin"}
    assert ".git/refs" not in found["directories"]
    assert "README.md" in source.look()["manifest"], "of other artifacts every file counts"


def test_a_directory_that_is_no_model_says_what_it_lacks(source: Source) -> None:
    refused = source.look(expect="model")
    assert refused.failed
    assert len(refused["problems"]) == 3
