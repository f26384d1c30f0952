# SPDX-License-Identifier: GPL-3.0-or-later
"""git_mirror: the pinned commit, whole, from an origin that moves on, forgets or is not there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunModule
from tests.unit.mirror.conftest import git

MODULE = "git_mirror"


@pytest.fixture
def params(tmp_path: Path, origin: Path, pinned: str) -> dict[str, Any]:
    place, record = str(tmp_path / "git" / "MindSpeed-LLM.git"), str(tmp_path / "mirror.json")
    return {"url": f"file://{origin}", "directory": place, "branch": "2.0.0", "commit": pinned, "record": record}


def show(params: dict[str, Any], commit: str) -> str:
    return git("show", f"{commit}:requirements.txt", cwd=Path(params["directory"]))


def test_four_ways(run_library: RunModule, params: dict[str, Any], origin: Path, pinned: str) -> None:
    predicted = run_library(MODULE, params, check_mode=True)
    assert (predicted.changed, predicted["made_with"]) == (True, None)
    assert not Path(params["directory"]).parent.exists()
    first = run_library(MODULE, params)
    assert first.changed, first.data
    assert first["diff"] == predicted["diff"]
    assert show(params, pinned) == "six\nnumpy>=1.1"
    origin.rename(origin.with_name("gone"))
    second = run_library(MODULE, params)
    assert not second.changed, "the origin is not needed any more"
    assert "diff" not in second.data
    assert not run_library(MODULE, params, check_mode=True).changed


def test_what_is_recorded(run_library: RunModule, params: dict[str, Any], origin: Path, pinned: str) -> None:
    head = git("rev-parse", "2.0.0", cwd=origin)
    made = run_library(MODULE, params)["made_with"]
    assert made == {
        "url": params["url"],
        "fetched": True,
        "commit": pinned,
        "branch": "2.0.0",
        "branch_head": head,
        "moved": True,
    }
    entry = json.loads(Path(params["record"]).read_text())["artifacts"]["git/MindSpeed-LLM.git"]
    place = Path(params["directory"])
    assert set(entry["files"]) == {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert not any("hooks" in path or "FETCH_HEAD" in path for path in entry["files"])
    assert (place / "HEAD").read_text().strip() == "ref: refs/heads/2.0.0"


def test_a_commit_whose_branch_was_rewritten_is_fetched_by_its_name(
    run_library: RunModule, params: dict[str, Any], origin: Path, pinned: str
) -> None:
    git("tag", "-d", "pinned", cwd=origin)
    git("reset", "--quiet", "--hard", "HEAD~2", cwd=origin)
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=origin)
    assert run_library(MODULE, params).changed
    assert show(params, pinned) == "six\nnumpy>=1.1"
    assert pinned in git("for-each-ref", "refs/ascend-fleet", cwd=Path(params["directory"]))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_clone_that_belongs_to_somebody_else(run_library: RunModule, params: dict[str, Any], origin: Path) -> None:
    for path in [origin, *origin.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    result = run_library(MODULE, {**params, "url": str(origin)})
    assert result.changed, result.data


def test_a_commit_that_is_nowhere(run_library: RunModule, params: dict[str, Any]) -> None:
    failed = run_library(MODULE, {**params, "commit": "f" * 40})
    assert failed.failed
    assert f"has no commit {'f' * 40}" in failed["problem"]
    assert not Path(params["directory"]).exists()
    short = run_library(MODULE, {**params, "commit": params["commit"][:10]})
    assert short.failed
    assert "not a full one" in short["problem"]


def test_an_interrupted_run_is_taken_up(run_library: RunModule, params: dict[str, Any], origin: Path) -> None:
    """What a fetch had brought stays; what it left half-written does not travel on."""
    partial = Path(f"{params['directory']}.partial")
    failed = run_library(MODULE, {**params, "url": f"file://{origin}-nowhere"})
    assert failed.failed
    assert "run again: what arrived is kept" in failed["remedy"]
    assert (partial / "objects").is_dir()
    git("fetch", "--quiet", str(origin), "2.0.0", cwd=partial)
    before = {path.name for path in partial.rglob("*") if path.is_file() and path.parent.parent.name == "objects"}
    (partial / "objects" / "pack").mkdir(exist_ok=True)
    (partial / "objects" / "pack" / "tmp_pack_half").write_text("half")
    result = run_library(MODULE, params)
    assert result.changed, result.data
    place = Path(params["directory"])
    assert before <= {path.name for path in place.rglob("*")}, "nothing is fetched twice"
    assert not list(place.rglob("tmp_*"))
    assert not partial.exists()


def test_a_mirror_that_somebody_made_is_taken_as_it_is(
    run_library: RunModule, params: dict[str, Any], origin: Path
) -> None:
    git("clone", "--quiet", "--bare", str(origin), params["directory"], cwd=origin)
    result = run_library(MODULE, {**params, "url": "https://192.0.2.1/unreachable.git"})
    assert result["found"] == "unsealed"
    assert result["made_with"]["fetched"] is False
    assert not run_library(MODULE, {**params, "url": "https://192.0.2.1/unreachable.git"}).changed


def test_a_damaged_pack_is_found_and_fetched_again(run_library: RunModule, params: dict[str, Any], pinned: str) -> None:
    run_library(MODULE, params)
    pack = next(path for path in Path(params["directory"]).rglob("*") if path.suffix == ".pack" or len(path.name) == 38)
    times = pack.stat()
    os.chmod(pack, 0o644)
    data = pack.read_bytes()
    pack.write_bytes(bytes([data[0] ^ 255, *data[1:-1], data[-1] ^ 255]))
    os.utime(pack, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not run_library(MODULE, params).changed, "size and time are those of the record"
    repaired = run_library(MODULE, {**params, "verify": "content"})
    assert repaired.changed, repaired.data
    assert repaired["found"] == "damaged"
    assert show(params, pinned) == "six\nnumpy>=1.1"
    git("fsck", "--full", cwd=Path(params["directory"]))


def test_another_commit_is_fetched_into_what_is_there(
    run_library: RunModule, params: dict[str, Any], origin: Path, pinned: str
) -> None:
    run_library(MODULE, params)
    (origin / "requirements.txt").write_text("six\nnumpy>=2\n")
    git("commit", "--quiet", "-a", "-m", "later", cwd=origin)
    later = git("rev-parse", "HEAD", cwd=origin)
    second = run_library(MODULE, {**params, "commit": later})
    assert second["diff"]["before"]["inputs"]["commit"] == pinned
    assert second["made_with"]["moved"] is False
    assert (show(params, later), show(params, pinned)) == ("six\nnumpy>=2", "six\nnumpy>=1.1")
