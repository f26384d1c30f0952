# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook, run for real on the controller alone: by itself and imported by a playbook in another directory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import ansible_runner
import pytest

from tests.unit.plan import given

PLAYBOOK = given.ROOT / "playbooks" / "plan-run.yml"


@pytest.fixture
def inventory(tmp_path: Path) -> dict[str, Any]:
    """Two training hosts and a staging host, none of which has an address that could be reached."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(given.config()), encoding="utf-8")
    training = {host["name"]: {"ansible_host": host["address"]} for host in given.hosts()}
    return {
        "ascend": {"hosts": training},
        "training": {"hosts": dict.fromkeys(training, {})},
        "staging": {"hosts": {"staging-1": {"ansible_host": "192.0.2.1"}}},
        "all": {
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "ascend_work_root": "/data/ascend-fleet",
                "ascend_interface": "eth0",
                "ascend_npus": [2, 3],
                "mindspeed_release": "2.0.0",
                "training_recipe": "qwen2-lab",
                "training_hosts": "{{ groups['training'] }}",
                "plan_hf_config": str(config),
            }
        },
    }


def run(tmp_path: Path, playbook: Path, inventory: dict[str, Any], **variables: Any) -> ansible_runner.Runner:
    return ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(given.ROOT),
        playbook=str(playbook),
        inventory=inventory,
        extravars=variables,
        envvars={
            "ANSIBLE_CONFIG": str(given.ROOT / "ansible.cfg"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
        quiet=True,
    )


def results(runner: ansible_runner.Runner, event: str, task: str) -> dict[str, Any]:
    """Return host -> result of the task that this name ends."""
    data = [item["event_data"] for item in runner.events if item["event"] == event]
    return {item["host"]: item["res"] for item in data if item["task"].endswith(task)}


def test_every_host_gets_the_plan_and_no_host_is_touched(tmp_path: Path, inventory: dict[str, Any]) -> None:
    above = tmp_path / "site.yml"  # as site.yml does it, from where no releases/ and recipes/ are near
    above.write_text(f"- name: Plan\n  ansible.builtin.import_playbook: {PLAYBOOK}\n", encoding="utf-8")
    for playbook in (PLAYBOOK, above):
        runner = run(tmp_path, playbook, inventory)
        assert runner.rc == 0, runner.stdout.read()
        facts = results(runner, "runner_on_ok", "Give the plan to every host")
        assert set(facts) == {"npu-1", "npu-2", "staging-1"}
        assert all(fact["ansible_facts"]["fleet_plan"] == given.make() for fact in facts.values())
        assert not any(runner.stats["changed"].values())


def test_a_mistyped_name_and_a_wrong_size_in_one_report(tmp_path: Path, inventory: dict[str, Any]) -> None:
    runner = run(tmp_path, PLAYBOOK, inventory, mindspeed_release="2.0", training_tp=8)
    assert runner.rc != 0
    failed = results(runner, "runner_on_failed", "Make the run plan")
    (result,) = failed.values()
    assert [item["code"] for item in result["refusals"]] == ["release-unknown", "tensor-parallel", "world-size"]
    assert "Those that exist: 2.0.0" in result["problems"][0]


def test_config_json_comes_from_the_staging_host(tmp_path: Path, inventory: dict[str, Any]) -> None:
    """The staging host may be the controller itself, and its copy is then read in place."""
    variables = inventory["all"]["vars"]
    variables |= {"ascend_staging_host": "staging-1", "ascend_staging_model": str(tmp_path)}
    del variables["plan_hf_config"]
    inventory["staging"]["hosts"]["staging-1"]["ansible_connection"] = "local"
    (tmp_path / "config.json").write_text(json.dumps(given.config(num_hidden_layers=6)), encoding="utf-8")
    runner = run(tmp_path, PLAYBOOK, inventory)
    facts = results(runner, "runner_on_ok", "Give the plan to every host")
    assert facts["npu-1"]["ansible_facts"]["fleet_plan"]["conversion"]["layers_per_stage"] == [3, 3]


def test_nowhere_to_read_config_json_from(tmp_path: Path, inventory: dict[str, Any]) -> None:
    del inventory["all"]["vars"]["plan_hf_config"]
    runner = run(tmp_path, PLAYBOOK, inventory)
    (result,) = results(runner, "runner_on_failed", "Require a place to read config.json from").values()
    assert "plan_hf_config" in result["msg"]
