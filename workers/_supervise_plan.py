# SPDX-License-Identifier: GPL-3.0-or-later
"""What the nodes of a run decide together. Pure: node 0 feeds it what every node last said, every node obeys the answer.

A run goes through the phases gather (not everybody is there), run, ending (processes are being stopped) and ended (the verdict stands).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from _supervise_facts import Facts, all_done, judge_end, judge_first_loss, judge_loading, merge, never_loaded
from _supervise_failures import CAUSE, ECHO, JUDGED, SILENT, UNKNOWN, Failure, primary
from _supervise_spec import Spec

GATHER, RUN, ENDING, ENDED = "gather", "run", "ending", "ended"
OF_PROCESSES = (
    CAUSE,
    UNKNOWN,
    ECHO,
)  # failures that are about how processes ended, and not about what the run is worth


@dataclass(frozen=True)
class NodeState:
    """What one supervisor says about itself."""

    identity: str
    beat: int = 0
    exit_code: Optional[int] = None  # of torchrun; None while it runs or was never started
    ranks_over: bool = False  # the ranks of this node have ended; torchrun may still wait for the other nodes
    quiet: bool = True  # no process of the training is there
    stop: bool = False  # somebody asked this node for the end
    failure: Optional[Failure] = None
    facts: Facts = field(default_factory=Facts)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeState:
        """Read what dataclasses.asdict gave."""
        failure = Failure.from_dict(data["failure"]) if data["failure"] else None
        values = {**data, "failure": failure, "facts": Facts.from_dict(data["facts"])}
        return cls(**values)


@dataclass(frozen=True)
class Seen:
    """A node's last word and for how many seconds it has not changed."""

    state: NodeState
    age: float = 0.0


@dataclass(frozen=True)
class Job:
    """What holds for all nodes. `since` is the time (s, any clock that only grows) at which the phase began."""

    phase: str = GATHER
    since: float = 0.0
    state: str = "starting"  # running | succeeded | failed | stopped from phase run on
    failure: Optional[Failure] = None  # with `succeeded`: how a rank ended badly after everything was done
    facts: Facts = field(default_factory=Facts)
    first_exit: Optional[float] = None
    first_iteration_at: Optional[float] = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """Read what dataclasses.asdict gave."""
        failure = Failure.from_dict(data["failure"]) if data["failure"] else None
        return cls(**{**data, "failure": failure, "facts": Facts.from_dict(data["facts"])})


def advance(spec: Spec, job: Job, seen: Mapping[int, Seen], now: float) -> Job:
    """Return the job after another look at the nodes. `seen` lacks the nodes that were never heard of."""
    facts = merge(item.state.facts for _, item in sorted(seen.items()))
    job = _with(job, facts=facts)
    if job.phase == GATHER:
        return _gather(spec, job, seen, now)
    if job.phase == RUN:
        return _run(spec, job, seen, now)
    if job.phase == ENDING:
        return _end(spec, job, seen, now)
    return job


def _with(job: Job, **changes: Any) -> Job:
    return Job(**{**job.__dict__, **changes})


def _stop_or_failure(spec: Spec, seen: Mapping[int, Seen]) -> Optional[Dict[str, Any]]:
    stopping = [spec.nodes[rank] for rank, item in sorted(seen.items()) if item.state.stop]
    if stopping:
        reason = f"The end was asked for on {', '.join(stopping)}."
        return {"state": "stopped", "failure": Failure(reason, "Start again: the run resumes.", JUDGED, stopping[0])}
    failure = primary(item.state.failure for _, item in sorted(seen.items()) if item.state.failure)
    return {"state": "failed", "failure": failure} if failure else None


def _gather(spec: Spec, job: Job, seen: Mapping[int, Seen], now: float) -> Job:
    over = _stop_or_failure(spec, seen)
    failure = _mismatch(spec, seen)
    missing = [name for rank, name in enumerate(spec.nodes) if rank not in seen]
    if failure is None and missing and now - job.since > spec.timing.start_timeout:
        failure = Failure(
            f"{', '.join(missing)} did not come to the start within {spec.timing.start_timeout:g} s.",
            "Look at logs/supervisor-<node>.log of the run there, and whether "
            f"{spec.master_addr}:{spec.store_port} can be reached from there.",
            JUDGED,
            missing[0],
        )
    if over or failure:
        return _with(job, phase=ENDING, since=now, **(over or {"state": "failed", "failure": failure}))
    return job if missing else _with(job, phase=RUN, since=now, state="running")


