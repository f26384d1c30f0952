# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rank does what: tensor parallel fastest, then data parallel, then pipeline parallel."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist


@dataclass(frozen=True)
class Layout:
    """The sizes of a run and this rank's place in it; the groups are process groups with this rank in them."""

    rank: int
    tp: int
    dp: int
    pp: int
    tp_group: dist.ProcessGroup
    dp_group: dist.ProcessGroup
    model_group: dist.ProcessGroup
    embedding_group: dist.ProcessGroup

    @property
    def tp_rank(self) -> int:
        """Place among the ranks that share each layer."""
        return self.rank % self.tp

    @property
    def dp_rank(self) -> int:
        """Which copy of the model this rank belongs to."""
        return self.rank // self.tp % self.dp

    @property
    def pp_rank(self) -> int:
        """Which pipeline stage this rank computes."""
        return self.rank // (self.tp * self.dp)

    @property
    def first_stage(self) -> bool:
        """Whether this rank embeds tokens."""
        return self.pp_rank == 0

    @property
    def last_stage(self) -> bool:
        """Whether this rank computes the loss."""
        return self.pp_rank == self.pp - 1

    @property
    def tp_source(self) -> int:
        """The global rank that reads data for this tensor-parallel group."""
        return self.rank - self.tp_rank

    def neighbour(self, stages: int) -> int:
        """Return the global rank `stages` further down the pipeline."""
        return self.rank + stages * self.tp * self.dp


def initialize_model_parallel(tp: int, pp: int) -> Layout:
    """Create the process groups; every rank has to call this. World size must be a multiple of tp x pp."""
    world, rank = dist.get_world_size(), dist.get_rank()
    dp = world // (tp * pp)
    stage = tp * dp
    groups = {
        "tp": [list(range(first, first + tp)) for first in range(0, world, tp)],
        "dp": [list(range(s * stage + t, (s + 1) * stage, tp)) for s in range(pp) for t in range(tp)],
        "model": [[s * stage + d * tp + t for s in range(pp) for t in range(tp)] for d in range(dp)],
        "embedding": [sorted({column, column + (pp - 1) * stage}) for column in range(stage)],
    }
    if rank == 0:
        print(_described(groups["tp"], groups["dp"], world), flush=True)
    mine = {name: _own_group(members, rank) for name, members in groups.items()}
    return Layout(rank, tp, dp, pp, mine["tp"], mine["dp"], mine["model"], mine["embedding"])


def _described(tp: list[list[int]], dp: list[list[int]], world: int) -> str:
    """Return the lines of MindSpeed about the groups, its spelling included; experts and context are not divided here."""
    alone = [[rank] for rank in range(world)]
    lines = {
        "all tp gourps": tp,
        "all ep groups": alone,
        "all dp groups": dp,
        "all_dp_modulo_exp_group_ranks": dp,
        "all_tensor_and_expert_group_ranks": tp,
        "all_data_parallel_group_ranks_with_cp": dp,
    }
    return "\n".join(f"{name} {members}" for name, members in lines.items())


def _own_group(groups: list[list[int]], rank: int) -> dist.ProcessGroup:
    own: dist.ProcessGroup | None = None
    for ranks in groups:
        group = dist.new_group(ranks)
        if rank in ranks:
            own = group
    if own is None:  # a middle stage is in no embedding group and never uses it
        own = dist.distributed_c10d._get_default_group()
    return own
