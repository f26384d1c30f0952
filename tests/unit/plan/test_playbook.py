# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook, run for real on the controller alone: by itself and imported by a playbook in another directory."""

from __future__ import annotations

import json
import os
import subprocess
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
                "plan_output": str(tmp_path / "plan.json"),
            }
        },
    }


def run(
    tmp_path: Path, playbook: Path, inventory: dict[str, Any], cmdline: str = "", **variables: Any
) -> ansible_runner.Runner:
    return ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(given.ROOT),
        playbook=str(playbook),
        inventory=inventory,
        extravars=variables,
        cmdline=cmdline,
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
        assert json.loads((tmp_path / "plan.json").read_text()) == given.make()
        # Only the file of the plan, and only once.
        assert sum(runner.stats["changed"].values()) == (1 if playbook == PLAYBOOK else 0)


def test_a_mistyped_name_and_a_wrong_size_in_one_report(tmp_path: Path, inventory: dict[str, Any]) -> None:
    runner = run(tmp_path, PLAYBOOK, inventory, mindspeed_release="2.0", training_tp=8)
    assert runner.rc != 0
    failed = results(runner, "runner_on_failed", "Make the run plan")
    (result,) = failed.values()
    assert [item["code"] for item in result["refusals"]] == ["release-unknown", "tensor-parallel", "world-size"]
    assert "Those that exist: 1.0.0, 1.0.RC3, 2.0.0" in result["problems"][0]
    assert "Run plan: refused" in (tmp_path / "plan.html").read_text(), "the page tells it, too"


def test_check_mode_predicts_the_files_and_writes_none(tmp_path: Path, inventory: dict[str, Any]) -> None:
    runner = run(tmp_path, PLAYBOOK, inventory, "--check")
    assert runner.rc == 0, runner.stdout.read()
    (made,) = results(runner, "runner_on_ok", "Make the run plan").values()
    assert [Path(action).name for action in made["actions"]] == ["plan.json", "plan.html"]
    assert not list(tmp_path.glob("plan*"))


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


