# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimate of a rank's memory: counted by hand, against what upstream measured, and what the plan makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.plan_memory import MIB, RUNTIME, memory_by_stage, micro_batches_in_flight

from tests.unit.plan import given, memory_tables
from tests.unit.plan.memory_data import Baseline, baselines, published, rows

CARD = 65536 * MIB
FOUR = given.hosts(1, (0, 1, 2, 3))
CODER = {"wanted": given.recipe("qwen2.5-coder-7b-32k"), "model": given.CODER_7B, "fleet": FOUR}
TWO_BY_TWO = {"tp": 2, "pp": 2}


@pytest.mark.parametrize("run", baselines(), ids=lambda run: run.title)
def test_static_memory_is_what_upstream_measured(run: Baseline) -> None:
    fullest, emptiest = run.static
    assert fullest == pytest.approx(run.number("allocated_most"), rel=0.05)
    if run.row["allocated_least"]:
        assert emptiest == pytest.approx(run.number("allocated_least"), rel=0.05)


# Runs whose first peak holds something that the plan does not model; docs/memory.md says what.
NOT_MODELLED = ("chatglm3_gqa_cp4", "chatglm3_gqa_cp8", "llama2_tp2_cp4_mem_recompute", "llama2_tp2_pp1_ha_save_ptd")


@pytest.mark.parametrize(
    "run",
    [run for run in baselines() if run.row["samples"] == "full" and run.row["name"] not in NOT_MODELLED],
    ids=lambda run: run.title,
)
def test_the_first_peak_is_near_what_upstream_measured(run: Baseline) -> None:
    assert -0.05 < run.first_peak / run.number("peak_most") - 1 < 0.15


def test_every_record_is_compared_or_left_out_with_a_reason() -> None:
    left_out = rows("left_out.csv")
    assert len(baselines()) >= 40
    assert len(baselines()) + len(left_out) == 253
    assert all(row["why"] for row in left_out)
    assert len(published()) + len(rows("published_left_out.csv")) == 215


def test_the_page_shows_these_tables() -> None:
    text = memory_tables.PAGE.read_text(encoding="utf-8")
    assert text == memory_tables.rendered(text), "run python -m tests.unit.plan.memory_tables"


def test_counted_by_hand() -> None:
    """Four layers of hidden 128 with 8 heads in 4 groups, ffn 352 and 1024 tokens, TP 2, PP 2, bf16, biases on Q, K and V."""
    made = given.make()
    layer = (128 * 128 + 2 * 128 * 64 + 128 * 128 + 3 * 128 * 352 + 128 + 2 * 64) // 2 + 2 * 128
    table = 1024 * 128 // 2
    first, last = made["memory"][0], made["memory"][3]
    assert first["static"] == (2 * layer + table) * 18
    assert last["static"] == (2 * layer + table + 128) * 18
    tokens = 2 * 128
    kept = tokens * (8 * 128 + 4 * 128 + 4 * 64 + 64 * 8 + 6 * 352) / 2
    wide = tokens * (4 * 128 + 6 * 352 / 2)
    logits = tokens * 512 * 10
    assert first["activation"] == int((2 * 2 * kept + wide) * 1.1)
    assert last["activation"] == int((2 * kept + logits) * 1.1)
    assert first["communication"] == 4 * 2 * 200 * MIB  # world, TP, PP and TP x PP
    assert first["runtime"] == RUNTIME
    assert first["capacity"] == CARD
    assert all(need["total"] == sum(need[part] for part in PARTS) for need in made["memory"])


PARTS = ("static", "activation", "communication", "runtime")


@pytest.mark.parametrize(
    ("arguments", "dp", "bytes_each"),
    [
        ({}, 1, 18),
        ({}, 2, 18),
        ({"use-distributed-optimizer": True}, 1, 18),
        ({"use-distributed-optimizer": True}, 2, 12),
        ({"use-distributed-optimizer": True, "reuse-fp32-param": True}, 2, 11),
        ({"reuse-fp32-param": True}, 2, 16),
        ({"bf16": False, "fp16": True}, 1, 20),
        ({"bf16": False, "fp16": True, "use-distributed-optimizer": True}, 4, 8),
        ({"bf16": False}, 2, 16),
    ],
)
def test_bytes_of_a_parameter(arguments: dict[str, Any], dp: int, bytes_each: float) -> None:
    plain = given.make()["memory"][0]["static"] / 18
    made = given.make(arguments=arguments, fleet=given.hosts(2 * dp))
    assert made["memory"][0]["static"] == pytest.approx(plain * bytes_each)


