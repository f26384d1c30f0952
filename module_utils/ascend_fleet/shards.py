# SPDX-License-Identifier: GPL-3.0-or-later
"""How Megatron names the shards of a checkpoint."""

from __future__ import annotations

from typing import List


def shard_name(tp_rank: int, pp_rank: int, pp: int) -> str:
    """Return the directory in which Megatron keeps the shard of a rank."""
    return f"mp_rank_{tp_rank:02d}_{pp_rank:03d}" if pp > 1 else f"mp_rank_{tp_rank:02d}"


def shard_names(tp: int, pp: int) -> List[str]:
    """Return the names of all shards, stage by stage."""
    return [shard_name(rank, stage, pp) for stage in range(pp) for rank in range(tp)]
