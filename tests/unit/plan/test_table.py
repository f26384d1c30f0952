# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as it is shown."""

from __future__ import annotations

from ansible.module_utils.ascend_fleet.plan_table import BAR_WIDTH, plan_lines, summary_lines

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


def bars(lines: list[str]) -> list[str]:
    return [line for line in lines if "] " in line and "GiB of" in line]


def test_a_bar_for_every_rank() -> None:
    made = given.make(
        wanted=given.recipe("qwen2.5-coder-7b-4k"),
        model=given.CODER_7B,
        overrides={"tp": 2, "pp": 2, "seq_length": 8192},
    )
    shown = bars(plan_lines(made))
    assert [line.split()[:4] for line in shown] == [["rank", str(n), "on", f"npu-{1 + n // 2}"] for n in range(4)]
    bar = shown[0][shown[0].index("[") + 1 : shown[0].index("] ")]
    need = made["memory"][0]
    assert len(bar) == BAR_WIDTH
    assert bar.count("#") == round(need["static"] / need["capacity"] * BAR_WIDTH)
    assert len(bar.rstrip()) == round(need["total"] / need["capacity"] * BAR_WIDTH)
    assert "DOES NOT FIT" not in shown[0]


def test_many_ranks_share_the_bar_of_their_stage() -> None:
    made = given.make(fleet=given.hosts(100), overrides={"global_batch_size": 100})
    lines = plan_lines(made)
    assert [line.split("  ")[0] for line in bars(lines)] == ["stage 0: 100 ranks", "stage 1: 100 ranks"]
    assert any("60 more hosts" in line for line in lines)
    assert len(lines) < 100


def test_what_does_not_fit_says_so() -> None:
    made = given.make(hbm_mb=4000, memory_check="warn")
    assert bars(plan_lines(made))[0].endswith("DOES NOT FIT")


def test_the_summary_is_short() -> None:
    made = given.make(arguments={"no-save-optim": False, "no-save-rng": False})
    assert summary_lines(made) == plan_lines(made)[:4]
