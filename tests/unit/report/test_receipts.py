# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts hold, for people: equal hosts together, the odd one out first, and whether the chain holds."""

from __future__ import annotations

from typing import Any

from tests.conftest import load_plugin
from tests.unit.report import given

receipts = load_plugin("filter/report_receipts.py")

NAMES = [f"npu-{number}" for number in range(1, 65)]


def rows(hosts: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["stage"]: row for row in receipts.receipt_stages(hosts)}


def test_equal_hosts_share_a_row_and_the_odd_one_comes_first() -> None:
    hosts = given.hosts_piece(NAMES)
    weights = next(item for item in hosts["npu-9"]["receipts"] if item["stage"] == "weights")
    weights["fingerprint"] = "deadbeefdeadbeef"
    found = rows(hosts)
    odd, usual = found["weights"]["groups"]
    assert (odd["fingerprint"], odd["hosts"], odd["odd"]) == ("deadbeefdeadbeef", ["npu-9"], True)
    assert (len(usual["hosts"]), usual["odd"]) == (63, False)
    (corpus,) = found["corpus"]["groups"]
    assert (corpus["hosts"], len(found["corpus"]["absent"])) == (["npu-1"], 63)
    assert list(found) == list(given.PARENTS), "the order of the pipeline"


def test_shards_of_one_artifact_give_a_range_of_sizes() -> None:
    hosts = given.hosts_piece(NAMES[:2])
    for host, count in (("npu-1", 11), ("npu-2", 7)):
        hosts[host]["receipts"][0].update(files=count, bytes=count * 1024)
    (image,) = rows(hosts)["image"]["groups"]
    assert (image["files"], image["bytes"]) == ((7, 11), (7168, 11264))


def test_hashes_of_files_are_counted() -> None:
    kept = given.hosts_piece(["npu-1"])["npu-1"]["receipts"][0]
    assert kept["inputs"] == {"contents": "5 files by SHA-256"}


def test_the_chain_leads_from_left_to_right() -> None:
    chain = receipts.receipt_chain(receipts.receipt_stages(given.hosts_piece(NAMES[:2])))
    x = {node["stage"]: node["x"] for node in chain["nodes"]}
    assert x["weights"] < x["checkpoint"] < x["run"]
    assert x["corpus"] < x["dataset"] < x["run"]
    assert x["container"] < x["source"], "a parent without a receipt of its own is in the picture"
    assert not any(edge["broken"] for edge in chain["edges"])
    spots = [(node["x"], node["y"]) for node in chain["nodes"]]
    assert len(spots) == len(set(spots))
    assert receipts.receipt_chain([]) is None


def test_a_run_of_another_checkpoint_breaks_the_chain() -> None:
    hosts = given.hosts_piece(NAMES[:2])
    for kept in hosts.values():
        next(item for item in kept["receipts"] if item["stage"] == "checkpoint")["fingerprint"] = "f" * 16
    chain = receipts.receipt_chain(receipts.receipt_stages(hosts))
    (broken,) = [edge for edge in chain["edges"] if edge["broken"]]
    assert (
        broken["title"] == f"run was made from checkpoint {given.fingerprint('checkpoint')}, in use now is {'f' * 16}"
    )


def test_the_run_is_told_by_the_host_that_logged_it_and_the_one_that_failed() -> None:
    hosts = given.hosts_piece(NAMES[:3], "stopped", given.losses(30))
    hosts["npu-2"]["state"].update(run_state="failed", reason="out of memory", remedy="Less.", cause_node="npu-2")
    hosts["npu-1"]["state"].update(run_state="absent")
    hosts["npu-3"]["state"].update(run_state="running")
    facts = receipts.training_facts(hosts)
    assert (facts["run_state"], facts["reason"], facts["cause"]) == ("failed", "out of memory", "npu-2")
    assert len(facts["losses"]) == 30
    assert facts["iteration"] == 30
    assert facts["hosts"] == {"npu-2": "failed", "npu-3": "running"}


def test_without_a_run_there_are_no_facts() -> None:
    hosts = receipts.report_hosts({"npu-1": []}, {"npu-1": {"run_state": "absent", "status": {}, "progress": "absent"}})
    assert receipts.training_facts(hosts) == {}
    assert receipts.training_facts({}) == {}