@pytest.mark.parametrize(
    ("arguments", "less"),
    [
        ({"recompute-activation-function": True}, True),
        ({"swap-attention": True}, True),
        ({"recompute-granularity": "full", "recompute-method": "block", "recompute-num-layers": 2}, True),
        ({"recompute-granularity": "full", "recompute-method": "uniform", "recompute-num-layers": 1}, True),
        ({"sequence-parallel": False}, False),
        ({"use-flash-attn": False}, False),
    ],
)
def test_settings_that_change_the_activations(arguments: dict[str, Any], less: bool) -> None:
    plain = given.make()["memory"][0]["activation"]
    changed = given.make(arguments=arguments)["memory"][0]["activation"]
    assert (changed < plain) is less


def test_micro_batches_in_flight() -> None:
    assert [micro_batches_in_flight(stage, 4, 8, 100, None) for stage in range(4)] == [4, 3, 2, 1]
    assert [micro_batches_in_flight(stage, 4, 8, 2, None) for stage in range(4)] == [2, 2, 2, 1]
    assert [micro_batches_in_flight(stage, 4, 8, 100, 4) for stage in range(4)] == [11 / 2, 9 / 2, 7 / 2, 5 / 2]


def test_uneven_stages_are_counted_as_they_are() -> None:
    made = given.make(overrides={"layers_per_stage": "1,3"})
    even = given.make()
    assert made["memory"][0]["static"] < even["memory"][0]["static"] < made["memory"][3]["static"]


def test_the_site_may_have_larger_buffers() -> None:
    made = given.make(environment={"HCCL_BUFFSIZE": 400})
    assert made["memory"][0]["communication"] == 2 * given.make()["memory"][0]["communication"]


def test_7b_with_32k_does_not_fit_on_four_cards_and_the_plan_says_what_does() -> None:
    (found,) = given.refused(overrides=TWO_BY_TWO, **CODER)
    assert found["code"] == "memory"
    assert "needs about 114.3 GiB of its NPU's 64.0 GiB" in found["what"]
    plan = given.refused_plan(overrides=TWO_BY_TWO, **CODER)
    sequence, *others = plan["suggestions"]
    assert (sequence["kind"], sequence["tp"], sequence["pp"], sequence["seq_length"]) == ("sequence", 2, 2, 11264)
    assert len(others) == 3
    assert [other["slowdown"] for other in others] == sorted(other["slowdown"] for other in others)
    assert len({other["text"] for other in others}) == 3
    assert plan["problems"] == [problem for problem in plan["problems"] if "114.3 GiB" in problem]
    assert len(plan["ranks"]) == len(plan["memory"]) == 4
    assert any(need["total"] > need["capacity"] for need in plan["memory"])


def taken(suggestion: dict[str, Any]) -> dict[str, Any]:
    sizes = {key: suggestion[key] for key in ("tp", "pp", "micro_batch_size", "seq_length")}
    return {"overrides": sizes, "arguments": suggestion["recompute"]}


def test_what_is_suggested_fits_and_needs_what_was_said() -> None:
    for suggestion in given.refused_plan(overrides=TWO_BY_TWO, **CODER)["suggestions"]:
        made = given.make(**CODER, **taken(suggestion))
        assert max(need["total"] for need in made["memory"]) == suggestion["memory"]["total"] <= CARD


def test_the_longest_sequence_is_the_longest() -> None:
    longer = {**TWO_BY_TWO, "seq_length": 11264 + 1024}
    assert [item["code"] for item in given.refused(overrides=longer, **CODER)] == ["memory"]


def test_tensor_parallel_groups_stay_on_a_host_where_that_fits() -> None:
    pairs = {**CODER, "fleet": given.hosts(2)}
    spanning = given.refused_plan(overrides=TWO_BY_TWO, **pairs)["suggestions"][1:]
    assert {other["tp"] for other in spanning} == {4}  # more than the two NPUs of a host, since nothing else fits
    short = {**pairs, "hbm_mb": 53248, "overrides": {**TWO_BY_TWO, "seq_length": 8192}}
    assert {other["tp"] for other in given.refused_plan(**short)["suggestions"][1:]} == {2}


