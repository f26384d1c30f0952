# SPDX-License-Identifier: GPL-3.0-or-later
"""run_plan: the same plan every time, nothing changed, all problems at once."""

from __future__ import annotations

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
