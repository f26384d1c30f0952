# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a training run, from the looks at all of its hosts. Pure: every host comes to the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence

from .errors import ProblemsError, RefusedError
from .training_inputs import differing
from .training_look import Look
from .training_saved import complete_over_writers

NEW_RUN = "To start anew all the same, set pretraining_new_run: true; the old run stays on disk."
_ASIDE = "what the last attempt saved is moved aside"


@dataclass(frozen=True)
class Decision:
    """`action`: none (it runs or is done), start, resume, or join (the others wait at the start for this host).

    `attempt` counts the starts, `start` is the iteration to go on from, `aside` says that what lies there is to be moved away first.
    """

    action: str
    attempt: int = 1
    start: int = 0
    aside: bool = False
    why: str = ""


def decide(looks: Sequence[Look], new_run: bool = False) -> Decision:
    """Return what to do; raises RefusedError or ProblemsError where going on would lose work or cannot come out right."""
    _same_inputs(looks)
    states = {item.state for item in looks}
    moved = [] if states == {"finished"} else _moved(looks)
    if moved:
        _refuse_moved(looks, moved, new_run)
    if states <= {"finished", "succeeded"} and not moved:
        return Decision("none", why="finished")
    if all(item.alive for item in looks):
        return Decision("none", why="runs")
    if any(item.alive for item in looks):
        return _join(looks)
    for item in looks:
        refuse_superseding(item.host, item.other, item.inputs, new_run)
    _no_problems(looks)
    attempt = max(item.attempt for item in looks) + 1
    if states <= {"absent"} and not _something_saved(looks):
        return Decision("start", attempt, why="no run of these inputs is there")
    if moved and _holds_work(looks):
        return Decision("start", attempt, aside=True, why=_ASIDE)
    return _again(looks, attempt, new_run)


def _same_inputs(looks: Sequence[Look]) -> None:
    first = looks[0]
    for item in looks[1:]:
        if item.fingerprint != first.fingerprint:
            lines = differing(first.inputs, item.inputs)
            raise RefusedError(
                f"{first.host} and {item.host} would not train the same: {'; '.join(lines)}.",
                "Run the stages that differ on both hosts: --tags source,conversion,preprocessing.",
                differences=lines,
            )


def _moved(looks: Sequence[Look]) -> List[Look]:
    """Return the hosts whose rank in this run was another one, and those that live in it while others of the plan do not take part.

    That a host which went away was replaced by another one moves nobody.
    """
    incomplete = not all(item.alive for item in looks)
    return [
        item
        for item in looks
        if item.order and ((item.alive and incomplete) or item.order[item.node_rank :][:1] != [item.host])
    ]


def _refuse_moved(looks: Sequence[Look], moved: Sequence[Look], new_run: bool) -> None:
    first = next((item for item in moved if item.alive), moved[0])
    planned = [item.host for item in sorted(looks, key=lambda item: item.node_rank)]
    if first.alive or (_holds_work(looks) and not new_run):
        raise other_order(first.host, first.state, first.alive, first.order, planned)


def other_order(host: str, state: str, alive: bool, order: Sequence[str], planned: Sequence[str]) -> RefusedError:
    """Return why nothing starts next to a living run, or over a saved one, with other ranks: shards and ranks belong together."""
    had, asked = ", ".join(order), ", ".join(planned)
    if alive:
        return RefusedError(
            f"This run goes on {host} with the hosts in the order {had}; the plan has {asked}.",
            "Put training_hosts back in that order, or run playbooks/stop-training.yml first.",
        )
    return RefusedError(
        f"This run ({host} {state}) was made with the hosts in the order {had}, and it left something; the plan has {asked}.",
        f"Put training_hosts back in that order, and it is resumed. {NEW_RUN}",
    )


def _holds_work(looks: Sequence[Look]) -> bool:
    return _something_saved(looks) or any(item.state in ("succeeded", "finished", "damaged") for item in looks)


