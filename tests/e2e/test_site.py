# SPDX-License-Identifier: GPL-3.0-or-later
"""The mission, once and for real: from bare servers to a training run whose loss falls; then again, and nothing to do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Mission, Playbook, Run, current_receipt, on_host

pytestmark = pytest.mark.docker

VOCABULARY = 1024
ITERATIONS = 20
PLAYS = (  # the stages of site.yml that every training host goes through
    "Plan the run",
    "Check the drivers",
    "Create the training containers",
    "Install the sources",
    "Bring the weights",
    "Convert the weights",
    "Preprocess the dataset",
    "Train the model",
    "Report the run",
)
SHARDS = {"npu-1": ["mp_rank_00_000", "mp_rank_01_000"], "npu-2": ["mp_rank_00_001", "mp_rank_01_001"]}


@pytest.fixture(scope="module")
def first_run(mission: Mission) -> Run:
    return mission.run


@pytest.fixture(scope="module")
def report(mission: Mission) -> Path:
    """Where the first run wrote its report; the data stand beside it."""
    return mission.report


def test_bare_servers_end_without_failures(first_run: Run) -> None:
    assert first_run.rc == 0, first_run.output[-4000:]
    assert first_run.failed() == set()
    assert set(first_run.changed()) >= set(NPU_HOSTS)


def test_the_loss_starts_at_the_models_own_and_falls(first_run: Run) -> None:
    assert first_run.rc == 0
    run = current_receipt("npu-2", "run")  # the last pipeline stage, which alone logs the loss
    losses = dict(run["made_with"]["losses"])
    assert sorted(losses)[0] == 1, "a skipped first batch would start at 2"
    reference = current_receipt("npu-1", "reference")["made_with"]["loss"]
    assert losses[1] == pytest.approx(reference, abs=0.02)
    assert losses[1] < math.log(VOCABULARY) - 1.5, "random weights would start near ln(vocabulary)"
    assert losses[ITERATIONS] < losses[1] - 0.1


def test_every_writing_host_has_its_shards(first_run: Run) -> None:
    assert first_run.rc == 0
    for host, shards in SHARDS.items():
        folder = f"{WORK_ROOT}/run/current/checkpoints/iter_{ITERATIONS:07d}"
        assert on_host(host, f"ls {folder}").split() == shards
        kept = (
            sorted(sum(SHARDS.values(), [])) if host == "npu-1" else shards
        )  # the conversion host keeps the whole set
        assert on_host(host, f"ls {WORK_ROOT}/checkpoint/current/release").split() == kept


def test_receipts_chain(first_run: Run) -> None:
    assert first_run.rc == 0
    run = current_receipt("npu-2", "run")
    for stage in ("checkpoint", "dataset"):
        assert run["parents"][stage] == current_receipt("npu-2", stage)["fingerprint"]
    assert (
        current_receipt("npu-1", "checkpoint")["parents"]["weights"]
        == current_receipt("npu-1", "weights")["fingerprint"]
    )


def test_no_key_of_the_run_is_left(first_run: Run) -> None:
    assert first_run.rc == 0
    for host in (*NPU_HOSTS, "staging-1"):
        assert "ascend-fleet " not in on_host(host, "cat ~/.ssh/authorized_keys 2>/dev/null || true")


def test_the_report_has_every_stage_and_the_loss(first_run: Run, report: Path) -> None:
    assert first_run.rc == 0
    known = json.loads(report.with_suffix(".json").read_text())
    page = report.read_text()
    plays = {play["name"]: play["hosts"] for play in known["run"]["is"]["plays"]}
    for name in PLAYS:
        assert set(NPU_HOSTS) <= set(plays[name])
        assert name in page
    training = plays["Train the model"]["npu-2"]
    assert training["ended"] - training["started"] > 5
    assert training["failed"] == 0
    losses = current_receipt("npu-2", "run")["made_with"]["losses"]
    assert known["hosts"]["is"]["npu-2"]["state"]["losses"] == losses
    assert 'class="loss"' in page
    for stage in ("source", "weights", "checkpoint", "dataset", "reference", "run"):
        assert any(f'>{stage}</td><td class="mono">{receipt["fingerprint"]}' in page for receipt in held(known, stage))


def held(known: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    hosts = known["hosts"]["is"].values()
    return [receipt for host in hosts for receipt in host["receipts"] if receipt["stage"] == stage]


def test_the_second_run_changes_nothing(first_run: Run, playbook: Playbook, report: Path) -> None:
    assert first_run.rc == 0
    before = json.loads(report.with_suffix(".json").read_text())
    again = playbook("site.yml", report_output=str(report))
    assert again.rc == 0, again.output[-4000:]
    assert again.changed() == {}, again.output[-6000:]
    after = json.loads(report.with_suffix(".json").read_text())
    assert after["run"]["is"]["changed"] == 0
    assert after["worked"] == before["run"], "the report keeps the times of the run that did the work"


def test_a_typed_load_directory_is_refused(first_run: Run, playbook: Playbook) -> None:
    """Upstream trains random weights from a wrong one and exits 0; what the supervisor makes of that: unit/upstream."""
    assert first_run.rc == 0
    before = on_host("npu-2", f"readlink {WORK_ROOT}/run/current")
    arguments = {"load": f"{WORK_ROOT}/nothing-here"}
    failed = playbook(
        "site.yml", tags="training", run_plan_overrides={"arguments": arguments}, pretraining_new_run=True
    )
    assert failed.rc != 0
    assert "nothing-here" in failed.output
    assert on_host("npu-2", f"readlink {WORK_ROOT}/run/current") == before, "a refused run is never the one in use"
