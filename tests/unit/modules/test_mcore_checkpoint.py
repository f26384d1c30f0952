# SPDX-License-Identifier: GPL-3.0-or-later
"""mcore_checkpoint: converts once, repairs, refuses to believe an exit status."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.host import Container, Host
from ansible.module_utils.ascend_fleet.receipt import Store, converge, fingerprint
from ansible.module_utils.ascend_fleet.shards import shard_name, shard_names

from tests.conftest import RunModule, ScriptedHost

MODULE = "mcore_checkpoint"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    def weights(directory: str, verdict: object) -> dict[str, str]:
        (Path(directory) / "model.safetensors").write_bytes(b"weights")
        (Path(directory) / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"]}))
        return {}

    converge(Store(Host(), str(tmp_path), "weights"), {"contents": "w1"}, weights)
    return tmp_path


@pytest.fixture
def params(root: Path) -> dict[str, object]:
    return {"work_root": str(root), "container": "train", "tp": 2, "pp": 2}


def expect_worker(
    host: ScriptedHost, root: Path, tp: int = 2, pp: int = 2, leave_out: str = "", ranks: tuple[str, ...] = ()
) -> None:
    """Expect the converter's exact command; what it leaves is what the real one leaves."""
    inputs = {"weights": fingerprint({"contents": "w1"}), "tp": tp, "pp": pp, "layers_per_stage": []}
    inputs |= {"dtype": "bf16", "vocab_divisible_by": 1, "layout": "mcore-0.8", "engine": "native"}
    out = root / "checkpoint" / f".{fingerprint(inputs)}.partial"
    argv = ["python", f"{root}/workers/convert_checkpoint.py", "hf2mcore", "--hf"]
    argv += [f"{root}/weights/{fingerprint({'contents': 'w1'})}", "--out", str(out), "--tp", str(tp), "--pp", str(pp)]
    argv += ["--dtype", "bf16", "--vocab-divisible-by", "1", "--workers", "2"]
    argv += ["--ranks", ",".join(ranks)] if ranks else []
    wanted = {shard_name(int(rank[0]), int(rank[2]), pp) for rank in ranks} or set(shard_names(tp, pp))

    def effect() -> None:
        for name in wanted - {leave_out}:
            (out / "release" / name).mkdir(parents=True)
            (out / "release" / name / "model_optim_rng.pt").write_text(name)
        (out / "latest_checkpointed_iteration.txt").write_text("release")

    host.expect(
        Container(host, "train").command([*argv, "--json"], {"FLEET_PROGRESS": f"{root}/checkpoint/.progress"}),
        json.dumps({"parameters": 7}) + "\n",
        effect=effect,
    )


def test_four_ways(run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]) -> None:
    predicted = run_library(MODULE, params, scripted_host, check_mode=True)
    assert predicted.changed
    assert not (root / "checkpoint").exists()
    expect_worker(scripted_host, root)
    first = run_library(MODULE, params, scripted_host)
    assert first.changed
    assert first["diff"] == predicted["diff"]
    assert first["diff"]["before"]["inputs"] is None
    assert first["artifact"]["made_with"]["worker"] == {"parameters": 7}
    second = run_library(MODULE, params, scripted_host)
    assert not second.changed
    assert "diff" not in second.data
    assert not run_library(MODULE, params, scripted_host, check_mode=True).changed


def test_other_sizes_go_beside_the_old(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]
) -> None:
    expect_worker(scripted_host, root)
    first = run_library(MODULE, params, scripted_host)
    expect_worker(scripted_host, root, tp=1)
    second = run_library(MODULE, {**params, "tp": 1}, scripted_host)
    assert (second["diff"]["before"]["inputs"]["tp"], second["diff"]["after"]["inputs"]["tp"]) == (2, 1)
    assert Path(first["directory"]).is_dir()
    assert (root / "checkpoint" / "current").resolve() == Path(second["directory"])


def test_a_missing_shard_is_not_a_success(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]
) -> None:
    expect_worker(scripted_host, root, leave_out="mp_rank_01_001")
    result = run_library(MODULE, params, scripted_host)
    assert result.failed
    assert "release/mp_rank_01_001/model_optim_rng.pt" in result["msg"]
    assert not (root / "checkpoint" / "current").exists()


def break_shards(path: Path, how: str) -> tuple[str, ...]:
    """Damage a checkpoint; return the ranks that have to be made again."""
    release = path / "release"
    if how == "lost":
        (release / "mp_rank_00_001" / "model_optim_rng.pt").unlink()
        return ("0_1",)
    if how == "shorter":
        (release / "mp_rank_01_000" / "model_optim_rng.pt").write_text("x")
        (release / "mp_rank_01_001" / "model_optim_rng.pt").unlink()
        return ("1_0", "1_1")
    if how == "never brought here":
        receipt = json.loads((path / "receipt.json").read_text())
        for name in ("mp_rank_00_001", "mp_rank_01_001"):
            (release / name / "model_optim_rng.pt").unlink()
            del receipt["outputs"][f"release/{name}/model_optim_rng.pt"]
        (path / "receipt.json").write_text(json.dumps(receipt))
        return ("0_1", "1_1")
    # Of a shard that has the size and time of the receipt only the content can say that it is not whole.
    (release / "mp_rank_01_001" / "model_optim_rng.pt").unlink()
    silent = release / "mp_rank_00_000" / "model_optim_rng.pt"
    times = silent.stat()
    silent.write_text("mp_rank_00_00?")
    os.utime(silent, ns=(times.st_atime_ns, times.st_mtime_ns))
    return ("0_0", "1_1")


