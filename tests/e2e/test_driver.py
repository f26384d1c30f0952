# SPDX-License-Identifier: GPL-3.0-or-later
"""A sick server before a run: left out on request, with the plan made anew, and no run without it where that cannot work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Playbook, Run, on_host

pytestmark = pytest.mark.docker

SICK, WELL = "npu-2", "npu-1"
STATE = "/etc/ascend-lab/state.json"
ALARM = {"npus": {"2": {"health": "Alarm", "error_code": "80E01801", "error_information": "multi-bit error"}}}
# With two ranks a host, either host can do it alone.
EITHER = {"training_tp": 2, "training_pp": 1}


@pytest.fixture(scope="module", autouse=True)
def sick(lab: None) -> Iterator[None]:
    """One NPU of the run has an alarm."""
    on_host(SICK, f"mkdir -p {Path(STATE).parent} && printf %s '{json.dumps(ALARM)}' > {STATE}")
    try:
        yield
    finally:
        on_host(SICK, f"rm -f {STATE}")


def shown(run: Run) -> list[str]:
    """Return the lines about what differs between the passes of the plan."""
    lines = [result["lines"] for _, result in run.results("show_text") if "differ" in " ".join(result["lines"])]
    return [line for some in lines for line in some]


def confirmed(folder: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((folder / "plan-confirmed.json").read_text(encoding="utf-8"))
    return plan


def test_the_run_goes_on_without_a_sick_server(playbook: Playbook, tmp_path: Path) -> None:
    run = playbook(
        "site.yml",
        tags="driver,container",
        driver_check_on_problem="exclude",
        plan_output=str(tmp_path / "plan.json"),
        **EITHER,
    )
    assert run.failed() == {SICK}, "which is reported; the others go on"
    assert [host for host, _ in run.results("npu_container")] == [WELL]
    assert shown(run)[1:] == [
        f"Host {SICK} is left out of this run, as the driver check decided.",
        "ranks: 4 as declared, 2 as found.",
        "DP: 2 as declared, 1 as found.",
        "Global batch: 16 samples, for which each rank computes 8 micro batches of 2 a step, 4 as declared.",
        "Training argument --no-shared-storage: set as declared, absent as found.",
    ]
    plan = confirmed(tmp_path)
    assert [(host["name"], host["node_rank"]) for host in plan["hosts"]] == [(WELL, 0)]
    facts = [result["ansible_facts"] for _, result in run.results("ansible.builtin.set_fact")]
    assert [fact["fleet_plan"] for fact in facts if "fleet_plan" in fact][-1] == plan, "later stages follow the second"


def test_the_run_stops_where_it_does_not_work_without_the_sick_server(playbook: Playbook, tmp_path: Path) -> None:
    run = playbook(
        "site.yml",
        tags="driver,container",
        driver_check_on_problem="exclude",
        plan_output=str(tmp_path / "plan.json"),
    )
    assert run.failed() == {SICK, WELL}
    (refusal,) = [message for message in run.failures().values() if "does not work without" in message]
    assert f"without {SICK}, as the driver check left it: 2 NPUs on 1 host cannot be divided" in refusal
    assert list(run.results("npu_container")) == []


def test_a_sick_server_that_is_not_left_out_stops_the_run(playbook: Playbook, tmp_path: Path) -> None:
    run = playbook("site.yml", tags="driver,container", plan_output=str(tmp_path / "plan.json"), **EITHER)
    assert run.failed() == {SICK, WELL}
    assert f"does not go on without {SICK}:" in run.failures()[WELL]
    assert list(run.results("npu_container")) == []
    assert not (tmp_path / "plan-confirmed.json").exists()