UNREADABLE = [
    ("{oops", "is no JSON"),
    ("", "is empty"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
    (None, "cannot be read (No such file or directory)"),
]


@pytest.mark.parametrize(("text", "says"), UNREADABLE)
def test_a_config_that_cannot_be_read_is_a_problem_of_the_plan(
    tmp_path: Path, inventory: dict[str, Any], text: str | None, says: str
) -> None:
    config = tmp_path / "config.json"
    config.unlink() if text is None else config.write_text(text, encoding="utf-8")
    runner = run(tmp_path, PLAYBOOK, inventory, training_tp=8)
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    assert [item["code"] for item in result["refusals"]] == ["config-unreadable", "world-size"]
    assert str(config) in result["problems"][0]
    assert says in result["problems"][0]


@pytest.mark.parametrize("directory", [False, True])
def test_a_staging_host_without_config_json_is_a_problem_of_the_plan(
    tmp_path: Path, inventory: dict[str, Any], directory: bool
) -> None:
    variables = inventory["all"]["vars"]
    variables |= {"ascend_staging_host": "staging-1", "ascend_staging_model": str(tmp_path / "model")}
    del variables["plan_hf_config"]
    inventory["staging"]["hosts"]["staging-1"]["ansible_connection"] = "local"
    if directory:
        (tmp_path / "model" / "config.json").mkdir(parents=True)
    runner = run(tmp_path, PLAYBOOK, inventory)
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    assert [item["code"] for item in result["refusals"]] == ["config-unreadable"]
    assert f"{tmp_path}/model/config.json" in result["problems"][0]


def test_an_empty_recipe_is_a_problem_of_the_plan(tmp_path: Path, inventory: dict[str, Any]) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yml").write_text("---\n", encoding="utf-8")
    mine = {"run_plan_recipes_dir": str(tmp_path / "recipes"), "training_recipe": "mine"}
    runner = run(tmp_path, PLAYBOOK, inventory, **mine)
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    assert [item["code"] for item in result["refusals"]] == ["recipe-empty"]
    assert "'mine'" in result["problems"][0]


def test_nowhere_to_read_config_json_from(tmp_path: Path, inventory: dict[str, Any]) -> None:
    del inventory["all"]["vars"]["plan_hf_config"]
    runner = run(tmp_path, PLAYBOOK, inventory)
    (result,) = results(runner, "runner_on_failed", "Require a place to read config.json from").values()
    assert "plan_hf_config" in result["msg"]


def test_nothing_is_written_where_nothing_is_asked_for(tmp_path: Path, inventory: dict[str, Any]) -> None:
    runner = run(tmp_path, PLAYBOOK, inventory, plan_output="")
    assert runner.rc == 0
    assert not any(runner.stats["changed"].values())
    assert not (tmp_path / "plan.json").exists()


def test_a_tag_of_another_stage_prints_the_summary(tmp_path: Path, inventory: dict[str, Any]) -> None:
    def shown(*arguments: str) -> str:
        runner = run(tmp_path, PLAYBOOK, inventory, cmdline=" ".join(arguments))
        return "\n".join(results(runner, "runner_on_ok", "Show | Show the plan").popitem()[1]["lines"])

    assert "torchrun" in shown()
    assert "torchrun" in shown("--tags", "plan")
    summary = shown("--tags", "training")
    assert "torchrun" not in summary
    assert summary.startswith("Release 2.0.0, recipe qwen2-lab")


def test_a_run_that_does_not_fit_leaves_what_does_in_the_file(tmp_path: Path, inventory: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(given.CODER_7B), encoding="utf-8")
    large = {"training_recipe": "qwen2.5-coder-7b-32k", "training_tp": 2, "training_pp": 2}
    runner = run(tmp_path, PLAYBOOK, inventory, **large)
    assert runner.rc != 0
    written = json.loads((tmp_path / "plan.json").read_text())
    assert [item["kind"] for item in written["suggestions"]] == ["sequence", "sizes", "sizes", "sizes"]
    runner = run(tmp_path, PLAYBOOK, inventory, **large, plan_search=True)
    assert runner.rc == 0
    assert json.loads((tmp_path / "plan.json").read_text())["tp"] == 4


def test_the_tokenizer_beside_config_json_is_looked_at(tmp_path: Path, inventory: dict[str, Any]) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": null}', encoding="utf-8")
    runner = run(tmp_path, PLAYBOOK, inventory, run_plan_overrides={"dataset": {"append_eod": True}})
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    assert [item["code"] for item in result["refusals"]] == ["tokenizer-eod"]


def test_a_privileged_container_is_given_physical_ids(tmp_path: Path, inventory: dict[str, Any]) -> None:
    run(tmp_path, PLAYBOOK, inventory, training_container_privileged=True)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["physical_ids"] is True
    assert {host["visible_devices"] for host in plan["hosts"]} == {"2,3"}


CONFIRM = """
- name: Check the drivers
  hosts: ascend
  gather_facts: false
  tasks:
    - name: Measure
      ansible.builtin.set_fact:
        driver_check_server:
          chips: [{phy_id: 2, hbm_total_mb: 32768}, {phy_id: 3, hbm_total_mb: 65536}, {phy_id: 0, hbm_total_mb: 1}]
    - name: Leave a host out
      ansible.builtin.set_fact:
        driver_check_excluded: "{{ left_out | default([]) }}"
    - name: Fail on a host
      ansible.builtin.fail:
        msg: no driver
      when: inventory_hostname in left_out | default([]) + failing | default([])
- name: Confirm the plan
  hosts: ascend:staging
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Confirm the plan
      ansible.builtin.include_role:
        name: run_plan
        tasks_from: confirm.yml
"""


@pytest.fixture
def twice(tmp_path: Path, inventory: dict[str, Any]) -> Path:
    """A playbook that plans, measures and plans again, on hosts that are all this machine."""
    for host in inventory["ascend"]["hosts"].values():
        host |= {"ansible_connection": "local", "ascend_address": host["ansible_host"]}
    inventory["staging"]["hosts"]["staging-1"]["ansible_connection"] = "local"
    playbook = tmp_path / "twice.yml"
    playbook.write_text(f"- name: Plan\n  ansible.builtin.import_playbook: {PLAYBOOK}\n{CONFIRM}", encoding="utf-8")
    return playbook


def test_the_second_pass_takes_what_was_measured(tmp_path: Path, inventory: dict[str, Any], twice: Path) -> None:
    runner = run(tmp_path, twice, inventory)
    assert runner.rc == 0, runner.stdout.read()
    (shown,) = results(runner, "runner_on_ok", "Show what differs from what was declared").values()
    assert [line for line in shown["lines"] if "npu-1" in line] == [
        "Host npu-1: NPUs with 64.0 GiB as declared, 32.0 GiB as npu-smi reports their total."
    ]
    facts = results(runner, "runner_on_ok", "Give the plan to every host")
    plans = [fact["ansible_facts"]["fleet_plan"] for fact in facts.values()]
    assert {need["capacity"] for plan in plans for need in plan["memory"]} == {32768 << 20}
    assert json.loads((tmp_path / "plan-confirmed.json").read_text()) == plans[0]
    assert (tmp_path / "plan.html").read_text() != (tmp_path / "plan-confirmed.html").read_text()
    again = run(tmp_path, twice, inventory)
    assert not any(again.stats["changed"].values())


def test_the_second_pass_is_silent_where_nothing_differs(
    tmp_path: Path, inventory: dict[str, Any], twice: Path
) -> None:
    runner = run(tmp_path, twice, inventory, run_plan_hbm_mb=32768)
    assert runner.rc == 0, runner.stdout.read()
    assert results(runner, "runner_on_ok", "Show what differs from what was declared") == {}


def test_the_second_pass_goes_on_with_the_hosts_that_are_left(
    tmp_path: Path, inventory: dict[str, Any], twice: Path
) -> None:
    for host in inventory["ascend"]["hosts"].values():
        host["ascend_npus"] = [2, 3, 4, 5]
    runner = run(tmp_path, twice, inventory, left_out=["npu-1"])
    (shown,) = results(runner, "runner_on_ok", "Show what differs from what was declared").values()
    assert "Host npu-1 is left out of this run, as the driver check decided." in shown["lines"]
    assert shown["lines"][3:] == [
        "ranks: 8 as declared, 4 as found.",
        "DP: 2 as declared, 1 as found.",
        "Global batch: 16 samples, for which each rank computes 8 micro batches of 2 a step, 4 as declared.",
        "Host npu-2: node 1 with ranks 4-7 as declared, node 0 with ranks 0-3 as found.",
        "The ranks meet on 192.0.2.11 as declared, on 192.0.2.12 as found.",
        "Conversion host: npu-1 as declared, npu-2 as found.",
        "Training argument --no-shared-storage: set as declared, absent as found.",
    ]
    written = json.loads((tmp_path / "plan-confirmed.json").read_text())
    assert [host["name"] for host in written["hosts"]] == ["npu-2"]
    assert written["launch"]["master_addr"] == "192.0.2.12"


def test_the_second_pass_refuses_what_does_not_fit_after_all(
    tmp_path: Path, inventory: dict[str, Any], twice: Path
) -> None:
    runner = run(tmp_path, twice, inventory, left_out=["npu-2"])
    assert runner.rc != 0
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    assert [item["code"] for item in result["refusals"]] == ["world-size"]
    assert result["problems"][0].startswith(
        "The run does not work without npu-2, as the driver check left it: 2 NPUs on 1 host"
    )


@pytest.mark.parametrize(("hosts", "odd"), [(["npu-1"], "npu-2 is"), (["npu-2", "npu-3"], "npu-1, npu-3 are")])
def test_hosts_of_the_run_outside_the_group_are_named(
    tmp_path: Path, inventory: dict[str, Any], hosts: list[str], odd: str
) -> None:
    runner = run(tmp_path, PLAYBOOK, inventory, training_hosts=hosts)
    assert runner.rc != 0
    (result,) = results(
        runner, "runner_on_failed", "Require the hosts of the run to be those of the group training"
    ).values()
    assert f"differ: {odd} in one of them only" in result["msg"].replace("\n", " ")
    assert "as in inventory/prod" in result["msg"]


MISPLACED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a name in place of a list": (
        {"training_hosts": "npu-1"},
        ["training_hosts is 'npu-1', which is no list of hosts"],
    ),
    "a server that is not prepared": (
        {"run_plan_prepared": ["npu-2"]},
        ["npu-1 is to train, and is not in the group ascend"],
    ),
    "names that the inventory lacks": (
        {
            "training_hosts": ["npu-9"],
            "run_plan_group": ["npu-9"],
            "ascend_staging_host": "staging-9",
            "ascend_staging_model": "/srv/model",
            "plan_hf_config": "",
        },
        ["training_hosts names npu-9, which", "ascend_staging_host is staging-9, which the inventory does not know"],
    ),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_hosts_that_do_not_stand_where_they_are_looked_for(
    tmp_path: Path, inventory: dict[str, Any], name: str
) -> None:
    variables, expected = MISPLACED[name]
    runner = run(tmp_path, PLAYBOOK, inventory, **variables)
    assert runner.rc != 0
    (result,) = results(runner, "runner_on_failed", "Require hosts that the inventory knows and prepares").values()
    for words in expected:
        assert words in result["msg"]
    assert "Remedy:" in result["msg"]