def _something_saved(looks: Sequence[Look]) -> bool:
    """Say whether any host has a shard of this run that can be loaded, whoever wrote it."""
    return any(names for item in looks for kept in (item.saved, item.others) for names in kept.values())


def _join(looks: Sequence[Look]) -> Decision:
    there = [item for item in looks if item.alive]
    if all(item.state == "starting" for item in there):
        newest = max(there, key=lambda item: item.attempt)
        waiting = ", ".join(item.host for item in there)
        return Decision("join", newest.attempt, newest.start, why=f"{waiting} waits for the others")
    gone = ", ".join(item.host for item in looks if not item.alive)
    raise RefusedError(
        f"The run still goes on {', '.join(item.host for item in there)}, and not on {gone}: it is coming to its end.",
        "Wait a minute, or run playbooks/stop-training.yml; then start again.",
    )


def refuse_superseding(host: str, other: Mapping[str, Any], inputs: Mapping[str, Any], new_run: bool) -> None:
    """Refuse to put the run `other` out of use on a host when it goes on or left something, unless that was asked for.

    `inputs` are those of the run that would take its place.
    """
    if not other or not (other["alive"] or other["holds_work"]):
        return
    lines = differing(other["inputs"], inputs)
    if other["alive"]:
        raise RefusedError(
            f"Another run ({other['fingerprint']}) goes on {host}: {other['progress']}. It differs in: {'; '.join(lines)}.",
            "Let it finish, or run playbooks/stop-training.yml first.",
            differences=lines,
        )
    if not new_run:
        raise RefusedError(
            f"Another run ({other['fingerprint']}, {other['state']}) is in use on {host}. It differs in: {'; '.join(lines)}.",
            f"Take the change back, or: {NEW_RUN}",
            differences=lines,
            diff={"before": other["inputs"], "after": dict(inputs)},
        )


def _no_problems(looks: Sequence[Look]) -> None:
    lines = [f"{item.host}: {line}" for item in looks for line in item.problems]
    if lines:
        raise ProblemsError(lines, "Nothing was started. Run the tag that each line names, then start again.")


def _again(looks: Sequence[Look], attempt: int, new_run: bool) -> Decision:
    can_resume = all(item.resumable for item in looks)
    saved = {item.host: {int(key): names for key, names in item.saved.items()} for item in looks}
    writes = {item.host: item.writes for item in looks}
    damaged = [f"{item.host}: {line}" for item in looks for line in item.damage]
    last = complete_over_writers(saved, writes, {item.host: item.needed for item in looks})
    if can_resume and last is not None and not damaged:
        return Decision("resume", attempt, last, why=f"iteration {last} is complete")
    if not damaged and not _something_saved(looks):
        return Decision("start", attempt, why="the last attempt saved nothing")
    if new_run:
        return Decision("start", attempt, aside=True, why=_ASIDE)
    raise RefusedError(_why_not(looks, saved, writes, damaged, can_resume), NEW_RUN)


def _why_not(
    looks: Sequence[Look],
    saved: Mapping[str, Mapping[int, Sequence[str]]],
    writes: Mapping[str, Sequence[str]],
    damaged: List[str],
    can_resume: bool,
) -> str:
    if damaged:
        return f"The run was finished, and its files are not as they were: {'; '.join(damaged[:10])}."
    states = ", ".join(f"{item.host} {item.state}" for item in looks)
    if not can_resume:
        return f"The run ended early ({states}), and its checkpoints hold no optimizer state (--no-save-optim): it cannot be resumed."
    newest: Optional[int] = max((int(key) for item in looks for key in (*item.saved, *item.others)), default=None)
    lacking = [
        f"{host} lacks {shard}"
        for host, shards in writes.items()
        for shard in shards
        if newest is not None and shard not in saved[host].get(newest, ())
    ]
    return (
        f"The run ended early ({states}), and no checkpoint is complete on the hosts that write it;"
        f" of iteration {newest}: {', '.join(lacking[:10])}."
    )
