# SPDX-License-Identifier: GPL-3.0-or-later
"""What fits where the chosen sizes do not: the longest sequence for them, and other sizes for the same sequence.

The order of other sizes is by an estimate of how much slower a step gets: the pipeline's bubble, (PP - 1) / micro batches, and what is
computed a second time, a third more work for a whole layer and a hundredth for its activation function alone. Equal ones are ordered
by the smaller TP; those whose TP groups span hosts, where every layer waits for the network, come last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from .plan_findings import divisors
from .plan_fit import gib
from .plan_hosts import PlanHost
from .plan_memory import MIB, RankMemory, memory_by_stage
from .plan_placement import Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape

BEST = 3  # choices that a person is shown
STEP = 1024  # tokens between sequence lengths that are tried
BLOCK = ("recompute-granularity", "recompute-method", "recompute-num-layers")
SWIGLU = "recompute-activation-function"
RECOMPUTATION = (*BLOCK, SWIGLU)


@dataclass(frozen=True)
class Fleet:
    """What the search knows of the NPUs: how many on how many hosts, and the bytes of the smallest."""

    hosts: int
    per_host: int
    capacity: int
    environment: Mapping[str, str]

    @classmethod
    def of(cls, hosts: Sequence[PlanHost], environment: Mapping[str, str]) -> Fleet:
        """Return what matters of the hosts of a run."""
        return cls(len(hosts), len(hosts[0].npus), min(host.hbm_mb for host in hosts) * MIB, environment)

    def worst(self, shape: ModelShape, recipe: Recipe, sizes: Sizes) -> RankMemory:
        """Return what the ranks with the least room need."""
        return max(memory_by_stage(shape, recipe, sizes, self.environment), key=lambda stage: stage.total)


@dataclass(frozen=True)
class Choice:
    """Sizes that fit, with what the fullest rank needs."""

    recipe: Recipe
    sizes: Sizes
    need: RankMemory
    slowdown: float

    def as_dict(self, kind: str, capacity: int) -> Dict[str, Any]:
        """Return plain data: the sizes, the overrides that bring them about, and the memory in bytes."""
        recipe, sizes, need = self.recipe, self.sizes, self.need
        again = {flag: recipe.arguments[flag] for flag in RECOMPUTATION if flag in recipe.arguments}
        return {
            "kind": kind,
            "text": f"{_words(recipe, sizes, again)}: {gib(need.total)} of {gib(capacity)}",
            "tp": sizes.tp,
            "pp": sizes.pp,
            "cp": sizes.cp,
            "dp": sizes.dp,
            "micro_batch_size": recipe.micro_batch_size,
            "seq_length": recipe.seq_length,
            "recompute": again,
            "slowdown": round(self.slowdown, 3),
            "memory": {
                "static": need.static,
                "activation": need.activation,
                "total": need.total,
                "capacity": capacity,
            },
        }


def _words(recipe: Recipe, sizes: Sizes, again: Mapping[str, Any]) -> str:
    text = f"TP {sizes.tp} x PP {sizes.pp}, micro batch {recipe.micro_batch_size}, sequence {recipe.seq_length}"
    if "recompute-num-layers" in again:
        text += f", {again['recompute-num-layers']} layers of a stage recomputed"
    return f"{text}, activation functions recomputed" if SWIGLU in again else text


def suggestions(shape: ModelShape, recipe: Recipe, sizes: Sizes, fleet: Fleet) -> List[Dict[str, Any]]:
    """Return what fits instead: the longest sequence for the chosen sizes first, then the best other sizes."""
    shorter = longest_sequence(shape, recipe, sizes, fleet)
    found = [shorter.as_dict("sequence", fleet.capacity)] if shorter else []
    return found + best_sizes(shape, recipe, fleet)


def longest_sequence(shape: ModelShape, recipe: Recipe, sizes: Sizes, fleet: Fleet) -> Optional[Choice]:
    """Return the chosen sizes with the longest sequence that fits, None where not even a short one does."""
    step = STEP if STEP % (2 * sizes.cp * sizes.tp) == 0 else 2 * sizes.cp * sizes.tp
    low, high = 0, max(recipe.seq_length // step, 1)
    best: Optional[Choice] = None
    while low < high:
        middle = (low + high + 1) // 2
        shorter = replace(recipe, seq_length=middle * step)
        need = fleet.worst(shape, shorter, sizes)
        if need.total <= fleet.capacity:
            low, best = middle, Choice(shorter, sizes, need, 1.0)
        else:
            high = middle - 1
    return best


def best_choices(shape: ModelShape, recipe: Recipe, fleet: Fleet) -> List[Choice]:
    """Return every choice of TP, PP, micro batch and recomputation that fits, the fastest by estimate first."""
    plain = replace(recipe, layers_per_stage=None, dp=None, arguments=_plain(recipe.arguments))
    found = [choice for option, sizes in _options(shape, plain, fleet) for choice in _ways(shape, option, sizes, fleet)]
    return sorted(
        found,
        key=lambda choice: (
            choice.sizes.tp > fleet.per_host,
            round(choice.slowdown, 3),
            choice.sizes.tp,
            choice.sizes.pp,
            -choice.recipe.micro_batch_size,
        ),
    )


def best_sizes(shape: ModelShape, recipe: Recipe, fleet: Fleet) -> List[Dict[str, Any]]:
    """Return the few best choices as plain data."""
    return [choice.as_dict("sizes", fleet.capacity) for choice in best_choices(shape, recipe, fleet)[:BEST]]


def enough(shape: ModelShape, recipe: Recipe, fleet: Fleet) -> Optional[Fleet]:
    """Return the fewest hosts like these on which something fits; None where up to four times as many and eight more do not help."""
    for hosts in range(fleet.hosts + 1, 4 * fleet.hosts + 9):
        larger = replace(fleet, hosts=hosts)
        if best_choices(shape, recipe, larger):
            return larger
    return None


def _plain(arguments: Mapping[str, Any]) -> Dict[str, Any]:
    dropped = (*RECOMPUTATION, "num-layers-per-virtual-pipeline-stage")
    return {flag: value for flag, value in arguments.items() if flag not in dropped}


def _options(shape: ModelShape, recipe: Recipe, fleet: Fleet) -> Iterator[Any]:
    """Yield (recipe, sizes) of everything that the model, the NPUs and the global batch can be divided by."""
    world = fleet.hosts * fleet.per_host
    # Of packed samples more than one at a time would attend to each other (plan_warnings.warn_packed).
    most = 1 if recipe.switched_on("reset-position-ids") else max(4, recipe.micro_batch_size)
    for tp in divisors(shape.kv_groups):
        if fleet.per_host % tp and tp % fleet.per_host:
            continue
        if shape.heads % (tp * recipe.cp) or shape.ffn % tp or recipe.seq_length % tp:
            continue
        for pp in divisors(shape.layers):
            dp, rest = divmod(world, tp * pp * recipe.cp)
            if rest or not dp:
                continue
            for micro in divisors(recipe.global_batch_size):
                if micro <= most and recipe.global_batch_size % (micro * dp) == 0:
                    yield replace(recipe, tp=tp, pp=pp, micro_batch_size=micro), Sizes(tp, pp, recipe.cp, dp)


def _ways(shape: ModelShape, recipe: Recipe, sizes: Sizes, fleet: Fleet) -> List[Choice]:
    """Return the ways to recompute that fit these sizes: as few layers as will do, with and without the others' activation functions."""
    layers = shape.layers // sizes.pp
    lighter = replace(recipe, arguments={**recipe.arguments, SWIGLU: True})
    ways = [_fewest(shape, option, sizes, layers, fleet) for option in (recipe, lighter)]
    if ways[0] is not None and not any(flag in ways[0].arguments for flag in BLOCK):
        ways = ways[:1]  # nothing has to be computed twice
    else:
        ways.append(_with(recipe, layers))  # the most room that recomputation leaves
    chosen: Dict[str, Choice] = {}
    for way in ways:
        if way is not None:
            need = fleet.worst(shape, way, sizes)
            if need.total <= fleet.capacity:
                key = str([way.arguments.get(flag) for flag in RECOMPUTATION])
                chosen[key] = Choice(way, sizes, need, _slowdown(way, sizes, layers))
    return list(chosen.values())


