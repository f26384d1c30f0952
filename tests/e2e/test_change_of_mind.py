# SPDX-License-Identifier: GPL-3.0-or-later
"""Other parallel sizes in the inventory of a finished site: refused with the difference, carried out on request, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Playbook, Snapshots, current_receipt, look_everywhere, on_host
from tests.runs import Run

pytestmark = pytest.mark.docker

OTHER: dict[str, Any] = {"training_tp": 1, "training_pp": 2}
KEPT = ("weights", "checkpoint", "dataset", "run")


@dataclass(frozen=True)
class Mind:
    """A finished site, and after each run of the change; `names` are the fingerprints in use, by stage, on npu-1."""

    before: Snapshots
    refused: Run
    after_refusal: Snapshots
    anew: Run
    after: Snapshots
    names: dict[str, str]


@pytest.fixture(scope="module")
def mind(finished: str, playbook: Playbook) -> Iterator[Mind]:
    before = look_everywhere()
    refused = playbook("site.yml", **OTHER)
    after_refusal = look_everywhere()
    anew = playbook("site.yml", pretraining_new_run=True, **OTHER)
    names = {stage: current_receipt("npu-1", stage)["fingerprint"] for stage in KEPT}
    yield Mind(before, refused, after_refusal, anew, look_everywhere(), names)
    if current_receipt("npu-1", "run")["fingerprint"] != finished:
        assert playbook("site.yml").rc == 0


def test_without_a_word_the_run_stops_with_the_difference(mind: Mind, finished: str) -> None:
    assert mind.refused.failed() == set(NPU_HOSTS)
    for host in NPU_HOSTS:
        problem = mind.refused.problem(host)
        assert f"Another run ({finished}, finished) is in use on {host}" in problem["what"]
        assert "--tensor-model-parallel-size: 2 -> 1" in problem["what"]
        assert "world.tp: 2 -> 1" in problem["what"]
        assert "pretraining_new_run: true" in problem["remedy"]


def test_the_difference_is_in_the_result(mind: Mind) -> None:
    failed = dict(mind.refused.results("training_job", kinds=("runner_on_failed",)))
    for host in NPU_HOSTS:
        assert failed[host]["diff"]["before"]["world"]["tp"] == 2
        assert failed[host]["diff"]["after"]["world"]["tp"] == 1


def test_a_refusal_leaves_everything(mind: Mind) -> None:
    assert mind.refused.changed_on_servers() == []
    for host in (*NPU_HOSTS, "staging-1"):
        assert mind.after_refusal[host] == mind.before[host]


def test_on_request_conversion_and_training_run_anew_and_nothing_else(mind: Mind) -> None:
    assert mind.anew.rc == 0, mind.anew.output[-4000:]
    assert mind.anew.changed_on_servers() == [
        ("npu-1", "mcore_checkpoint"),
        ("npu-1", "training_job follow"),
        ("npu-1", "training_job start"),
        ("npu-2", "artifact_sync checkpoint"),
        ("npu-2", "training_job follow"),
        ("npu-2", "training_job start"),
    ]
    assert mind.anew.change("npu-1", "mcore_checkpoint").result["diff"]["before"]["inputs"]["tp"] == 2


def test_the_new_results_lie_in_new_directories(mind: Mind, finished: str) -> None:
    assert mind.names["run"] != finished
    for host, shard in (("npu-1", "mp_rank_00_000"), ("npu-2", "mp_rank_00_001")):
        files = mind.after[host].files
        assert f"{WORK_ROOT}/checkpoint/{mind.names['checkpoint']}/release/{shard}/model_optim_rng.pt" in files
        assert f"{WORK_ROOT}/run/{mind.names['run']}/checkpoints/iter_0000020/{shard}/model_optim_rng.pt" in files


def test_the_old_results_stay_as_they_are(mind: Mind) -> None:
    for host in NPU_HOSTS:
        old = {
            path: file
            for path, file in mind.before[host].below(*[f"{WORK_ROOT}/{stage}" for stage in KEPT]).items()
            if not path.endswith(("/current", "/.lock", "/.progress"))
        }
        now = mind.after[host].files
        assert {path for path, file in old.items() if now.get(path) != file} == set()


def test_going_back_finds_the_old_results(mind: Mind, finished: str, playbook: Playbook) -> None:
    back = playbook("site.yml")
    assert back.rc == 0, back.output[-4000:]
    assert back.changed_on_servers() == [
        ("npu-1", "mcore_checkpoint"),
        ("npu-1", "training_job start"),
        ("npu-2", "artifact_sync checkpoint"),
        ("npu-2", "training_job start"),
    ]
    assert back.change("npu-1", "mcore_checkpoint").result["found"] == "not-current"
    assert back.change("npu-2", "artifact_sync checkpoint").result["files_to_fetch"] == 0
    assert back.change("npu-2", "training_job start").actions == [f"run {finished}: put in use"]
    for host in NPU_HOSTS:
        assert on_host(host, f"readlink {WORK_ROOT}/run/current").strip() == finished
        trained = f"{WORK_ROOT}/run/{mind.names['run']}/"
        assert mind.after[host].below(trained.rstrip("/")).items() <= look_everywhere()[host].files.items()
