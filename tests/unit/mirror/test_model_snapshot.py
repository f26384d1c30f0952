# SPDX-License-Identifier: GPL-3.0-or-later
"""model_snapshot: from a hub that breaks off, lies or asks for a token, and from clones with and without their files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, RunModule
from tests.unit.mirror.conftest import git, model_files, safetensors
from tests.unit.mirror.fake_hub import COMMIT, Hub, git_blob, sha256

MODULE = "model_snapshot"
FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.ascend_fleet.mirror_hub.PAUSE", 0.0)


@pytest.fixture
def params(tmp_path: Path, hub: Hub) -> dict[str, Any]:
    place, record = str(tmp_path / "models" / "qwen"), str(tmp_path / "mirror.json")
    return {"repository": hub.repository, "endpoint": hub.endpoint, "directory": place, "record": record}


def held(place: str) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}


def wanted() -> dict[str, bytes]:
    return {name: data for name, data in model_files().items() if not name.endswith(".bin")}


def test_four_ways(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    predicted = run_library(MODULE, params, check_mode=True)
    assert (predicted.changed, predicted["found"], hub.requests) == (True, "absent", [])
    assert not Path(params["directory"]).parent.exists()
    first = run_library(MODULE, params)
    assert first.changed, first.data
    assert (first["diff"], first["actions"]) == (predicted["diff"], predicted["actions"])
    assert first["diff"]["after"]["inputs"]["revision"] == "main"
    assert held(params["directory"]) == wanted()
    hub.requests.clear()
    hub.close()
    second = run_library(MODULE, params)
    assert not second.changed, "nothing of the network is needed"
    assert "diff" not in second.data
    assert not run_library(MODULE, params, check_mode=True).changed


def test_the_record_has_origin_commit_and_digests(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    run_library(MODULE, params)
    entry = json.loads(Path(params["record"]).read_text())["artifacts"]["models/qwen"]
    made = entry["made_with"]
    assert (made["origin"], made["endpoint"], made["commit"]) == (hub.repository, hub.endpoint, COMMIT)
    assert made["left_out"] == ["pytorch_model.bin"]
    assert made["digests"][FIRST] == f"sha256:{sha256(hub.files[FIRST])}"
    assert made["digests"]["config.json"] == f"git-blob:{git_blob(hub.files['config.json'])}"
    assert {path: facts["sha256"] for path, facts in entry["files"].items()} == {
        path: sha256(data) for path, data in wanted().items()
    }


def test_a_download_goes_on_where_it_broke_off(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    hub.cut = {FIRST: [30, 5000, 20000]}
    run_library(MODULE, params)
    assert held(params["directory"]) == wanted()
    starts = hub.starts(FIRST)
    assert len(starts) >= 2 and starts == sorted(starts) and starts[1] > 0
    assert hub.sent == sum(len(data) for data in wanted().values()), "no byte twice"


def test_a_process_that_is_killed_leaves_what_arrived(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    hub.drip = 0.1
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; import tests.conftest, json\n"
        "from ansible.module_utils.ascend_fleet.host import Host\n"
        "from ansible.module_utils.ascend_fleet.mirror_model import mirror_model\n"
        "mirror_model(Host(), json.loads(sys.argv[2]), False)\n"
    )
    defaults = {"clone": "", "revision": "main", "token": "", "exclude": ["*.bin"], "verify": "stat"}
    process = subprocess.Popen([sys.executable, "-c", code, str(ROOT), json.dumps({**defaults, **params})])
    arrived = Path(f"{params['directory']}.partial", FIRST)
    progress_file = Path(f"{params['record']}.progress")
    while not (progress_file.exists() and arrived.exists() and arrived.stat().st_size >= 8192):
        assert process.poll() is None
        time.sleep(0.01)
    progress = json.loads(progress_file.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not Path(params["directory"]).exists(), "nothing half-made where somebody looks"
    assert 0 < progress["done"] <= progress["total"]
    have = arrived.stat().st_size
    hub.drip = 0.0
    hub.requests.clear()
    result = run_library(MODULE, {**params, "exclude": ["*.bin"]})
    assert result.changed, result.data
    assert hub.starts(FIRST) == [have]
    assert held(params["directory"]) == wanted()
    assert not arrived.parent.exists()
    assert not Path(f"{params['record']}.progress").exists()


def test_a_hub_without_ranges_sends_all_of_it_again(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    hub.ranges, hub.cut = False, {FIRST: [10, 100]}
    assert run_library(MODULE, params).changed
    assert held(params["directory"]) == wanted()


def test_a_busy_hub_is_asked_again(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    hub.busy = 3
    assert run_library(MODULE, params).changed
    hub.busy = 99
    failed = run_library(MODULE, {**params, "directory": params["directory"] + "2"})
    assert failed.failed
    assert "HTTP 503" in failed["problem"]


def test_only_what_is_wrong_is_fetched_again(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    run_library(MODULE, params)
    shard = Path(params["directory"], SECOND)
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    hub.requests.clear()
    predicted = run_library(MODULE, params, check_mode=True)
    assert predicted["diff"]["before"]["found"] == [f"changed: {SECOND}"]
    assert run_library(MODULE, params).changed
    assert [request.path for request in hub.requests] == [SECOND]
    assert held(params["directory"]) == wanted()


def test_a_change_without_a_trace_is_found_by_content(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    run_library(MODULE, params)
    shard = Path(params["directory"], SECOND)
    times = shard.stat()
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not run_library(MODULE, params).changed
    assert run_library(MODULE, {**params, "verify": "content"}).changed
    assert held(params["directory"]) == wanted()


def test_what_a_person_put_there_is_taken(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    place = Path(params["directory"])
    place.mkdir(parents=True)
    (place / FIRST).write_bytes(hub.files[FIRST])
    (place / "README.local").write_text("mine")
    result = run_library(MODULE, params)
    assert result["found"] == "unsealed"
    assert hub.starts(FIRST) == []
    assert result["made_with"]["surplus"] == ["README.local"]


def test_another_revision_takes_the_place_of_the_one_before(
    run_library: RunModule, clone: Path, from_clone: dict[str, Any]
) -> None:
    """Shards of both would otherwise be loaded together; what a person put there stays."""
    run_library(MODULE, from_clone)
    place = Path(from_clone["directory"])
    (place / "notes").write_text("mine")
    single = safetensors("w1", 70000)
    git("rm", "--quiet", "--force", SECOND, FIRST, "model.safetensors.index.json", cwd=clone)
    (clone / "model.safetensors").write_bytes(single)
    git("add", ".", cwd=clone)
    git("commit", "--quiet", "-m", "one shard", cwd=clone)
    result = run_library(MODULE, {**from_clone, "revision": git("rev-parse", "HEAD", cwd=clone)})
    assert result["found"] == "other"
    assert set(held(str(place))) == {*wanted(), "model.safetensors", "notes"} - {
        FIRST,
        SECOND,
        "model.safetensors.index.json",
    }
    assert result["made_with"]["surplus"] == ["notes"]


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    run_library: RunModule, hub: Hub, params: dict[str, Any]
) -> None:
    hub.token, hub.storage = "hf_secret", "localhost"
    refused = run_library(MODULE, params)
    assert refused.failed
    assert "HF_TOKEN" in refused["remedy"]
    result = run_library(MODULE, {**params, "token": "hf_secret"})
    assert result.changed, result.data
    tokens = {request.path: request.token for request in hub.requests}
    assert tokens[FIRST] is None and tokens["config.json"] == "Bearer hf_secret"
    assert "hf_secret" not in Path(params["record"]).read_text()


def test_content_that_is_not_the_origins_is_refused(run_library: RunModule, hub: Hub, params: dict[str, Any]) -> None:
    hub.corrupt = SECOND
    failed = run_library(MODULE, params)
    assert failed.failed
    assert SECOND in failed["problem"] and sha256(hub.files[SECOND]) in failed["problem"]
    assert not Path(params["directory"]).exists()
    assert hub.starts(SECOND) == [0, 0]
    hub.corrupt = ""
    assert run_library(MODULE, params).changed


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({FIRST: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}, "git-lfs pointer"),
        ({FIRST: None}, f"names shards that are not there ({FIRST})"),
        ({"tokenizer.json": None}, "has no tokenizer"),
    ],
)
def test_an_origin_that_is_no_whole_model_is_refused(
    run_library: RunModule, hub: Hub, params: dict[str, Any], changed: dict[str, bytes | None], problem: str
) -> None:
    hub.files = {name: data for name, data in {**hub.files, **changed}.items() if data is not None}
    failed = run_library(MODULE, params)
    assert failed.failed
    assert problem in failed["msg"]
    assert not Path(params["record"]).exists()


def test_a_revision_that_is_not_there(run_library: RunModule, params: dict[str, Any]) -> None:
    failed = run_library(MODULE, {**params, "revision": "v9"})
    assert failed.failed
    assert "HTTP 404" in failed["problem"] and "v9" in failed["problem"]
    both = run_library(MODULE, {**params, "clone": "/somewhere"})
    assert both.failed


def test_the_hub_of_these_tests_is_one_for_the_real_client(hub: Hub, tmp_path: Path) -> None:
    """The double has to speak the protocol as its users know it: huggingface_hub downloads the same files from it."""
    hub.storage = "localhost"
    code = (
        "import sys; from huggingface_hub import snapshot_download\n"
        "snapshot_download(sys.argv[1], revision='main', local_dir=sys.argv[2], endpoint=sys.argv[3])\n"
    )
    argv = [sys.executable, "-c", code, hub.repository, str(tmp_path / "real"), hub.endpoint]
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    subprocess.run(argv, check=True, env=environment, capture_output=True, timeout=120)
    found = {name: data for name, data in held(str(tmp_path / "real")).items() if not name.startswith(".cache")}
    assert found == hub.files


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of the model in which git keeps pointers of the shards, as git-lfs makes them; the files themselves are checked out."""
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "--quiet", cwd=place)
    files = model_files()
    for name, data in files.items():
        (place / name).parent.mkdir(exist_ok=True)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data)}\nsize {len(data)}\n".encode()
        (place / name).write_bytes(pointer if name.endswith(".safetensors") else data)
    git("add", ".", cwd=place)
    git("commit", "--quiet", "-m", "model", cwd=place)
    for name in (FIRST, SECOND):
        (place / name).write_bytes(files[name])
    return place


