# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as it is shown."""

from __future__ import annotations

from ansible.module_utils.ascend_fleet.plan_table import plan_lines

from tests.unit.plan import given


def test_lines() -> None:
    made = given.make(fleet=given.hosts(4))
    lines = plan_lines(made)
    assert lines[3] == "World   8 = TP 2 x PP 2 x CP 1 x DP 2 on 4 hosts with 2 NPUs each"
    table = lines[lines.index("") + 1 :][:6]
    assert table[0].split() == ["node", "host", "address", "NPUs", "seen", "as", "ranks", "shards"]
    assert table[5].split() == ["3", "npu-4", "192.0.2.14", "2,3", "0,1", "6-7", "mp_rank_00_001", "mp_rank_01_001"]
    assert any("--node_rank <node>" in line for line in lines)
    assert all(len(line) <= 140 and line == line.rstrip() for line in lines)
    shown = " ".join(" ".join(lines).split())
    assert " ".join(made["training_arguments"]) in shown
    assert lines[-1].startswith("  - no-save-optim")


def test_nothing_doubtful_shows_no_warnings() -> None:
    made = given.make(arguments={"no-save-optim": False, "no-save-rng": False})
    assert "Warnings:" not in plan_lines(made)


def test_one_rank_a_host() -> None:
    made = given.make(overrides={"tp": 1}, fleet=given.hosts(2, (5,)))
    assert [line.split()[5] for line in plan_lines(made)[7:9]] == ["0", "1"]