def _slowdown(recipe: Recipe, sizes: Sizes, layers: int) -> float:
    """Return how much longer than without a bubble and without recomputation a step takes, by estimate."""
    rounds = recipe.global_batch_size // (recipe.micro_batch_size * sizes.dp)
    twice = int(recipe.arguments.get("recompute-num-layers", 0)) / layers
    work = 1 + twice / 3 + ((1 - twice) / 100 if SWIGLU in recipe.arguments else 0)
    return work * (1 + (sizes.pp - 1) / rounds)


def _fewest(shape: ModelShape, recipe: Recipe, sizes: Sizes, layers: int, fleet: Fleet) -> Optional[Recipe]:
    """Return the recipe with the fewest layers of a stage computed twice, None where all of them do not help."""

    def fits(again: int) -> bool:
        return fleet.worst(shape, _with(recipe, again), sizes).total <= fleet.capacity

    if fits(0):
        return recipe
    if not fits(layers):
        return None
    low, high = 1, layers  # from the first layer on, each saves the same
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return _with(recipe, low)


def _with(recipe: Recipe, layers: int) -> Recipe:
    """Return the recipe with so many layers of each stage recomputed."""
    if not layers:
        return recipe
    block = {"recompute-granularity": "full", "recompute-method": "block", "recompute-num-layers": layers}
    return replace(recipe, arguments={**recipe.arguments, **block})
