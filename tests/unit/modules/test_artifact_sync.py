# SPDX-License-Identifier: GPL-3.0-or-later
"""artifact_sync without a network: looking, sharing, repairing, refusing. Over ssh it is tested in tests/integration."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import scan
from ansible.module_utils.ascend_fleet.receipt import Store, fingerprint
from ansible.module_utils.ascend_fleet.sync import sync_artifact
from ansible.module_utils.ascend_fleet.transfer_files import alone

from tests.conftest import ModuleResult, RunModule


class SmallDisk(Host):
    """This machine with a file system that is nearly full."""

    def free_bytes(self, path: str) -> int:
        return 1000


class Place:
    """A source directory and a work root on one machine."""

    def __init__(self, run: RunModule, tmp_path: Path) -> None:
        self.run_module = run
        self.source, self.work = tmp_path / "source", tmp_path / "work"
        self.source.mkdir()
        (self.source / "config.json").write_text("{}")
        (self.source / "weights.bin").write_bytes(b"w" * 1000)

    def sync(self, check: bool = False, host: Host | None = None, **other: Any) -> ModuleResult:
        params = {
            "work_root": str(self.work),
            "stage": "weights",
            "manifest": scan(Host(), str(self.source)).as_dict(),
            "local": True,
            "source": {"name": "npu-7", "root": str(self.source)},
            **other,
        }
        return self.run_module("artifact_sync", params, host=host, check_mode=check)

    @property
    def current(self) -> Path:
        return self.work / "weights" / "current"

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.current)) for path in self.current.rglob("*"))


@pytest.fixture
def place(run_library: RunModule, tmp_path: Path) -> Place:
    return Place(run_library, tmp_path)


def test_first_run_brings_second_run_looks(place: Place) -> None:
    first = place.sync()
    assert first.changed
    assert first["method"] == "local"
    assert first["artifact"]["made_with"] == {"source": "npu-7"}
    assert place.names() == ["config.json", "receipt.json", "weights.bin"]
    assert (place.current / "weights.bin").stat().st_mtime_ns == (place.source / "weights.bin").stat().st_mtime_ns
    second = place.sync()
    assert not second.changed
    assert second["found"] == "ok"
    assert second["actions"] == []
    assert "diff" not in second.data


def test_check_mode_predicts_the_same_and_touches_nothing(place: Place) -> None:
    predicted = place.sync(check=True)
    assert not place.work.exists()
    real = place.sync()
    for key in ("fingerprint", "path", "found", "files_to_fetch", "bytes_to_fetch", "actions", "diff"):
        assert predicted[key] == real[key]
    assert predicted["diff"]["before"] == {"inputs": None, "found": ["absent"]}
    assert set(predicted["diff"]["after"]["inputs"]["contents"]) == {"config.json", "weights.bin"}


def test_unchanged_files_are_shared_with_the_next_version(place: Place) -> None:
    old = place.sync()
    (place.source / "config.json").write_text('{"new": 1}')
    new = place.sync()
    assert new["fingerprint"] != old["fingerprint"]
    assert (new["files_to_fetch"], new["files_shared"]) == (1, 1)
    assert (Path(old["path"]) / "weights.bin").samefile(Path(new["path"]) / "weights.bin")
    assert (Path(old["path"]) / "config.json").read_text() == "{}", "the old result stays"
    assert not place.sync().changed


def test_a_repair_does_not_write_through_a_shared_file(place: Place) -> None:
    old = place.sync()
    (place.source / "config.json").write_text('{"new": 1}')
    new = place.sync()
    (Path(new["path"]) / "weights.bin").unlink()
    place.sync()
    assert (Path(old["path"]) / "weights.bin").read_bytes() == b"w" * 1000
    assert (Path(new["path"]) / "weights.bin").read_bytes() == b"w" * 1000


def test_going_back_switches_the_link_only(place: Place) -> None:
    first = place.sync()
    (place.source / "config.json").write_text('{"new": 1}')
    place.sync()
    (place.source / "config.json").write_text("{}")
    back = place.sync()
    assert back.changed
    assert back["found"] == "not-current"
    assert back["files_to_fetch"] == 0
    assert place.current.resolve() == Path(first["path"])


def flip(path: Path, keep_time: bool) -> None:
    old = path.stat()
    path.write_bytes(b"W" + path.read_bytes()[1:])
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns if keep_time else old.st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("damage", "verify", "found", "fetched"),
    [
        ("delete", "stat", ["missing: weights.bin"], 1),
        ("truncate", "stat", ["changed: weights.bin"], 1),
        ("directory", "stat", ["missing: weights.bin"], 1),
        ("flip", "stat", ["changed: weights.bin"], 1),
        ("flip behind its time", "content", ["changed: weights.bin"], 1),
        ("receipt", "stat", ["no receipt"], 0),
        ("receipt and file", "stat", ["no receipt", "missing: weights.bin"], 1),
        ("link", "stat", ["not in use"], 0),
        ("unreadable receipt", "stat", ["no receipt"], 0),
    ],
)
def test_each_damage_is_found_named_and_repaired(
    place: Place, damage: str, verify: str, found: list[str], fetched: int
) -> None:
    path = place.sync()["path"]
    whole = {name: (Path(path) / name).stat().st_ino for name in ("config.json", "weights.bin")}
    broken = Path(path) / "weights.bin"
    if damage in ("delete", "directory", "receipt and file"):
        broken.unlink()
    if damage == "directory":
        broken.mkdir()
    if damage == "truncate":
        broken.write_bytes(b"w" * 999)
    if damage.startswith("flip"):
        flip(broken, keep_time=damage != "flip")
    if damage.startswith("receipt"):
        (Path(path) / "receipt.json").unlink()
    if damage == "unreadable receipt":
        (Path(path) / "receipt.json").write_text("{")
    if damage == "link":
        place.current.unlink()
    if damage == "flip behind its time":
        assert not place.sync().changed, "size and time say nothing"
    predicted = place.sync(check=True, verify=verify)
    repaired = place.sync(verify=verify)
    assert predicted["diff"] == repaired["diff"]
    assert repaired["diff"]["before"]["found"] == found
    assert repaired["files_to_fetch"] == fetched
    assert (place.current / "weights.bin").read_bytes() == b"w" * 1000
    assert (Path(path) / "config.json").stat().st_ino == whole["config.json"], "what was whole was left alone"
    assert not place.sync(verify="content").changed
    left = sorted(path.name for path in (place.work / "weights").iterdir() if path.name != ".lock")
    assert left == [repaired["fingerprint"], "current"]


def test_each_host_has_the_part_it_needs_under_the_same_name(place: Place) -> None:
    part = place.sync(patterns=["*.json"])
    assert place.names() == ["config.json", "receipt.json"]
    assert not place.sync(patterns=["*.json"]).changed
    whole = place.sync()
    assert whole["fingerprint"] == part["fingerprint"]
    assert whole["diff"]["before"]["found"] == ["missing: weights.bin"]
    assert not place.sync(patterns=["*.json"]).changed, "having more than needed is fine"
    (place.current / "config.json").unlink()
    place.sync(patterns=["*.json"])
    assert not place.sync().changed, "the part that was not looked at stayed on record"


def test_inputs_of_the_caller_name_the_artifact(place: Place) -> None:
    inputs = {"weights": "abc", "tp": 2}
    made = place.sync(inputs=inputs, parents={"weights": "abc"})
    assert made["fingerprint"] == fingerprint(inputs)
    receipt = Store(Host(), str(place.work), "weights").current_receipt()
    assert receipt is not None
    assert receipt.inputs == inputs
    assert receipt.parents == {"weights": "abc"}
    (place.source / "weights.bin").write_bytes(b"x" * 1000)
    again = place.sync(inputs=inputs)
    assert again["diff"]["before"]["found"] == ["changed at the source: weights.bin"]
    assert (place.current / "weights.bin").read_bytes() == b"x" * 1000


def test_a_source_that_is_only_predicted_is_predicted_here(place: Place) -> None:
    predicted = place.sync(check=True, manifest={}, inputs={"tp": 2})
    assert predicted.changed
    assert predicted["found"] == "absent"
    assert place.sync(manifest={}, inputs={"tp": 2}).failed


def test_empty_directories_are_made_and_missed(place: Place) -> None:
    place.sync(directories=["refs/tags"])
    assert (place.current / "refs" / "tags").is_dir()
    shutil.rmtree(place.current / "refs")
    repaired = place.sync(directories=["refs/tags"])
    assert repaired["diff"]["before"]["found"] == ["missing: refs/tags/"]
    assert (place.current / "refs" / "tags").is_dir()


def test_left_overs_of_an_interrupted_run_do_not_get_in(place: Place) -> None:
    name = place.sync(check=True)["fingerprint"]
    partial = place.work / "weights" / f".{name}.partial"
    partial.mkdir(parents=True)
    (partial / "stranger.bin").write_text("x")
    (partial / "weights.bin").write_bytes(b"half")
    of_another = place.work / "weights" / ".0123456789abcdef.partial"
    of_another.mkdir()
    place.sync()
    assert not of_another.exists(), "what an artifact of other inputs left would stay for ever"
    assert place.names() == ["config.json", "receipt.json", "weights.bin"]
    assert (place.current / "weights.bin").read_bytes() == b"w" * 1000


def test_a_full_disk_is_refused_before_the_first_byte(place: Place) -> None:
    refused = place.sync(host=SmallDisk())
    assert refused.failed
    assert str(place.work / "weights") in refused["problem"]
    assert refused["free_bytes"] == 1000
    assert refused["needed_bytes"] > 1000
    assert "ascend_work_root" in refused["remedy"]
    assert not place.work.exists()


def test_a_source_that_changes_under_the_copy_is_not_put_in_place(place: Place) -> None:
    manifest = scan(Host(), str(place.source)).as_dict()
    (place.source / "weights.bin").write_bytes(b"x" * 1000)
    refused = place.sync(manifest=manifest)
    assert refused.failed
    assert "weights.bin arrived from npu-7 with another content" in refused["msg"]
    assert not os.path.lexists(place.current)


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"patterns": ["*.gguf"]}, "No file of the source matches *.gguf"),
        ({"manifest": {"a": {"size": 1}}}, "A manifest is damaged"),
        ({"local": False, "source": {"name": "npu-7"}}, "npu-7 is given without address, user, host_keys"),
        (
            {"local": False, "source": {"name": "s-1", "address": "x", "user": "u", "host_keys": ["k"]}},
            "1002 bytes have to come from s-1, but no key was given",
        ),
        ({"source": {"name": "npu-7"}}, "A local source is given without its root"),
    ],
)
def test_wrong_input_is_refused_with_its_value(place: Place, params: dict[str, Any], text: str) -> None:
    refused = place.sync(**params)
    assert refused.failed
    assert text in refused["problem"]
    assert refused["remedy"]


def test_a_run_waits_for_the_one_that_still_fetches(place: Place, tmp_path: Path) -> None:
    """A module goes on when its ssh connection is lost; the next run must not write into the same files."""
    manifest = scan(Host(), str(place.source)).as_dict()
    source = {"name": "npu-7", "root": str(place.source)}
    params = {"work_root": str(place.work), "stage": "weights", "manifest": manifest, "source": source, "local": True}
    params.update(patterns=[], directories=[], inputs={}, parents={}, verify="stat", method="auto")
    with ThreadPoolExecutor() as pool:
        with alone(str(place.work / "weights" / ".lock")) as waited:
            assert not waited
            second = pool.submit(sync_artifact, Host(), params, False)
            with pytest.raises(TimeoutError):
                second.result(timeout=1)
            # What the first brings about in the meantime:
            place.sync(work_root=str(tmp_path / "elsewhere"))
            shutil.copytree(tmp_path / "elsewhere", place.work, symlinks=True, dirs_exist_ok=True)
        outcome = second.result(timeout=60)
    assert outcome.values["method"] == "none", "nothing was left to fetch"
    assert not place.sync().changed
