# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards that a host loads to go on and another host saved: who lacks which, and putting them where training loads from.

With data parallelism over hosts only one of those that load a shard writes it. Role artifact_transfer brings the weights of such
shards into a stage of their own, from which they get a second name in the run's checkpoint directory.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import FleetError
from .host import Host
from .training_decide import Decision, decide
from .training_inputs import Run
from .training_look import Look
from .training_saved import WEIGHTS, iteration_directory, whole
from .transfer_files import share

STAGE = "resumed"


def stage_of(fingerprint: str, iteration: int, source: str) -> str:
    """Return the directory below the work root for what the host `source` gives; files of all iterations have the same names."""
    return os.path.join(STAGE, fingerprint, iteration_directory(iteration), source)


def lacking(looks: Sequence[Look], decision: Decision) -> Dict[str, Dict[str, List[str]]]:
    """Return host -> source -> shards that the host's ranks load and that only the source has; empty where nothing is resumed."""
    if decision.action not in ("resume", "join") or not decision.start:
        return {}
    key = str(decision.start)
    writer = {shard: item.host for item in looks for shard in item.writes if shard in item.saved.get(key, ())}
    found: Dict[str, Dict[str, List[str]]] = {}
    for item in looks:
        here = {*item.saved.get(key, ()), *item.others.get(key, ())}
        for shard in item.needed:
            if shard not in here and shard in writer:
                found.setdefault(item.host, {}).setdefault(writer[shard], []).append(shard)
    return found


def parcels(looks: Sequence[Mapping[str, Any]], new_run: bool) -> Dict[str, List[Dict[str, Any]]]:
    """Return host -> what to bring to it before the start, one entry a source: {from, source, stage, patterns}.

    Nothing where the start will be refused: it says why, and nothing travels for it.
    """
    found = [Look.from_dict(item) for item in looks]
    if not found:
        return {}
    try:
        decision = decide(found, new_run)
    except FleetError:
        return {}
    places = {item.host: os.path.join(item.save, iteration_directory(decision.start)) for item in found}
    return {
        host: [
            {
                "from": source,
                "source": places[source],
                "stage": stage_of(found[0].fingerprint, decision.start, source),
                "patterns": [f"{shard}/{WEIGHTS}" for shard in shards],
            }
            for source, shards in sorted(sources.items())
        ]
        for host, sources in lacking(found, decision).items()
    }


def put_in_place(host: Host, work_root: str, run: Run, iteration: int, sources: Mapping[str, Sequence[str]]) -> None:
    """Give what was brought from each source its name in the run's checkpoint directory; FleetError where something was not brought."""
    for source, shards in sources.items():
        brought = os.path.join(work_root, stage_of(run.fingerprint, iteration, source), "current")
        absent = [shard for shard in shards if not whole(host, os.path.join(brought, shard, WEIGHTS))]
        if absent:
            raise FleetError(
                f"{run.node.name} lacks {', '.join(absent)} of iteration {iteration}, which {source} saved.",
                "Run --tags training as a whole: it brings them before the start.",
            )
        for shard in shards:
            target = os.path.join(run.save, iteration_directory(iteration), shard, WEIGHTS)
            share(os.path.realpath(os.path.join(brought, shard, WEIGHTS)), target)


def forget(host: Host, work_root: str, run: Run) -> None:
    """Remove what was brought for a run that begins anew: its iterations will have the same names."""
    host.remove(os.path.join(work_root, STAGE, run.fingerprint))


def drop_copies(host: Host, work_root: str, run: Run, keep: Optional[int] = None) -> None:
    """Remove what was brought here, but for iteration `keep`: nothing loads it any more.

    The run saves later iterations again, so that what was brought of them is of the old; earlier ones and those of a finished run only
    take room.
    """
    stage = os.path.join(work_root, STAGE, run.fingerprint)
    for iteration in host.list_dir(stage):
        if keep is not None and iteration == iteration_directory(keep):
            continue
        for source in host.list_dir(os.path.join(stage, iteration)):
            for shard in host.list_dir(os.path.join(stage, iteration, source, "current")):
                if shard.startswith("mp_rank_") and shard not in run.node.writes:
                    host.remove(os.path.join(run.save, iteration, shard))
        host.remove(os.path.join(stage, iteration))
