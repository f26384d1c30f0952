# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that upstream's continuous integration measured, beside what the plan estimates for the same run."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.ascend_fleet.plan_memory import MIB, RankMemory, largest_update, memory_by_stage
from ansible.module_utils.ascend_fleet.plan_placement import Sizes
from ansible.module_utils.ascend_fleet.plan_recipe import Dataset, Recipe
from ansible.module_utils.ascend_fleet.plan_shape import ModelShape

from tests.unit.plan import given

DATA = given.ROOT / "tests" / "data" / "memory"
MOMENTS = 8  # bytes of a parameter that Adam makes only after the first backward pass


def rows(name: str) -> list[dict[str, str]]:
    """Return a table of tests/data/memory."""
    with (DATA / name).open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@dataclass(frozen=True)
class Baseline:
    """One run of upstream's: what it was given and, of its tests, what it measured, in MiB."""

    row: dict[str, str]

    @property
    def title(self) -> str:
        return f"{self.row['branch']} {self.row.get('name') or self.row['script']}"

    def number(self, name: str) -> float:
        return float(self.row[name] or 0)

    def count(self, name: str) -> int:
        return int(self.row[name] or 0)

    @property
    def shape(self) -> ModelShape:
        sizes = {key: self.count(key) for key in ("layers", "hidden", "heads", "ffn", "vocab")}
        switches = {"tied": bool(self.count("tied")), "qkv_bias": bool(self.count("bias"))}
        return ModelShape(
            type="llama",
            kv_groups=self.count("groups"),
            positions=self.count("seq"),
            rope_theta=10000,
            norm_epsilon=1e-6,
            **sizes,
            **switches,
        )

    @property
    def sizes(self) -> Sizes:
        return Sizes(*(self.count(key) for key in ("tp", "pp", "cp", "dp")))

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            name=self.title,
            model_types=(),
            tp=self.count("tp"),
            pp=self.count("pp"),
            cp=self.count("cp"),
            dp=None,
            layers_per_stage=tuple(map(int, self.row.get("stages", "").split())) or None,
            iterations=1,
            global_batch_size=self.count("global"),
            micro_batch_size=self.count("micro"),
            seq_length=self.count("seq"),
            seed=1,
            split="100,0,0",
            save_interval=1,
            vocab_divisible_by=self.count("divisible"),
            padded_vocab_size=None,
            dataset=Dataset("none", ("text",), "text", False),
            arguments=self.arguments,
            environment={},
        )

    @property
    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(self.row["flags"].split(), True)
        if self.row["dtype"] != "fp32":
            found[self.row["dtype"]] = True
        if self.row["recompute"]:
            names = ("recompute-granularity", "recompute-method", "recompute-num-layers")
            found |= dict(zip(names, self.row["recompute"].split(), strict=True))
        if self.row["virtual"]:
            found["num-layers-per-virtual-pipeline-stage"] = self.count("virtual")
        return found

    @property
    def stages(self) -> list[RankMemory]:
        return memory_by_stage(self.shape, self.recipe, self.sizes, {})

    @property
    def static(self) -> tuple[float, float]:
        """The estimate of the fullest and the emptiest stage."""
        found = [stage.static / MIB for stage in self.stages]
        return max(found), min(found)

    @property
    def first_peak(self) -> float:
        """The estimate of the peak that Megatron reports, which is that of the first iteration.

        Adam's moments do not exist yet while it computes; they are made in its step, when the activations are gone.
        """
        recipe, sizes, shape = self.recipe, self.sizes, self.shape
        shared = sizes.dp * sizes.cp if recipe.switched_on("use-distributed-optimizer") else 1
        update = largest_update(shape, recipe, sizes, shape.padded_vocab(sizes.tp, recipe.vocab_divisible_by))
        computing = [
            stage.static - stage.parameters * MOMENTS / shared + stage.activation / 1.1 for stage in self.stages
        ]
        return max(*computing, max(stage.static for stage in self.stages) + update) / MIB


def published() -> list[Baseline]:
    """Return the example scripts whose memory can be estimated; nobody says what they measured."""
    return [Baseline(row) for row in rows("published.csv")]


def baselines() -> list[Baseline]:
    """Return the runs that the estimate can be compared with."""
    return [Baseline(row) for row in rows("baselines.csv")]
