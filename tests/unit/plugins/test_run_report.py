# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary table: a row a stage, a column a host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import load_plugin

PLAN = {"release": {"name": "2.0.0"}, "tp": 2, "pp": 2, "dp": 1, "nnodes": 2, "world_size": 4}


report = load_plugin("filter/run_report.py")


def receipt(stage: str, **made_with: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "fingerprint": "0123456789abcdef",
        "inputs": {},
        "made_with": made_with,
        "files": 3,
        "bytes": 1536,
    }


def test_rows_columns_and_what_is_absent() -> None:
    losses = [[1, 5.25], [20, 4.125]]
    table = report.report_lines(
        {"npu-1": [receipt("weights"), receipt("run", losses=losses)], "npu-2": [receipt("weights")]}, PLAN
    )
    assert table[0] == "MindSpeed-LLM 2.0.0, TP2 PP2 DP1 on 2 hosts (4 NPUs)"
    assert table[1].split() == ["stage", "npu-1", "npu-2"]
    assert table[3].startswith("weights  01234567  3 files, 1.5 KiB")
    assert "20 iterations, loss 5.250 to 4.125" in table[4]
    assert table[4].endswith("-")


def test_the_stages_stand_in_the_order_of_the_pipeline_whatever_a_host_lacks() -> None:
    have = {"npu-1": [receipt("image"), receipt("run")], "npu-2": [receipt("weights"), receipt("dataset")]}
    assert [line.split()[0] for line in report.report_lines(have, PLAN)[3:]] == ["image", "weights", "dataset", "run"]


def test_source_shows_its_commits() -> None:
    source = {**receipt("source"), "inputs": {"commits": {"MindSpeed": "c" * 40, "Megatron-LM": "b" * 40}}}
    assert "bbbbbbbb cccccccc" in report.report_lines({"npu-1": [source]}, PLAN)[3]


def test_a_container_shows_what_was_seen_from_inside() -> None:
    seen = receipt("container", probe={"npus": 2, "versions": {"torch_npu": "2.1.0.post10"}})
    assert report.report_lines({"npu-1": [seen]}, PLAN)[3].endswith("01234567  2 NPUs, torch_npu 2.1.0.post10")


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (15 * 1024**3, "15.0 GiB")]
)
def test_bytes(count: int, text: str) -> None:
    assert report.human_bytes(count) == text
