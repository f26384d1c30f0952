# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to a training run besides going well: wrong weights, changed inputs, being left alone, stopped and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import NPU_HOSTS, WORK_ROOT, Playbook, current_receipt, on_host

pytestmark = pytest.mark.docker

# Long enough to be interrupted, with everything in its checkpoints that a resumed run needs.
LONG: dict[str, Any] = {
    "run_plan_overrides": {
        "iterations": 150,
        "save_interval": 20,
        "arguments": {
            "no-save-optim": False,
            "no-save-rng": False,
            "no-load-optim": False,
            "no-load-rng": False,
        },
    },
    "pretraining_grace": 10,
}
TRACKER = f"{WORK_ROOT}/checkpoint/current/latest_checkpointed_iteration.txt"


def status(host: str, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_host(host, f"cat {WORK_ROOT}/run/current/status-{rank}.json"))
    return found


@pytest.fixture(scope="module", autouse=True)
def put_back(finished: str, playbook: Playbook) -> Iterator[None]:
    """The finished run is in use again at the end, and the others are gone."""
    yield
    if on_host("npu-1", f"readlink {WORK_ROOT}/run/current").strip() != finished:
        playbook("playbooks/stop-training.yml")
        assert playbook("site.yml", pretraining_new_run=True).rc == 0
    for host in NPU_HOSTS:
        on_host(host, f"cd {WORK_ROOT}/run; ls | grep -vx -e current -e {finished} | xargs -r rm -r")


def test_changed_inputs_do_not_supersede_a_finished_run(finished: str, playbook: Playbook) -> None:
    for cmdline in ("", "--check"):
        refused = playbook("site.yml", tags="training", cmdline=cmdline, **LONG)
        assert refused.failed() == set(NPU_HOSTS)
        assert "--train-iters: 20 -> 150" in refused.output
    assert current_receipt("npu-1", "run")["fingerprint"] == finished


def test_nothing_starts_where_one_host_would_start_from_random_weights(finished: str, playbook: Playbook) -> None:
    tracker = on_host("npu-2", f"cat {TRACKER}; rm {TRACKER}")
    try:
        refused = playbook("site.yml", tags="training", pretraining_new_run=True, **LONG)
        assert refused.failed() == set(NPU_HOSTS)
        assert "training would start from random weights" in refused.output
        for host in NPU_HOSTS:
            assert on_host(host, f"readlink {WORK_ROOT}/run/current").strip() == finished
    finally:
        on_host("npu-2", f"printf %s {tracker} > {TRACKER}")


def test_a_run_is_left_stopped_and_resumed(finished: str, playbook: Playbook) -> None:
    left = playbook("site.yml", tags="training", pretraining_new_run=True, pretraining_timeout=25, **LONG)
    assert left.failed() == set(NPU_HOSTS)
    assert "It goes on" in left.output
    again = playbook("site.yml", tags="training", pretraining_timeout=1, **LONG)
    assert again.failed() == set(NPU_HOSTS)
    assert again.changed() == {}, "a run that goes on is left alone"
    stopped = playbook("playbooks/stop-training.yml")
    assert set(stopped.changed()) == set(NPU_HOSTS)
    assert playbook("playbooks/stop-training.yml").changed() == {}
    at = status("npu-1", 0)
    assert at["state"] == "stopped"
    assert at["saved"] is not None, f"stopped before the first checkpoint: {at}"
    resumed = playbook("site.yml", tags="training", **LONG)
    assert resumed.rc == 0, resumed.output[-4000:]
    end = status("npu-2", 1)
    assert (end["attempt"], end["iteration"], end["state"]) == (2, 150, "succeeded")
    assert end["start_iteration"] == end["loaded_iteration"] == at["saved"]
    numbers = [point[0] for point in end["losses"]]
    assert numbers == list(range(1, 151)), "one loss curve over both attempts"
    assert end["losses"][-1][1] < end["losses"][0][1] - 0.3
    assert current_receipt("npu-2", "run")["made_with"]["attempts"] == 2


@pytest.mark.long
def test_a_host_that_saved_nothing_goes_on_with_what_the_other_saved(finished: str, playbook: Playbook) -> None:
    """Two tensor ranks on each host: both hosts load the same shards, and only the first one writes them."""
    replicated = {**LONG, "training_tp": 2, "training_pp": 1}
    left = playbook("site.yml", pretraining_new_run=True, pretraining_timeout=25, **replicated)
    assert left.failed() == set(NPU_HOSTS)
    assert playbook("playbooks/stop-training.yml").rc == 0
    at = status("npu-1", 0)["saved"]
    assert at is not None
    shards = f"find {WORK_ROOT}/run/current/ -path '*/iter_{at:07d}/*' -name '*.pt' -printf '%P\\n'"
    saved = on_host("npu-1", shards).split()
    assert len(saved) == 2
    assert on_host("npu-2", shards) == "", "only the first of the replicas writes"
    resumed = playbook("site.yml", **replicated)
    assert resumed.rc == 0, resumed.output[-4000:]
    (brought,) = [
        change for change in resumed.changes() if change.host == "npu-2" and change.what.startswith("artifact_sync")
    ]
    assert f"iter_{at:07d}/npu-1" in brought.what
    assert all(path.split("/")[-2] in str(brought.result) for path in saved)
    assert on_host("npu-2", shards) == "", "what was brought has gone with the end of the run"
    for rank, host in enumerate(NPU_HOSTS):
        end = status(host, rank)
        assert (end["attempt"], end["state"]) == (2, "succeeded")
        assert end["start_iteration"] == end["loaded_iteration"] == at
    losses = status("npu-2", 1)["losses"]
    assert [point[0] for point in losses] == list(range(1, 151)), "one loss curve over both attempts"
    assert losses[-1][1] < losses[0][1] - 0.3
    assert playbook("site.yml", **replicated).changed() == {}


def test_the_status_is_shown_without_a_plan(finished: str, playbook: Playbook) -> None:
    shown = playbook("playbooks/show-status.yml")
    assert shown.rc == 0
    assert shown.changed() == {}
    for host in NPU_HOSTS:
        assert f"{host}            " in shown.output