@pytest.mark.parametrize("how", ["lost", "shorter", "silent", "never brought here"])
def test_only_damaged_shards_are_made_again(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object], how: str
) -> None:
    expect_worker(scripted_host, root)
    path = Path(run_library(MODULE, params, scripted_host)["directory"])
    before = {file: file.stat().st_ino for file in path.rglob("*.pt")}
    ranks = break_shards(path, how)
    assert run_library(MODULE, params, scripted_host, check_mode=True)["found"] == "damaged"
    expect_worker(scripted_host, root, ranks=ranks)
    result = run_library(MODULE, params, scripted_host)
    assert result["artifact"]["made_with"]["worker"]["repaired_ranks"] == list(ranks)
    assert {file.parent.name: file.read_text() for file in path.rglob("*.pt")} == {n: n for n in shard_names(2, 2)}
    kept = [file for file in path.rglob("*.pt") if before[file] == file.stat().st_ino]
    assert len(kept) >= 4 - len(ranks)
    assert not run_library(MODULE, {**params, "verify": "content"}, scripted_host).changed


def test_a_lost_tracker_needs_no_conversion(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]
) -> None:
    expect_worker(scripted_host, root)
    path = Path(run_library(MODULE, params, scripted_host)["directory"])
    (path / "latest_checkpointed_iteration.txt").unlink()
    result = run_library(MODULE, params, scripted_host)
    assert result.changed
    assert (path / "latest_checkpointed_iteration.txt").read_text() == "release"
    assert not run_library(MODULE, params, scripted_host).changed


def test_a_failed_repair_leaves_the_whole_shards(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]
) -> None:
    expect_worker(scripted_host, root)
    path = Path(run_library(MODULE, params, scripted_host)["directory"])
    ranks = break_shards(path, "lost")
    expect_worker(scripted_host, root, ranks=ranks)
    scripted_host.script[-1].rc = 1
    scripted_host.script[-1].stdout = '{"error": "no space", "remedy": "Free some."}'
    scripted_host.script[-1].effect = None
    assert run_library(MODULE, params, scripted_host).failed
    assert len(list(path.rglob("*.pt"))) == 3


@pytest.mark.parametrize("check_mode", [True, False])
def test_without_weights(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path_factory: pytest.TempPathFactory, check_mode: bool
) -> None:
    params = {"work_root": str(tmp_path_factory.mktemp("bare")), "container": "train", "tp": 2, "pp": 2}
    result = run_library(MODULE, params, scripted_host, check_mode=check_mode)
    if check_mode:
        assert result.changed
        assert "once weights is there" in result["actions"][0]
        # The hosts that get a copy predict theirs from these.
        assert result["inputs"]
        assert Path(result["directory"]).parent == Path(str(params["work_root"])) / "checkpoint"
    else:
        assert result.failed
        assert "--tags weights" in result["remedy"]


@pytest.mark.parametrize(
    ("stdout", "stderr", "rc", "says"),
    [
        ('{"error": "kv heads 4 % TP 3", "remedy": "Choose TP 2."}\n', "", 1, "kv heads 4 % TP 3 Remedy: Choose TP 2."),
        ("", "Killed", 137, "status 137"),
        ("no result\n", "", 0, "without a result"),
    ],
)
def test_a_failing_worker_is_told(
    run_library: RunModule,
    scripted_host: ScriptedHost,
    params: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    stdout: str,
    stderr: str,
    rc: int,
    says: str,
) -> None:
    answers: list[Callable[..., object]] = []
    monkeypatch.setattr(
        scripted_host, "run", lambda argv, **_: answers.append(argv) or _completed(argv, stdout, stderr, rc)
    )
    result = run_library(MODULE, params, scripted_host)
    assert result.failed
    assert says in result["msg"]
    assert len(answers) == 1


def _completed(argv: list[str], stdout: str, stderr: str, rc: int) -> object:
    from ansible.module_utils.ascend_fleet.host import Completed

    return Completed(argv, rc, stdout, stderr)


def test_a_second_run_waits_for_the_first_and_takes_its_result(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, object]
) -> None:
    """The script expects the converter once: the module that waited finds the work done."""
    expect_worker(scripted_host, root)
    lock = scripted_host.lock
    results = []

    def lock_after_another(path: str) -> object:
        scripted_host.lock = lock  # type: ignore[method-assign]
        results.append(run_library(MODULE, params, scripted_host))
        return lock(path)

    scripted_host.lock = lock_after_another  # type: ignore[method-assign, assignment]
    second = run_library(MODULE, params, scripted_host)
    assert (results[0].changed, second.changed) == (True, False)
    assert second["artifact"] == results[0]["artifact"]


def test_the_lock_keeps_others_out_and_goes_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "stage" / ".lock")
    with Host().lock(path), open(path) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