@pytest.fixture
def from_clone(params: dict[str, Any], clone: Path) -> dict[str, Any]:
    return {"clone": str(clone), "directory": params["directory"], "record": params["record"]}


def test_a_clone_four_ways(run_library: RunModule, clone: Path, from_clone: dict[str, Any]) -> None:
    from_clone["revision"] = "main"
    predicted = run_library(MODULE, from_clone, check_mode=True)
    assert predicted.changed and not Path(from_clone["directory"]).exists()
    first = run_library(MODULE, from_clone)
    assert first.changed, first.data
    assert first["diff"] == predicted["diff"]
    assert held(from_clone["directory"]) == wanted()
    made = first["made_with"]
    assert made["commit"] == git("rev-parse", "HEAD", cwd=clone)
    assert made["digests"][FIRST] == f"sha256:{sha256(model_files()[FIRST])}"
    assert not run_library(MODULE, from_clone).changed


def test_a_clone_takes_what_only_git_lfs_has(run_library: RunModule, clone: Path, from_clone: dict[str, Any]) -> None:
    digest = sha256(model_files()[FIRST])
    stored = clone / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
    stored.parent.mkdir(parents=True)
    (clone / FIRST).rename(stored)
    assert run_library(MODULE, from_clone).changed
    assert held(from_clone["directory"]) == wanted()


def test_pointers_and_changed_files_of_a_clone_are_refused_at_once(
    run_library: RunModule, clone: Path, from_clone: dict[str, Any]
) -> None:
    git("checkout", "--quiet", "--", FIRST, cwd=clone)
    (clone / "config.json").write_text("{}")
    (clone / SECOND).unlink()
    failed = run_library(MODULE, from_clone)
    assert failed.failed
    assert len(failed["problems"]) == 3
    assert "git-lfs pointer" in failed["msg"] and "git lfs pull" in failed["remedy"]
    assert not Path(from_clone["directory"]).exists()
