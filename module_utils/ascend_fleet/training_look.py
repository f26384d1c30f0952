# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a training run on one host: what is asked for, how far it is, what stands against a start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .container_worker import WORKERS
from .docker import Engine
from .host import Host
from .outcome import Outcome
from .receipt import Store
from .training_inputs import STAGE, Run, missing_stages, option, read_run
from .training_ports import taken_ports
from .training_saved import WEIGHTS, loadable, saved
from .training_status import Part, in_words, read_json, read_part

SUPERVISOR = "supervise_training.py"
# What of a conversion decides which tensor is in which shard, and how it is called.
LAYOUT = {
    "tp": "TP",
    "pp": "PP",
    "layers_per_stage": "layers per stage",
    "vocab_divisible_by": "vocabulary divisible by",
    "dtype": "dtype",
}


@dataclass(frozen=True)
class Look:
    """What was found on one host. All of it is plain data, since the looks of all hosts decide together.

    `state` is that of training_status.Part, or finished (with a receipt that matches) or damaged (with one that does not).
    """

    host: str
    node_rank: int
    state: str
    fingerprint: str
    inputs: Mapping[str, Any]
    alive: bool = False
    attempt: int = 0
    start: int = 0
    order: Sequence[str] = ()  # hosts by rank as the run's last start here had them, where the plan has others
    save: str = ""  # where checkpoints are saved
    # Iteration -> shards: whole ones that this host's ranks save, and loadable ones that the ranks of others do.
    saved: Mapping[str, Sequence[str]] = field(default_factory=dict)
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    needed: Sequence[str] = ()  # shards that this host's ranks load
    writes: Sequence[str] = ()  # shards that this host's ranks save
    resumable: bool = True  # its checkpoints hold optimizer state
    problems: Sequence[str] = ()  # what stands against a start here
    damage: Sequence[str] = ()
    other: Mapping[str, Any] = field(default_factory=dict)  # another run that is in use here

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Look:
        """Read what as_dict gave, also after a way through YAML and Jinja."""
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data."""
        return dict(self.__dict__)


def look(host: Host, params: Mapping[str, Any], run: Run) -> Tuple[Look, Part]:
    """Look at this host's part of a run, under whatever rank the host was started last."""
    rank = own_rank(host, run.directory, run.node.name)
    part = read_part(host, run.directory, run.node.rank if rank is None else rank)
    # Under its rank and another name this host was only renamed.
    order = list(part.launch.get("nodes", [])) if rank is not None else []
    own, others = _shards(host, run)
    receipt_state, damage = sealed(host, params, run)
    state = receipt_state or part.state
    found = Look(
        run.node.name,
        run.node.rank,
        state,
        run.fingerprint,
        run.inputs,
        part.alive,
        part.attempt,
        part.start,
        order if order != list(run.nodes) else [],
        run.save,
        own,
        others,
        run.node.shards,
        run.node.writes,
        run.saves_optimizer,
        [] if part.alive or state in ("finished", "damaged", "succeeded") else problems(host, params, run),
        damage,
        _other(host, params["work_root"], run),
    )
    return found, part


def _shards(host: Host, run: Run) -> Tuple[Dict[str, List[str]], Dict[str, List[str]]]:
    """Return iteration -> shards of a checkpoint here: those that this host wrote, whole, and those that others wrote, loadable.

    Every rank loads the weights of its shard; the distributed optimizer's part is read by the rank that wrote it, which scatters it.
    """
    if not run.save:
        return {}, {}
    whole, loadable_here = (saved(host, run.save, files) for files in (run.files_of_a_shard, [WEIGHTS]))
    own = {str(key): [name for name in names if name in run.node.writes] for key, names in whole.items()}
    others = {str(key): [name for name in names if name not in run.node.writes] for key, names in loadable_here.items()}
    return own, {key: names for key, names in others.items() if names}


def sealed(host: Host, params: Mapping[str, Any], run: Run) -> Tuple[str, List[str]]:
    """Return finished or damaged (with what differs) for a run that has its receipt, an empty state for any other."""
    verdict = Store(host, params["work_root"], STAGE).look(run.inputs, params.get("verify") or "stat")
    if verdict.receipt is None:
        return "", []
    return ("damaged" if verdict.state == "damaged" else "finished"), verdict.differences.lines()


def problems(host: Host, params: Mapping[str, Any], run: Run) -> List[str]:
    """Return what stands against starting on this host, one line each."""
    found: List[str] = []
    container = Engine(host, params["docker_cli"]).container(params["container"])
    if container is None or not container.running:
        found.append(f"container {params['container']} does not run (--tags container)")
    worker = os.path.join(params["work_root"], WORKERS, SUPERVISOR)
    if not host.is_file(worker):
        found.append(f"{worker} is absent (--tags weights brings the worker programs)")
    script = os.path.join(_tree(params["work_root"]), params["plan"]["launch"]["script"])
    if not host.is_file(script):
        found.append(f"{script} is absent (--tags source)")
    if run.load:
        lines = _other_layout(host, params) or loadable(host, run.load, run.node.shards)
        found += [f"{line} (--tags conversion)" for line in lines]
    found += _dataset_problems(host, run)
    if run.node.rank == 0:
        port = int(params["plan"]["launch"]["master_port"])
        found += [f"{line}: end it, or choose another master port" for line in taken_ports(host, [port, port + 1])]
    return found