def test_the_plan_chooses_by_itself_where_it_may() -> None:
    best = given.refused_plan(overrides=TWO_BY_TWO, **CODER)["suggestions"][1]
    made = given.make(overrides=TWO_BY_TWO, search=True, **CODER)
    assert (made["tp"], made["pp"], made["train"]["micro_batch_size"]) == (best["tp"], best["pp"], 1)
    assert made["conversion"]["tp"] == made["tp"]
    assert f"Sizes were chosen by the plan (plan_search): {best['text']}." in made["warnings"]
    assert "--recompute-granularity" in made["training_arguments"]


def test_nothing_fits() -> None:
    recipe = {**given.recipe("qwen2.5-72b-32k"), "parallel": {"tp": 4, "pp": 1}}
    case = {"model": given.model("qwen2.5-72b"), "fleet": FOUR, "wanted": recipe, "overrides": {"global_batch_size": 4}}
    for search in (False, True):
        assert given.refused_plan(**case, search=search)["suggestions"] == []
        (found,) = given.refused(**case, search=search)
        assert "Nothing was found that fits" in found["remedy"]


def test_a_site_that_knows_better_is_only_warned() -> None:
    made = given.make(overrides=TWO_BY_TWO, memory_check="warn", **CODER)
    assert any("114.3 GiB" in text for text in made["warnings"])
    assert made["problems"] == []
    assert made["suggestions"]


def test_the_smallest_card_decides() -> None:
    fleet = [{**given.hosts(1)[0], "hbm_mb": 65536}, {**given.hosts(2)[1], "hbm_mb": 32768}]
    recipe = {"wanted": given.recipe("qwen2.5-coder-7b-4k"), "model": given.CODER_7B}
    assert given.make(**recipe)["memory"][3]["capacity"] == CARD
    (found,) = given.refused(fleet=fleet, **recipe)
    assert "Rank 2 on npu-2 (pipeline stage 1)" in found["what"]
    assert "of its NPU's 32.0 GiB" in found["what"]


def test_memory_that_is_no_number() -> None:
    (found,) = given.refused(fleet=[{**host, "hbm_mb": "64 GB"} for host in FOUR])
    assert found["code"] == "host-memory"


def test_memory_by_stage_is_pure() -> None:
    run = baselines()[0]
    again = memory_by_stage(run.shape, run.recipe, run.sizes, {})
    assert run.stages == again


def test_packed_samples_are_searched_one_at_a_time() -> None:
    """More of them would attend to each other, and a larger micro batch is otherwise the better choice."""
    given_sizes = {"micro_batch_size": 2, "global_batch_size": 16}
    plain = given.make(search=True, overrides=given_sizes)
    packed = given.make(search=True, overrides=given_sizes, arguments={"reset-position-ids": True})
    assert plain["train"]["micro_batch_size"] == 4
    assert packed["train"]["micro_batch_size"] == 1
    assert not any("other samples" in text for text in packed["warnings"])


def test_a_search_that_found_nothing_says_so() -> None:
    fleet = given.hosts(2, tuple(range(8)))
    case = {"model": given.model("qwen2.5-72b"), "wanted": given.recipe("qwen2.5-72b-4k-pack"), "fleet": fleet}
    (found,) = given.refused(**case, search=True)
    assert found["code"] == "search"
    assert "plan_search found nothing that fits 16 NPUs of 64.0 GiB" in found["what"]
    assert "NPUs on" in found["nearest"]
    enough = given.hosts(int(found["nearest"].split()[3]), tuple(range(8)))
    assert given.make(**{**case, "fleet": enough}, search=True)["world_size"] == int(found["nearest"].split()[0])


def test_sizes_that_cannot_be_come_with_others_that_can() -> None:
    instead = given.refused_plan(overrides={"tp": 8})["suggestions"]
    assert instead
    for item in instead:
        assert given.make(overrides={key: item[key] for key in ("tp", "pp", "micro_batch_size")})
    assert given.refused_plan(overrides={"tp": 8}, master_port=80)["suggestions"] == []


def test_a_search_that_found_nothing_keeps_uneven_stages_that_do() -> None:
    odd = given.config(num_hidden_layers=5, num_key_value_heads=1)
    sizes = {"tp": 1, "pp": 2, "layers_per_stage": "3,2", "global_batch_size": 7, "micro_batch_size": 1}
    made = given.make(model=odd, overrides=sizes, fleet=given.hosts(1), search=True)
    assert made["conversion"]["layers_per_stage"] == [3, 2]
    assert any("The recipe's own sizes are kept." in text for text in made["warnings"])
