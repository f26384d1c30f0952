# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_part: a host reads the same run out of its part as out of the whole plan, and the part does not grow with the fleet."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible.module_utils.ascend_fleet.training_inputs import find_node, planned_inputs

from tests.conftest import load_plugin
from tests.unit.plan import given

plan_part = load_plugin("filter/plan_part.py").plan_part


def test_a_host_reads_the_same_run_out_of_its_part() -> None:
    plan = given.make(fleet=given.hosts(4))
    for entry in plan["hosts"]:
        name = entry["name"]
        part = plan_part(plan, name)
        assert find_node(part, name) == find_node(plan, name)
        assert planned_inputs(part, "/data") == planned_inputs(plan, "/data")
        assert part["environment"][name] == plan["environment"][name]
        assert part["launch"]["arguments"][name] == plan["launch"]["arguments"][name]
        assert [item["name"] for item in part["hosts"]] == [item["name"] for item in plan["hosts"]]


def test_a_part_of_a_large_plan_is_small() -> None:
    plan = given.make(fleet=given.hosts(300), overrides={"global_batch_size": 300})
    assert len(json.dumps(plan_part(plan, "npu-7"))) < len(json.dumps(plan)) / 8
    assert sum("npu-8" in json.dumps(value) for value in plan_part(plan, "npu-7").values()) == 1, "only among the hosts"


def test_a_host_that_writes_nothing_and_one_that_is_not_planned() -> None:
    part = plan_part({**given.make(), "writers": {}}, "elsewhere")
    assert (part["writers"], part["shards"], part["launch"]["arguments"]) == ({}, {}, {})


def test_not_a_plan() -> None:
    with pytest.raises(AnsibleFilterError, match="needs a run plan"):
        plan_part({}, "npu-1")
