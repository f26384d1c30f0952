# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the run fits on its NPUs, rank by rank."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .plan_findings import Findings
from .plan_hosts import PlanHost
from .plan_memory import MIB, RankMemory, memory_by_stage
from .plan_placement import Rank, Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape

GIB = 1 << 30


def gib(number: float) -> str:
    """Return bytes as a person reads them."""
    return f"{number / GIB:.1f} GiB"


def rank_memory(stages: Sequence[RankMemory], ranks: Sequence[Rank], hosts: Sequence[PlanHost]) -> List[Dict[str, Any]]:
    """Return rank by rank what it needs and what its NPU has, in bytes."""
    capacity = {host.name: host.hbm_mb * MIB for host in hosts}
    parts = [
        {
            "static": stage.static,
            "activation": stage.activation,
            "communication": stage.communication,
            "runtime": stage.runtime,
            "total": stage.total,
        }
        for stage in stages
    ]
    return [{"rank": rank.rank, **parts[rank.pp], "capacity": capacity[rank.host]} for rank in ranks]


def tightest(
    stages: Sequence[RankMemory], ranks: Sequence[Rank], hosts: Sequence[PlanHost]
) -> Tuple[Rank, RankMemory, int]:
    """Return the rank with the least room left, what it needs, and the bytes that its NPU has."""
    capacity = {host.name: host.hbm_mb * MIB for host in hosts}
    rank = min(ranks, key=lambda item: capacity[item.host] - stages[item.pp].total)
    return rank, stages[rank.pp], capacity[rank.host]


def check_memory(
    shape: ModelShape,
    recipe: Recipe,
    sizes: Sizes,
    ranks: Sequence[Rank],
    hosts: Sequence[PlanHost],
    environment: Mapping[str, str],
    findings: Findings,
) -> bool:
    """Refuse a run that does not fit by its estimate; say whether it does."""
    stages = memory_by_stage(shape, recipe, sizes, environment)
    rank, need, capacity = tightest(stages, ranks, hosts)
    if need.total <= capacity:
        return True
    findings.refuse(
        "memory",
        f"Rank {rank.rank} on {rank.host} (pipeline stage {rank.pp}) needs about {gib(need.total)} of its NPU's {gib(capacity)}: "
        f"{gib(need.static)} for parameters, gradients and optimizer, {gib(need.activation)} for the activations of sequences of "
        f"{recipe.seq_length} tokens, {gib(need.communication + need.runtime)} for buffers and runtime.",
    )
    return False
