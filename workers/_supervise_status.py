# SPDX-License-Identifier: GPL-3.0-or-later
"""The status file of one node: what modules, people and the report read. Written whole or not at all."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from _supervise_facts import Loss
from _supervise_output import write_whole
from _supervise_plan import ENDED, ENDING, GATHER, Job
from _supervise_spec import Spec


@dataclass(frozen=True)
class Local:
    """What only this node knows. Times in seconds since the epoch."""

    started: float
    pid: Optional[int]  # of torchrun, as the container counts; None before it starts
    exit_code: Optional[int]
    losses: Sequence[Loss]
    ended: Optional[float] = None


def state_of(job: Job) -> str:
    """Return the state to show: the verdict only stands when nothing runs any more."""
    if job.phase == GATHER:
        return "starting"
    if job.phase == ENDING:
        return "ending"
    return job.state


def status(spec: Spec, job: Job, local: Local) -> Dict[str, Any]:
    """Return the content of the status file. The facts are those of the whole run, whichever node's log told them."""
    facts = asdict(job.facts)
    for internal in ("skipped_in_a_row", "attempt_first_iteration", "attempt_first_loss", "loaded", "shown_before"):
        facts.pop(internal)
    failure = job.failure
    return {
        **facts,
        "iterations": spec.expect.iterations,
        "loaded_checkpoint": job.facts.loaded is not None,
        "loaded_iteration": job.facts.loaded,
        "state": state_of(job),
        "reason": failure.reason if failure else "",
        "remedy": failure.remedy if failure else "",
        "cause_node": failure.node if failure else "",
        "run": spec.run,
        "attempt": spec.attempt,
        "node": spec.name,
        "node_rank": spec.node_rank,
        "start_iteration": spec.expect.start,
        "expected_first_loss": job.facts.shown_before if spec.expect.start else spec.expect.first_loss,
        "final": job.phase == ENDED,
        "pid": local.pid,
        "exit_code": local.exit_code,
        "started": local.started,
        "ended": local.ended,
        "updated": time.time(),
        "losses": [list(point) for point in local.losses],
    }


def write_status(spec: Spec, content: Dict[str, Any]) -> None:
    """Write the status file of this node; raises OSError as the file system says it."""
    write_whole(spec.status_path, json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n")


def earlier_losses(spec: Spec) -> List[Loss]:
    """Return the loss curve that an earlier attempt of the same run left on this node."""
    if not spec.expect.start:
        return []
    try:
        content = json.loads(spec.status_path.read_text(encoding="utf-8"))
        points: List[Tuple[int, float]] = [(int(iteration), float(loss)) for iteration, loss in content["losses"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return points