def _tree(work_root: str) -> str:
    return os.path.join(work_root, "source", "MindSpeed-LLM")


def _other_layout(host: Host, params: Mapping[str, Any]) -> List[str]:
    """Say for which layout the checkpoint in use was converted where that is not the plan's: its shards may have the right names."""
    receipt = Store(host, params["work_root"], "checkpoint").current_receipt()
    if receipt is None:
        return []
    made, planned = receipt.inputs, params["plan"].get("conversion", {})
    other = [
        name for name in LAYOUT if name in made and name in planned and (made[name] or []) != (planned[name] or [])
    ]
    if not other:
        return []
    other = [name for name in other if name in ("tp", "pp")] or other  # from which the rest follows
    was, asked = (" ".join(f"{LAYOUT[name]} {values[name]}" for name in other) for values in (made, planned))
    return [f"checkpoint {receipt.fingerprint} was converted for {was}, and the plan asks for {asked}"]


def _dataset_problems(host: Host, run: Run) -> List[str]:
    prefixes = [option(run.arguments, f"--{name}data-path") for name in ("", "train-", "valid-")]
    paths = [f"{prefix}.{ending}" for prefix in prefixes if prefix for ending in ("bin", "idx")]
    return [f"{path} is absent (--tags preprocessing)" for path in paths if not host.is_file(path)]


def _other(host: Host, work_root: str, run: Run) -> Dict[str, Any]:
    """Return what is known of the run in use here when it is another one; empty when it is none or this one."""
    if Store(host, work_root, STAGE).current() == run.fingerprint:
        return {}
    return run_in_use(host, work_root, run.node.name)


def run_in_use(host: Host, work_root: str, name: str) -> Dict[str, Any]:
    """Return what is known of the run in use on the host `name`; empty when there is none."""
    store = Store(host, work_root, STAGE)
    current = store.current()
    if current is None:
        return {}
    directory = store.path(current)
    rank = own_rank(host, directory, name)
    part = read_part(host, directory, rank) if rank is not None else Part("absent")
    receipt = store.read(current)
    return {
        "fingerprint": current,
        "state": "finished" if receipt else part.state,
        "alive": part.alive,
        "inputs": dict(receipt.inputs) if receipt else dict(part.launch.get("inputs", {})),
        "order": list(part.launch.get("nodes", [])) if rank is not None else [],
        "progress": in_words(part.status),
        "holds_work": bool(receipt or part.alive or part.state == "succeeded" or _saved_something(host, directory)),
    }


def _saved_something(host: Host, directory: str) -> bool:
    return any(name.endswith(".pt") for name, _ in host.walk_files(os.path.join(directory, "checkpoints")))


def own_rank(host: Host, directory: str, name: str) -> Optional[int]:
    """Return the node rank that a host has in a run, from the launch files there; None where it has no part in it.

    Where it was started under several, the one that lives counts, else the last: the order of the hosts does not name a run.
    """
    found: List[Tuple[bool, int, int]] = []
    for file in host.list_dir(directory):
        if file.startswith("launch-") and file.endswith(".json"):
            launch = read_json(host, os.path.join(directory, file))
            rank = launch.get("node_rank")
            if isinstance(rank, int) and launch.get("nodes", [])[rank : rank + 1] == [name]:
                part = read_part(host, directory, rank)
                found.append((part.alive, part.attempt, rank))
    return max(found)[2] if found else None


def job_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Tell how a run is going on this host (action of module training_job_info). Nothing is changed."""
    if params["plan"] is None:
        return _current(host, params["work_root"], params["host"])
    missing = missing_stages(host, params["work_root"])
    if check_mode and missing:
        values: Dict[str, Any] = {
            "missing": missing,
            "look": None,
            "status": {},
            "progress": "absent",
            "directory": None,
        }
        return Outcome(values={**values, "fingerprint": None, "run_state": "absent"})
    run = read_run(host, params["work_root"], params["plan"], params["host"])
    found, part = look(host, params, run)
    return Outcome(
        values={
            "fingerprint": found.fingerprint,
            "directory": run.directory,
            "run_state": found.state,
            "status": dict(part.status),
            "progress": in_words({"state": found.state, **part.summary()}),
            "look": found.as_dict(),
            "missing": [],
        }
    )


def _current(host: Host, work_root: str, name: str) -> Outcome:
    store = Store(host, work_root, STAGE)
    current = store.current()
    directory = store.path(current) if current else None
    rank = own_rank(host, directory, name) if directory else None
    part = Part("absent") if directory is None or rank is None else read_part(host, directory, rank)
    receipt = store.read(current) if current else None
    state = "finished" if receipt else part.state
    status = {**part.status, "state": state} if part.status else {"state": state}
    return Outcome(
        values={
            "fingerprint": current,
            "directory": directory,
            "run_state": state,
            "status": dict(part.status),
            "progress": in_words(status),
            "look": None,
            "missing": [],
        }
    )