@pytest.mark.parametrize("empty", [["training"], ["ascend", "training"]])
def test_groups_without_a_host_are_named_and_nothing_is_skipped_in_silence(
    tmp_path: Path, inventory: dict[str, Any], empty: list[str]
) -> None:
    del inventory["training"]
    if "ascend" in empty:
        inventory["ascend"] = {"hosts": {}}
    runner = run(tmp_path, PLAYBOOK, inventory)
    assert runner.rc != 0
    (result,) = results(runner, "runner_on_failed", "Require servers in the groups that the plays are for").values()
    failed = [item["msg"] for item in result["results"] if item.get("failed")]
    assert [words.partition(". Remedy")[0].rpartition(" ")[2] for words in failed] == sorted(empty)


@pytest.mark.parametrize("text", [None, "all: {children: {ascend: {hosts: {npu-1: {ansible_host: 192.0.2.1}}}}"])
def test_an_inventory_that_cannot_be_read_is_no_empty_one(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "hosts.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(path), str(PLAYBOOK)]
    done = subprocess.run(argv, cwd=given.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"Completely failed to parse inventory source {path}" in done.stdout + done.stderr


NO_NUMBERS = [("ascend_npus", "4-7"), ("ascend_npus", ["--4", 5]), ("ascend_hbm_mb", "64GB")]


@pytest.mark.parametrize(("variable", "value"), NO_NUMBERS)
def test_what_should_be_a_number_is_named_with_its_host(
    tmp_path: Path, inventory: dict[str, Any], variable: str, value: object
) -> None:
    inventory["ascend"]["hosts"]["npu-2"][variable] = value
    runner = run(tmp_path, PLAYBOOK, inventory)
    (result,) = results(runner, "runner_on_failed", "Make the run plan").values()
    refused = result["refusals"][0]
    assert "host npu-2" in refused["what"].lower()
    assert str(value[0] if isinstance(value, list) else value) in refused["what"]
    assert variable in refused["remedy"]


def test_a_host_that_failed_and_was_not_left_out_stops_the_run(
    tmp_path: Path, inventory: dict[str, Any], twice: Path
) -> None:
    runner = run(tmp_path, twice, inventory, failing=["npu-1"])
    assert runner.rc != 0
    (result,) = results(runner, "runner_on_failed", "Require every host that was not left out").values()
    assert "does not go on without npu-1:" in result["msg"]
    assert "driver_check_on_problem: exclude" in result["msg"]
    assert not (tmp_path / "plan-confirmed.json").exists()


def test_another_host_converts_where_the_one_that_should_is_left_out(
    tmp_path: Path, inventory: dict[str, Any], twice: Path
) -> None:
    for host in inventory["ascend"]["hosts"].values():
        host["ascend_npus"] = [2, 3, 4, 5]
    runner = run(tmp_path, twice, inventory, left_out=["npu-1"], conversion_host="npu-1")
    (shown,) = results(runner, "runner_on_ok", "Show what differs from what was declared").values()
    assert "Conversion host: npu-1 as declared, npu-2 as found." in shown["lines"]
    assert json.loads((tmp_path / "plan-confirmed.json").read_text())["conversion"]["host"] == "npu-2"