def _mismatch(spec: Spec, seen: Mapping[int, Seen]) -> Optional[Failure]:
    odd = [spec.nodes[rank] for rank, item in sorted(seen.items()) if item.state.identity != spec.identity]
    if not odd:
        return None
    return Failure(
        f"{', '.join(odd)} came with another run, attempt or layout than {spec.nodes[0]}.",
        "Stop the training on all hosts (playbooks/stop-training.yml), then start it again.",
        JUDGED,
        odd[0],
    )


def _run(spec: Spec, job: Job, seen: Mapping[int, Seen], now: float) -> Job:
    over = _stop_or_failure(spec, seen)
    late = over["failure"] if over and _is_late(spec, job, over) else None
    if over and late is None:
        return _with(job, phase=ENDING, since=now, **over)
    if job.facts.attempt_first_iteration is not None and job.first_iteration_at is None:
        job = _with(job, first_iteration_at=now)
    exited = [rank for rank, item in seen.items() if item.state.exit_code is not None]
    ended = [rank for rank, item in seen.items() if item.state.ranks_over]
    if ended and job.first_exit is None:
        job = _with(job, first_exit=now)
    done = all_done(spec.expect, spec.saves, job.facts)
    waited = now - job.first_exit if job.first_exit is not None else 0.0
    failure = _judge(spec, job, now) or _silent(spec, seen) or _left_behind(spec, job, ended, now)
    if failure is None and not done and waited > spec.timing.loaded_grace:
        failure = late
    # torchrun waits minutes for its like on a node where a rank failed; when all ranks are over there is nothing to wait for.
    if failure is None and len(ended if late and done else exited) < len(spec.nodes):
        return job
    if done and (failure is None or failure.weight in OF_PROCESSES):
        return _with(job, phase=ENDING, since=now, state="succeeded", failure=late or failure)
    failure = failure or late or judge_end(spec.expect, job.facts)
    return _with(job, phase=ENDING, since=now, state="failed" if failure else "succeeded", failure=failure)


def _is_late(spec: Spec, job: Job, over: Mapping[str, Any]) -> bool:
    """Say whether a process failed after the last iteration was logged. Whether that matters is up to what was saved by then.

    Interpreters that trip over their own threads on the way out are common, and take nothing away from a run that is complete.
    """
    reached = job.facts.iteration is not None and job.facts.iteration >= spec.expect.iterations
    return reached and over["state"] == "failed" and over["failure"].weight in OF_PROCESSES


def _judge(spec: Spec, job: Job, now: float) -> Optional[Failure]:
    failure = judge_loading(spec.expect, job.facts) or judge_first_loss(spec.expect, job.facts)
    if failure:
        return failure
    waited = 0.0 if job.first_iteration_at is None else now - job.first_iteration_at
    unsaid = spec.expect.loads and job.facts.loaded is None
    return never_loaded() if unsaid and waited > spec.timing.loaded_grace else None


def _silent(spec: Spec, seen: Mapping[int, Seen]) -> Optional[Failure]:
    gone = [spec.nodes[rank] for rank, item in sorted(seen.items()) if item.age > spec.timing.dead_after]
    if not gone:
        return None
    return Failure(
        f"{', '.join(gone)} gave no sign of life for {spec.timing.dead_after:g} s.",
        "Look whether the host, its network and its training container are up.",
        SILENT,
        gone[0],
    )


def _left_behind(spec: Spec, job: Job, ended: List[int], now: float) -> Optional[Failure]:
    if job.first_exit is None or not ended or len(ended) == len(spec.nodes):
        return None
    reached = job.facts.iteration is not None and job.facts.iteration >= spec.expect.iterations
    limit = spec.timing.exit_skew if reached else spec.timing.early_exit_skew
    if now - job.first_exit <= limit:
        return None
    names = ", ".join(spec.nodes[rank] for rank in sorted(ended))
    return Failure(
        f"The ranks on {names} have ended, and training still runs elsewhere {limit:g} s later.",
        f"Read the end of the log of {names}.",
        UNKNOWN,
        spec.nodes[min(ended)],
    )


def _end(spec: Spec, job: Job, seen: Mapping[int, Seen], now: float) -> Job:
    """Wait until every node that lives has stopped its processes, and take in a better reason that shows meanwhile."""
    working = {rank: item for rank, item in seen.items() if not item.state.quiet}
    gone = _silent(spec, working)
    found = [item.state.failure for _, item in sorted(seen.items()) if item.state.failure] + ([gone] if gone else [])
    if job.state == "failed" and job.failure is not None:
        job = _with(job, failure=primary([job.failure, *found]))
    lively = [item for item in seen.values() if item.age <= spec.timing.dead_after]
    patience = max(spec.timing.grace + 15.0, spec.timing.dead_after) + 3 * spec.timing.poll
    if all(item.state.quiet for item in lively) or now - job.since > patience:
        return _with(job, phase=ENDED, since=now)
    return job
