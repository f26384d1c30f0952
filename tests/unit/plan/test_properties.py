# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for any plan: an accepted one covers every rank once and gives each host exactly its shards; the rest is refused."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ansible.module_utils.ascend_fleet.errors import ProblemsError
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from tests.unit.plan import given

RELEASE = given.release()
RECIPE = given.recipe()


def divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


@st.composite
def fitting(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes that fit each other by construction."""
    tp, pp = draw(st.sampled_from([1, 2, 3, 4, 8])), draw(st.sampled_from([1, 2, 3, 4]))
    cp, dp = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2, 3, 5]))
    count = draw(st.sampled_from(divisors(tp * pp * cp * dp)))
    kv_groups = tp * cp * draw(st.integers(1, 2))
    heads = kv_groups * draw(st.integers(1, 3))
    stages = draw(st.lists(st.integers(1, 3), min_size=pp, max_size=pp))
    even = draw(st.booleans()) or pp == 1
    micro = draw(st.integers(1, 3))
    sequence = 2 * cp * tp * draw(st.integers(1, 4))
    overrides = {"tp": tp, "pp": pp, "cp": cp, "micro_batch_size": micro, "seq_length": sequence}
    overrides["global_batch_size"] = micro * dp * draw(st.integers(1, 4))
    overrides["layers_per_stage"] = None if even else stages
    model = given.config(
        num_hidden_layers=stages[0] * pp if even else sum(stages),
        num_attention_heads=heads,
        num_key_value_heads=kv_groups,
        hidden_size=heads * 8,
        intermediate_size=tp * draw(st.integers(1, 50)),
        vocab_size=draw(st.integers(10, 2000)),
        max_position_embeddings=sequence + draw(st.integers(0, 100)),
    )
    npus = tuple(range(tp * pp * cp * dp // count))
    return {
        "overrides": overrides,
        "model": model,
        "fleet": given.hosts(count, npus),
        "shared_storage": draw(st.booleans()),
    }


@st.composite
def anything(draw: st.DrawFn) -> dict[str, Any]:
    """Draw sizes of which about one in seven fits, by chance: small ones, and numbers with many divisors to be divided."""
    small = st.sampled_from([1, 1, 1, 2, 2, 3, 4])
    overrides = {name: draw(small) for name in ("tp", "pp", "cp", "micro_batch_size")}
    overrides |= {
        "global_batch_size": draw(st.sampled_from([24, 48, 72, 7])),
        "seq_length": draw(st.sampled_from([24, 48, 30, 64])),
    }
    groups = draw(st.sampled_from([12, 6, 4]))
    heads = groups * draw(st.integers(1, 2))
    model = given.config(
        num_hidden_layers=draw(st.sampled_from([12, 24, 6, 5])),
        num_attention_heads=heads,
        num_key_value_heads=groups,
        hidden_size=heads * 8,
        intermediate_size=draw(st.sampled_from([24, 60, 50])),
        max_position_embeddings=48,
    )
    fleet = given.hosts(draw(st.integers(1, 4)), tuple(range(draw(st.sampled_from([12, 6, 4, 1])))))
    return {"overrides": overrides, "model": model, "fleet": fleet}


def only_refused_for_the_index_cache(case: dict[str, Any], error: ProblemsError) -> bool:
    per_host = len(case["fleet"][0]["npus"])
    tp = case["overrides"]["tp"]
    codes = {item["code"] for item in error.details["refusals"]}
    return codes == {"index-cache"} and not case["shared_storage"] and tp < per_host and per_host % tp != 0


@settings(deadline=None)  # the machine may be busy; nothing here is about time
@for_all(fitting())
def test_an_accepted_plan_covers_everything_once(case: dict[str, Any]) -> None:
    try:
        made = given.make(row=RELEASE, wanted=RECIPE, **case)
    except ProblemsError as error:
        assert only_refused_for_the_index_cache(case, error), error
        return
    tp, pp, cp, dp = made["tp"], made["pp"], made["cp"], made["dp"]
    ranks = made["ranks"]
    world = len(case["fleet"]) * len(case["fleet"][0]["npus"])
    assert made["world_size"] == tp * pp * cp * dp == world
    assert [rank["rank"] for rank in ranks] == list(range(world))
    places = {(rank["tp"], rank["pp"], rank["cp"], rank["dp"]) for rank in ranks}
    assert places == {(t, p, c, d) for t in range(tp) for p in range(pp) for c in range(cp) for d in range(dp)}
    processes = {(rank["host"], rank["local_rank"]) for rank in ranks}
    assert processes == {(host["name"], local) for host in case["fleet"] for local in range(len(host["npus"]))}
    for rank in ranks:  # Megatron's own formula
        assert rank["rank"] == rank["tp"] + tp * (rank["cp"] + cp * (rank["dp"] + dp * rank["pp"]))


CAPACITIES = st.sampled_from([4200, 4600, 5000, 6000, 65536])


@settings(deadline=None)  # the machine may be busy; nothing here is about time
@for_all(fitting(), CAPACITIES, st.booleans())
def test_an_accepted_plan_never_exceeds_its_npus(case: dict[str, Any], hbm_mb: int, search: bool) -> None:
    """By its own estimate; and what is suggested instead of a refused one does not either."""
    whole = {**case, "shared_storage": True, "hbm_mb": hbm_mb, "search": search}
    try:
        made = given.make(row=RELEASE, wanted=RECIPE, **whole)
    except ProblemsError as error:
        assert "memory" in {item["code"] for item in error.details["refusals"]}
        made = error.details["plan"]
        assert any(need["total"] > need["capacity"] for need in made["memory"])
    else:
        assert all(need["total"] <= need["capacity"] for need in made["memory"])
    assert [need["rank"] for need in made["memory"]] == [rank["rank"] for rank in made["ranks"]]
    for instead in made["suggestions"]:
        assert instead["memory"]["total"] <= instead["memory"]["capacity"] == hbm_mb << 20


@settings(deadline=None)  # the machine may be busy; nothing here is about time
@for_all(fitting())
def test_shards_are_exactly_those_that_the_ranks_load(case: dict[str, Any]) -> None:
    made = given.make(row=RELEASE, wanted=RECIPE, **{**case, "shared_storage": True})
    loaded: dict[str, set[str]] = defaultdict(set)
    for rank in made["ranks"]:
        stage = f"_{rank['pp']:03d}" if made["pp"] > 1 else ""
        loaded[rank["host"]].add(f"mp_rank_{rank['tp']:02d}{stage}")
    assert {host: set(names) for host, names in made["shards"].items()} == loaded
    written = [name for names in made["writers"].values() for name in names]
    assert sorted(written) == sorted(set().union(*loaded.values()))
    assert all(set(made["writers"][host]) <= loaded[host] for host in loaded)
    stages = made["conversion"]["layers_per_stage"]
    assert len(stages) == made["pp"]
    assert sum(stages) == made["model"]["layers"]
    assert made["model"]["padded_vocab"] % made["tp"] == 0
    assert 0 <= made["model"]["padded_vocab"] - made["model"]["vocab"] < made["tp"]


@settings(deadline=None)  # the machine may be busy; nothing here is about time
@for_all(anything())
def test_refused_exactly_when_something_does_not_divide(case: dict[str, Any]) -> None:
    wanted, model, fleet = case["overrides"], case["model"], case["fleet"]
    tp, pp, cp = wanted["tp"], wanted["pp"], wanted["cp"]
    per_host, world = len(fleet[0]["npus"]), len(fleet) * len(fleet[0]["npus"])
    dp, rest = divmod(world, tp * pp * cp)
    fits = (
        rest == 0
        and model["num_attention_heads"] % tp
        == model["num_key_value_heads"] % tp
        == model["intermediate_size"] % tp
        == 0
        and model["num_hidden_layers"] % pp == 0
        and wanted["seq_length"] <= 48
        and wanted["seq_length"] % tp == 0
        and (cp == 1 or (wanted["seq_length"] % (2 * cp) == 0 and model["num_attention_heads"] % (tp * cp) == 0))
        and (len(fleet) == 1 or tp > per_host or per_host % tp == 0)
        and wanted["global_batch_size"] % (wanted["micro_batch_size"] * dp) == 0
    )
    try:
        made = given.make(row=RELEASE, wanted=RECIPE, **case)
    except ProblemsError as error:
        assert not fits, error
    else:
        assert fits
        assert made["dp"] == dp
