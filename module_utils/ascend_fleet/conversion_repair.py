# SPDX-License-Identifier: GPL-3.0-or-later
"""Making only the damaged shards of a converted checkpoint again."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import List, Optional, Tuple

from .host import Host
from .receipt import Store, Verdict
from .shards import shard_name

WEIGHTS = "model_optim_rng.pt"


@dataclass(frozen=True)
class Repair:
    """`ranks` have to be made again, written as the worker takes them (tp_pp); `kept` are the paths of whole shards."""

    directory: str
    ranks: Tuple[str, ...]
    kept: Tuple[str, ...]

    def move_kept(self, host: Host, target: str) -> None:
        """Put the whole shards beside those that were made again. What stays behind was no whole checkpoint before either."""
        for path in self.kept:
            host.make_dirs(os.path.dirname(os.path.join(target, path)))
            host.rename(os.path.join(self.directory, path), os.path.join(target, path))


def shard_path(tp_rank: int, pp_rank: int, pp: int) -> str:
    """Return a shard's file, relative to the checkpoint."""
    return f"release/{shard_name(tp_rank, pp_rank, pp)}/{WEIGHTS}"


def plan_repair(host: Host, store: Store, verdict: Verdict, tp: int, pp: int) -> Optional[Repair]:
    """Return what to make again, or None where nothing of the old result is worth keeping.

    A shard is kept only when its content is that of the receipt: size and time do not say that of a disk that has just lost files.
    """
    if verdict.state != "damaged" or verdict.receipt is None:
        return None
    directory = store.path(verdict.receipt.fingerprint)
    lost = {*verdict.differences.missing, *verdict.differences.changed}
    ranks: List[str] = []
    kept: List[str] = []
    for pp_rank in range(pp):
        for tp_rank in range(tp):
            path = shard_path(tp_rank, pp_rank, pp)
            entry = verdict.receipt.outputs.files.get(path)
            whole = (
                entry is not None and path not in lost and host.sha256(os.path.join(directory, path)) == entry.sha256
            )
            if whole:
                kept.append(path)
            else:
                ranks.append(f"{tp_rank}_{pp_rank}")
    return Repair(directory, tuple(ranks), tuple(kept)) if kept else None
