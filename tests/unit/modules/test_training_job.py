# SPDX-License-Identifier: GPL-3.0-or-later
"""training_job and training_job_info on one host: started once, followed, verified, resumed, never given up unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet import training_finish, training_start

from tests.conftest import ModuleResult, RunModule, ScriptedHost
from tests.unit.modules.training_site import SHARDS, Site

MODULE = "training_job"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.release()


@pytest.fixture
def run(run_library: RunModule, scripted_host: ScriptedHost, site: Site) -> Any:
    """Run the module on this host: run("started", check_mode=..., <parameter>=...)."""

    def call(state: str, check_mode: bool = False, **changes: Any) -> ModuleResult:
        return run_library(MODULE, site.params(state=state, **changes), scripted_host, check_mode)

    return call


def start(run: Any, site: Site, host: ScriptedHost, **changes: Any) -> ModuleResult:
    """Start for real, with the commands that this takes."""
    site.expect_container(host)
    predicted = run("started", check_mode=True, **changes)
    site.expect_container(host)
    site.expect_supervisor(host, predicted["fingerprint"])
    result: ModuleResult = run("started", **changes)
    assert result.changed, result.data
    return result


def test_started_four_ways(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    site.expect_container(scripted_host)
    predicted = run("started", check_mode=True)
    assert predicted.changed
    assert not (site.root / "run").exists()
    first = start(run, site, scripted_host, reference_loss=6.01)
    assert first["diff"] == predicted["diff"]
    assert first["diff"]["after"]["inputs"]["checkpoint"]
    assert first["decision"] == "start"
    assert site.directory.name == first["fingerprint"]
    second = run("started")
    assert not second.changed
    assert "diff" not in second.data
    assert not run("started", check_mode=True).changed


def test_the_launch_file(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    first = start(run, site, scripted_host, reference_loss=6.01, environment={"EXTRA": 1})
    launch = site.launch()
    checkpoint = (site.root / "checkpoint" / "current").resolve()
    arguments = launch["arguments"]
    assert arguments[arguments.index("--load") + 1] == str(checkpoint)
    assert arguments[arguments.index("--save") + 1] == f"{site.root}/run/{first['fingerprint']}/checkpoints"
    assert not any("current" in text for text in arguments)
    assert launch["environment"] == {"NODE_RANK": "0", "EXTRA": "1"}
    assert launch["launcher"] == ["--nnodes", "2", "--node_rank", "0"]
    assert launch["store_port"] == 61235
    assert launch["nodes"] == ["npu-a", "npu-b"]
    expect = launch["expect"]
    assert (expect["loads"], expect["start"], expect["iterations"], expect["first_loss"]) == (True, 0, 20, 6.01)
    assert expect["random_loss"] == pytest.approx(6.931472)


def test_finished_four_ways(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    first = start(run, site, scripted_host)
    site.write_status(state="running", iteration=3, loss=5.5, ms_per_iteration=2000.0)
    running = run("finished", wait=0)
    assert not running.changed
    assert running["final"] is False
    assert running["progress"] == "running: iteration 3 of 20, loss 5.5000, 2.00 s an iteration, about 34 s left"
    assert run("finished", check_mode=True).changed
    site.succeed()
    predicted = run("finished", check_mode=True)
    assert predicted.changed
    assert not (site.directory / "receipt.json").exists()
    site.expect_container(scripted_host)
    sealed = run("finished", wait=0)
    assert sealed.changed
    assert sealed["diff"] == predicted["diff"] == {"before": {"run": "succeeded"}, "after": {"run": "finished"}}
    made = sealed["artifact"]["made_with"]
    assert made["losses"] == [[1, 6.0], [20, 4.5]]
    assert (made["seconds"], made["image_id"], made["attempts"]) == (30.5, "sha256:1", 1)
    assert set(sealed["artifact"]["parents"]) == {"checkpoint", "dataset", "weights", "source"}
    receipt = json.loads((site.directory / "receipt.json").read_text())
    assert "checkpoints/iter_0000020/mp_rank_00_000/model_optim_rng.pt" in receipt["outputs"]
    again = run("finished", wait=0)
    assert not again.changed
    assert again["final"] is True
    assert not run("started").changed
    assert run("started")["fingerprint"] == first["fingerprint"]


@pytest.mark.parametrize(("state", "waits"), [("ending", False), ("running", True)])
def test_it_answers_at_once_when_the_state_changes_and_in_a_while_when_it_goes_on(
    run: Any, site: Site, scripted_host: ScriptedHost, monkeypatch: pytest.MonkeyPatch, state: str, waits: bool
) -> None:
    monkeypatch.setattr(training_finish, "PACE", 0.2)
    slept: list[float] = []
    monkeypatch.setattr(training_finish.time, "sleep", slept.append)
    start(run, site, scripted_host)
    site.write_status(state="running", iteration=3)
    first = run("finished", wait=0)
    site.write_status(state=state, iteration=4)
    slept.clear()
    assert run("finished", wait=600, seen=first["seen"])["status"]["iteration"] == 4
    assert bool(slept) is waits


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("absent", "mp_rank_01_000/model_optim_rng.pt is absent or not whole"),
        ("short", "mp_rank_01_000/model_optim_rng.pt is absent or not whole"),
        ("empty", "mp_rank_01_000/model_optim_rng.pt is absent or not whole"),
        ("tracker", "names 10, not 20"),
        ("loss", "the last loss is None"),
        ("iteration", "the last iteration logged is 19 of 20"),
    ],
)
def test_a_success_is_verified(run: Any, site: Site, scripted_host: ScriptedHost, damage: str, text: str) -> None:
    start(run, site, scripted_host)
    site.succeed()
    shard = site.directory / "checkpoints" / "iter_0000020" / "mp_rank_01_000" / "model_optim_rng.pt"
    if damage == "absent":
        shard.unlink()
    elif damage == "short":
        shard.write_bytes(shard.read_bytes()[:-20])
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "tracker":
        (site.directory / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("10")
    elif damage == "loss":
        site.write_status(alive=False, state="succeeded", final=True, iteration=20, loss=None)
    else:
        site.write_status(alive=False, state="succeeded", final=True, iteration=19, loss=4.0)
    result = run("finished", wait=0)
    assert result.failed
    assert text in result["msg"]
    assert not (site.directory / "receipt.json").exists()


def test_a_failure_is_passed_on(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    (site.directory / "logs" / "node-0.log").write_text("a\nNPU out of memory\n")
    site.write_status(
        alive=False, state="failed", final=True, reason="It broke.", remedy="Mend it.", cause_node="npu-b"
    )
    result = run("finished", wait=0)
    assert result.failed
    assert result["msg"] == "Training failed [npu-b]: It broke. Remedy: Mend it."
    assert "NPU out of memory" in result["log_tail"]


def test_a_vanished_supervisor_is_said(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.write_status(alive=False, state="running", iteration=7)
    result = run("finished", wait=0)
    assert result.failed
    assert "gone without a verdict" in result["msg"]


def test_a_crashed_run_is_resumed(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    first = start(run, site, scripted_host)
    site.save(10)
    site.save(15)
    (site.directory / "checkpoints" / "iter_0000015" / "mp_rank_00_000" / "model_optim_rng.pt").write_bytes(b"cut")
    (site.directory / "stop").write_text("")
    site.write_status(alive=False, state="running", iteration=16)
    again = start(run, site, scripted_host)
    assert (again["decision"], again["attempt"], again["fingerprint"]) == ("resume", 2, first["fingerprint"])
    assert "iteration 10" in again["actions"][0]
    launch = site.launch()
    arguments = launch["arguments"]
    assert launch["expect"]["start"] == 10
    assert arguments[-2:] == ["--load", str(site.directory / "checkpoints")]
    assert arguments.count("--load") == 1
    assert "--no-load-optim" not in arguments
    assert "--no-load-rng" not in arguments
    assert (site.directory / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == "10"
    assert not (site.directory / "stop").exists()


def test_without_optimizer_state_nothing_is_resumed(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    site.options += ["--no-save-optim"]
    start(run, site, scripted_host)
    site.save(10)
    site.write_status(alive=False, state="failed", final=True, iteration=12)
    site.expect_container(scripted_host)
    refused = run("started")
    assert refused.failed
    assert "no optimizer state" in refused["msg"]
    again = start(run, site, scripted_host, new_run=True)
    assert again["decision"] == "start"
    old = site.directory.with_name(site.directory.name + ".attempt-1")
    assert (old / "checkpoints" / "iter_0000010").is_dir()
    assert not (site.directory / "checkpoints").exists()


def test_a_run_that_saved_nothing_starts_anew(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.write_status(alive=False, state="failed", final=True)
    again = start(run, site, scripted_host)
    assert (again["decision"], again["attempt"]) == ("start", 2)


def test_a_finished_run_is_not_given_up_unasked(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    first = start(run, site, scripted_host)
    site.succeed()
    site.expect_container(scripted_host)
    run("finished", wait=0)
    site.options = ["--lr", "5e-4"]
    for check_mode in (False, True):
        site.expect_container(scripted_host)
        refused = run("started", check_mode=check_mode)
        assert refused.failed
        assert "--lr: 1e-3 -> 5e-4" in refused["msg"]
        assert "pretraining_new_run: true" in refused["msg"]
        assert refused["differences"] == ["--lr: 1e-3 -> 5e-4"]
    other = start(run, site, scripted_host, new_run=True)
    assert other["fingerprint"] != first["fingerprint"]
    assert (site.root / "run" / first["fingerprint"] / "receipt.json").is_file()
    site.release()
    site.options = ["--lr", "1e-3"]
    back = run("started", new_run=True)
    assert back.changed, "the finished run is put in use again, and not trained again"
    assert back["decision"] == "none"
    assert site.directory.name == first["fingerprint"]


def test_a_running_run_is_never_superseded(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.write_status(state="running", iteration=5)
    site.options = ["--lr", "5e-4"]
    site.expect_container(scripted_host)
    refused = run("started", new_run=True)
    assert refused.failed
    assert "stop-training.yml" in refused["msg"]


def test_a_failed_run_that_left_nothing_gives_way(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.write_status(alive=False, state="failed", final=True)
    site.options = ["--lr", "5e-4"]
    assert start(run, site, scripted_host)["decision"] == "start"


def test_a_damaged_result_is_not_overwritten(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.succeed()
    site.expect_container(scripted_host)
    run("finished", wait=0)
    (site.directory / "checkpoints" / "iter_0000020" / "mp_rank_00_000" / "model_optim_rng.pt").unlink()
    for state in ("started", "finished"):
        refused = run(state)
        assert refused.failed
        assert "missing: checkpoints/iter_0000020/mp_rank_00_000/model_optim_rng.pt" in refused["msg"]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("container", "container train does not run (--tags container)"),
        ("worker", "supervise_training.py is absent (--tags weights"),
        ("tracker", "has no latest_checkpointed_iteration.txt: training would start from random weights"),
        ("shard", "mp_rank_01_000/model_optim_rng.pt is absent or not whole (--tags conversion)"),
        ("dataset", "lab_text_document.idx is absent (--tags preprocessing)"),
        ("script", "pretrain_gpt.py is absent (--tags source)"),
    ],
)
def test_what_stands_against_a_start(run: Any, site: Site, scripted_host: ScriptedHost, what: str, text: str) -> None:
    checkpoint = site.root / "checkpoint" / "current"
    remove = {
        "worker": site.root / "workers" / "supervise_training.py",
        "tracker": checkpoint / "latest_checkpointed_iteration.txt",
        "shard": checkpoint / "release" / "mp_rank_01_000" / "model_optim_rng.pt",
        "dataset": site.root / "dataset" / "current" / "lab_text_document.idx",
        "script": site.root / "source" / "MindSpeed-LLM" / "pretrain_gpt.py",
    }.get(what)
    if remove is not None:
        remove.unlink()
    site.expect_container(scripted_host, running=what != "container")
    result = run("started")
    assert result.failed
    assert text in result["msg"]
    assert not (site.root / "run").exists()


@pytest.mark.parametrize(
    ("made", "planned", "words"),
    [
        ({"tp": 2, "pp": 2}, {"tp": 1, "pp": 4}, "for TP 2 PP 2, and the plan asks for TP 1 PP 4 (--tags conversion)"),
        ({"layers_per_stage": [1, 3]}, {"layers_per_stage": []}, "for layers per stage [1, 3], and the plan"),
        ({"dtype": "fp16"}, {"dtype": "bf16"}, "for dtype fp16, and the plan asks for dtype bf16"),
    ],
)
def test_a_checkpoint_of_another_layout_is_named_and_not_loaded(
    run: Any, site: Site, scripted_host: ScriptedHost, made: dict[str, Any], planned: dict[str, Any], words: str
) -> None:
    """The page names TP and PP twice, for the conversion and for the training; shards of another layout may have the same names."""
    site.use_checkpoint({"c": 1, **made})
    site.expect_container(scripted_host)
    plan = {**site.plan(), "conversion": planned}
    result = run("started", plan=plan)
    assert result.failed
    assert words in result["msg"]
    assert "absent or not whole" not in result["msg"]
    assert not (site.root / "run").exists()


def test_a_taken_port_is_named(
    run: Any, site: Site, scripted_host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = scripted_host.read_text
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    row = "   0: 00000000:EF32 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 424242 1\n"
    fake = {"/proc/net/tcp": header + row, "/proc/net/tcp6": header}
    monkeypatch.setattr(scripted_host, "read_text", lambda path: fake.get(path) or read(path))
    site.expect_container(scripted_host)
    result = run("started")
    assert result.failed
    assert "port 61234 is taken" in result["msg"]


def test_a_silent_supervisor_is_an_error(
    run: Any, site: Site, scripted_host: ScriptedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_start, "SIGN_OF_LIFE", 0.0)
    site.expect_container(scripted_host)
    name = run("started", check_mode=True)["fingerprint"]
    site.expect_container(scripted_host)
    site.expect_supervisor(scripted_host, name, silent=True)
    log = site.root / "run" / name / "logs" / "supervisor-0.log"
    log.parent.mkdir(parents=True)
    log.write_text("python: No module named torch\n")
    result = run("started")
    assert result.failed
    assert "No module named torch" in result["msg"]


def test_stopped_four_ways(run: Any, site: Site, scripted_host: ScriptedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run("stopped").changed
    first = start(run, site, scripted_host)
    site.write_status(state="running", iteration=5, loss=5.0)
    predicted = run("stopped", check_mode=True)
    assert predicted.changed
    assert not (site.directory / "stop").exists()

    def let_it_end(seconds: float) -> None:
        assert (site.directory / "stop").exists()
        site.write_status(alive=False, state="stopped", final=True, iteration=5)

    monkeypatch.setattr("time.sleep", let_it_end)
    result = run("stopped")
    assert result.changed
    assert result["diff"] == predicted["diff"]
    assert result["diff"]["after"] == {first["fingerprint"]: "stopped"}
    assert result["runs"] == {first["fingerprint"]: "stopped: iteration 5 of 20"}
    assert not run("stopped").changed


def test_what_does_not_stop_is_an_error(run: Any, site: Site, scripted_host: ScriptedHost) -> None:
    start(run, site, scripted_host)
    site.write_status(state="running", iteration=5)
    result = run("stopped", stop_timeout=0)
    assert result.failed
    assert "did not end within 0 s" in result["msg"]


def test_check_mode_before_the_other_stages(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path
) -> None:
    bare = Site(tmp_path / "bare")
    for state in ("started", "finished"):
        result = run_library(MODULE, bare.params(state=state), scripted_host, check_mode=True)
        assert result.changed
        assert "checkpoint, dataset, weights, source" in result["actions"][0]
    refused = run_library(MODULE, bare.params(state="started"), scripted_host)
    assert refused.failed
    assert "--tags conversion" in refused["msg"]


def test_a_host_outside_of_the_plan(run: Any) -> None:
    result = run("started", host="npu-z")
    assert result.failed
    assert "npu-a, npu-b" in result["msg"]


def test_the_plan_is_needed(run: Any) -> None:
    assert "fleet_plan" in run("started", plan=None)["msg"]


def test_hosts_with_other_inputs_do_not_start(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path
) -> None:
    a, b = Site(tmp_path / "a").make(), Site(tmp_path / "b", "npu-b", options=["--lr", "9"]).make()
    looks = []
    for site in (a, b):
        site.expect_container(scripted_host)
        looks.append(run_library("training_job_info", site.params(), scripted_host)["look"])
    site.expect_container(scripted_host)
    result = run_library(MODULE, b.params(state="started", fleet=looks), scripted_host)
    assert result.failed
    assert "npu-a and npu-b would not train the same: --lr: 1e-3 -> 9" in result["msg"]


def test_a_problem_on_one_host_keeps_the_others_from_starting(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path
) -> None:
    a, b = Site(tmp_path / "a").make(), Site(tmp_path / "b", "npu-b").make()
    (b.root / "checkpoint" / "current" / "release" / SHARDS["npu-b"][0] / "model_optim_rng.pt").unlink()
    looks = []
    for site in (a, b):
        site.expect_container(scripted_host)
        looks.append(run_library("training_job_info", site.params(), scripted_host)["look"])
    assert looks[0]["fingerprint"] == looks[1]["fingerprint"], "the same run, wherever the work root is"
    a.expect_container(scripted_host)
    result = run_library(MODULE, a.params(state="started", fleet=looks), scripted_host)
    assert result.failed
    assert result["problems"][0].startswith("npu-b: ")


def test_info(run: Any, run_library: RunModule, site: Site, scripted_host: ScriptedHost, tmp_path: Path) -> None:
    def info(**changes: Any) -> ModuleResult:
        return run_library("training_job_info", site.params(**changes), scripted_host)

    nothing = info(plan=None)
    assert (nothing["run_state"], nothing["fingerprint"], nothing.changed) == ("absent", None, False)
    start(run, site, scripted_host)
    site.write_status(state="running", iteration=5, loss=5.0, ms_per_iteration=100.0, losses=[[1, 6.0]])
    found = info()
    assert found["run_state"] == "running"
    assert found["status"]["losses"] == [[1, 6.0]]
    assert found["look"]["alive"] is True
    current = info(plan=None)
    assert current["fingerprint"] == found["fingerprint"]
    assert current["progress"] == "running: iteration 5 of 20, loss 5.0000, 0.10 s an iteration, about 2 s left"
    site.succeed()
    site.expect_container(scripted_host)
    run("finished", wait=0)
    assert info(plan=None)["run_state"] == "finished"
    missing = run_library("training_job_info", Site(tmp_path / "bare").params(), scripted_host, check_mode=True)
    assert missing["missing"] == ["checkpoint", "dataset", "weights", "source"]
