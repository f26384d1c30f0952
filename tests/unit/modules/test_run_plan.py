# SPDX-License-Identifier: GPL-3.0-or-later
"""run_plan: the same plan every time, nothing changed, all problems at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunModule, ScriptedHost
from tests.unit.plan import given

MODULE = "run_plan"


@pytest.fixture
def params() -> dict[str, Any]:
    return {
        "release": given.release(),
        "recipe": given.recipe(),
        "hosts": given.hosts(),
        "model_config": given.config(),
        "work_root": "/data/ascend-fleet",
    }


def test_four_ways(run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]) -> None:
    """It never changes: no run reports one, check mode plans the same, and there is no diff. The host is not touched."""
    first = run_library(MODULE, params, scripted_host)
    second = run_library(MODULE, params, scripted_host)
    predicted = run_library(MODULE, params, scripted_host, check_mode=True)
    for result in (first, second, predicted):
        assert not result.failed
        assert not result.changed
        assert "diff" not in result.data
        assert result["plan"] == given.make()
    assert first["table"][0].startswith("Release 2.0.0, recipe qwen2-lab, image ")


def test_parameters_reach_the_plan(run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]) -> None:
    changes = {
        "overrides": {"iterations": 3},
        "release_overrides": {"image": {"name": "own:1"}},
        "conversion_host": "npu-2",
        "master_port": 7000,
        "connect_timeout": 60,
        "shared_storage": True,
        "physical_ids": True,
        "environment": {"EXTRA": 1},
        "architecture": "x86_64",
    }
    made = run_library(MODULE, {**params, **changes}, scripted_host)["plan"]
    site = {key: value for key, value in changes.items() if key != "overrides"}
    assert made == given.make(overrides={"iterations": 3}, **site)
    assert made["train"]["iterations"] == 3
    assert made["conversion"]["host"] == "npu-2"
    assert made["environment"]["npu-1"]["EXTRA"] == "1"
    assert made["environment"]["npu-1"]["ASCEND_RT_VISIBLE_DEVICES"] == "2,3"
    assert "--no-shared-storage" not in made["training_arguments"]


def test_all_problems_in_one_report(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    changes = {
        "release": {},
        "release_name": "9.9",
        "known_releases": ["2.0.0"],
        "overrides": {"tp": 16, "seq_length": 1024},
        "hosts": [{"name": "npu-1", "address": "192.0.2.11"}],
    }
    result = run_library(MODULE, {**params, **changes}, scripted_host)
    assert result.failed
    assert [item["code"] for item in result["refusals"]] == [
        "release-unknown",
        "host-npus",
        "tensor-parallel",
        "sequence",
    ]
    assert len(result["problems"]) == 4
    assert all(problem in result["msg"] for problem in result["problems"])
    assert "Nearest that works: TP 4." in result["problems"][2]


def test_a_host_needs_a_name(run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]) -> None:
    result = run_library(MODULE, {**params, "hosts": [{"npus": [0]}]}, scripted_host)
    assert result.failed
    assert "name" in result["msg"]


def test_the_plan_is_written(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "reports" / "plan.json"
    params = {**params, "output": str(output)}
    predicted = run_library(MODULE, params, scripted_host, check_mode=True)
    assert predicted.changed
    assert not output.exists()
    first = run_library(MODULE, params, scripted_host)
    assert first.changed
    assert json.loads(output.read_text()) == first["plan"]
    assert not run_library(MODULE, params, scripted_host).changed
    changed = run_library(MODULE, {**params, "overrides": {"iterations": 3}}, scripted_host)
    assert changed.changed
    assert json.loads(output.read_text())["train"]["iterations"] == 3


def test_a_refused_plan_is_written_too(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], tmp_path: Path
) -> None:
    output = tmp_path / "plan.json"
    result = run_library(MODULE, {**params, "hbm_mb": 4000, "output": str(output)}, scripted_host)
    assert result.failed
    assert "plan" not in result.data
    written = json.loads(output.read_text())
    assert written["problems"] == result["problems"]
    assert written["suggestions"] == result["suggestions"]
    assert len(written["memory"]) == 4


@pytest.mark.parametrize("broken", [{"recipe": {}, "recipe_name": "no", "known_recipes": ["yes"]}, {"hosts": []}])
def test_every_key_is_there_when_nothing_could_be_planned(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], tmp_path: Path, broken: dict[str, Any]
) -> None:
    output = tmp_path / "plan.json"
    assert run_library(MODULE, {**params, **broken, "output": str(output)}, scripted_host).failed
    written = json.loads(output.read_text())
    keys = ("world_size", "ranks", "shards", "training_arguments", "environment", "memory", "problems", "suggestions")
    assert set(keys) <= set(written)
    assert written["problems"]


def test_a_mistyped_recipe_hides_no_mistyped_override(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    changes = {"recipe": {}, "recipe_name": "no", "known_recipes": ["yes"], "overrides": {"iteration": 3}}
    result = run_library(MODULE, {**params, **changes}, scripted_host)
    assert [item["code"] for item in result["refusals"]] == ["recipe-unknown", "override-unknown"]


def test_a_second_plan_says_what_differs(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    first = run_library(MODULE, params, scripted_host)["plan"]
    same = run_library(MODULE, {**params, "previous": first}, scripted_host)
    assert same["differences"] == []
    hosts = [{**host, "npus": [0, 1, 2, 3]} for host in given.hosts(1)]
    hosts[0] |= {"hbm_mb": 32768, "interface": "bond0.7"}
    found = run_library(MODULE, {**params, "hosts": hosts, "previous": first}, scripted_host)
    assert found["differences"] == [
        "Host npu-2 is left out of this run, as the driver check decided.",
        "Host npu-1: NPUs with 64.0 GiB as declared, 32.0 GiB as npu-smi reports their total.",
        "Host npu-1: interface eth0 as declared, bond0.7 as found.",
        "Training argument --no-shared-storage: set as declared, absent as found.",
    ]


def test_an_output_that_is_no_file_is_left_alone(
    run_library: RunModule, params: dict[str, Any], tmp_path: Path
) -> None:
    """As root the plan would otherwise put a file in the place of /dev/null, and the page in the place of the JSON."""
    (tmp_path / "pipe.json").symlink_to("/dev/null")
    for name, says in (("", "is no file"), ("pipe.json", "is no file"), ("plan.html", "plan.json")):
        result = run_library(MODULE, {**params, "output": str(tmp_path / name)})
        assert result.failed
        assert says in result["msg"]
    assert (tmp_path / "pipe.json").is_symlink()
    assert not (tmp_path / "plan.html").exists()
