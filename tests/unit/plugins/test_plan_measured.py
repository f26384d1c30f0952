# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters plan_measured and plan_dataset: what was found on hosts and in a dataset."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.plan_dataset import FilterModule as DatasetFilters
from plugins.filter.plan_measured import FilterModule

plan_measured = FilterModule().filters()["plan_measured"]
plan_dataset = DatasetFilters().filters()["plan_dataset"]

HOST = {"name": "a", "address": "192.0.2.1", "npus": [2, 3], "interface": "eth0"}


def facts(**interfaces: dict[str, Any]) -> dict[str, Any]:
    found = {f"ansible_{name}": {"device": name.replace("_", "."), **fact} for name, fact in interfaces.items()}
    return {"a": {"net": {"ansible_facts": {**found, "ansible_interfaces": list(interfaces)}}}}


def measured(variables: dict[str, Any], **host: Any) -> dict[str, Any]:
    (found,) = plan_measured([{**HOST, **host}], variables, "npus", "net")
    assert isinstance(found, dict)
    return found


def test_the_smallest_npu_of_the_run_counts() -> None:
    chips = [
        {"phy_id": 0, "hbm_total_mb": 1},
        {"phy_id": 2, "hbm_total_mb": 65536},
        {"phy_id": 3, "hbm_total_mb": 32768},
    ]
    assert measured({"a": {"npus": {"chips": chips}}}) == {**HOST, "hbm_mb": 32768}
    assert measured({"a": {"npus": {"chips": [{"phy_id": 2, "hbm_total_mb": None}]}}}) == HOST


def test_what_was_not_found_stays_declared() -> None:
    assert measured({}) == HOST
    assert measured({"a": {"net": {"skipped": True}}}, hbm_mb=5) == {**HOST, "hbm_mb": 5}


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ({"eth0": {"ipv4": {"address": "192.0.2.1"}}}, "eth0"),
        ({"eth0": {"ipv4": {"address": "192.0.2.9"}}, "bond0": {"ipv4": {"address": "192.0.2.1"}}}, "bond0"),
        ({"bond0_100": {"ipv4": {"address": "192.0.2.1"}}}, "bond0.100"),
        ({"eth1": {"ipv4": {"address": "192.0.2.9"}, "ipv4_secondaries": [{"address": "192.0.2.1"}]}}, "eth1"),
        ({"bond0": {"ipv4": {"address": "192.0.2.1"}}, "eth0": {"ipv4": {"address": "192.0.2.1"}}}, "eth0"),
        ({"eth9": {}}, "eth0"),
    ],
)
def test_the_interface_is_the_one_that_carries_the_address(interfaces: dict[str, Any], expected: str) -> None:
    assert measured(facts(**interfaces))["interface"] == expected


def test_ipv6() -> None:
    found = measured(facts(eth2={"ipv6": [{"address": "2001:db8::1"}]}), address="2001:db8::1")
    assert found["interface"] == "eth2"


def test_not_the_hosts() -> None:
    with pytest.raises(AnsibleFilterError, match="as plan_hosts returns them"):
        plan_measured("a", {}, "npus", "net")


PLAN = {
    "train": {"seq_length": 128, "global_batch_size": 16, "iterations": 20, "split": "100,0,0"},
    "dataset": {"name": "lab", "train_key": "output"},
}


def doubts(tokens: int, warnings: tuple[str, ...] = (), **train: Any) -> list[str]:
    worker = {"keys": {"output": {"tokens": tokens}, "other": {"tokens": 1}}, "warnings": list(warnings)}
    plan = {**PLAN, "train": {**PLAN["train"], **train}}
    found: list[str] = plan_dataset(plan, {"artifact": {"made_with": {"worker": worker}}})
    return found


def test_a_small_dataset_is_warned_about_with_the_numbers() -> None:
    assert doubts(128 * 320 + 1) == []
    assert doubts(128 * 100 + 1) == [
        "20 iterations of 16 samples go 3.2 times through the 100 samples of this dataset (12801 tokens)."
    ]
    few = doubts(128 * 10 + 1)
    assert few[0].startswith("1281 tokens make 10 samples of 128, fewer than a global batch of 16")
    assert "32.0 times" in few[1]
    assert len(doubts(0)) == 1


def test_only_the_part_that_is_trained_on_counts() -> None:
    assert doubts(128 * 640 + 2, split="50,50") == []
    assert "2.0 times through the 160 samples" in doubts(128 * 640 + 4, split="25,75,0")[0]


def test_what_the_builder_warned_about_is_said_again() -> None:
    assert doubts(10**6, ("keys are out of step",)) == ["Dataset lab: keys are out of step."]


def test_a_dataset_that_is_only_predicted() -> None:
    assert plan_dataset(PLAN, {"artifact": None}) == []


def test_not_a_plan() -> None:
    with pytest.raises(AnsibleFilterError, match="needs the run plan"):
        plan_dataset({}, {})
