# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run is made of: its inputs, which name it, and the arguments it is started with. Mostly pure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .chain import predecessor
from .errors import FleetError, InputError
from .host import Host
from .receipt import RECEIPT, fingerprint, read_receipt
from .training_saved import WEIGHTS

STAGE = "run"
WORLD = ("world_size", "nnodes", "nproc_per_node", "tp", "pp", "cp", "dp")
# What says that only weights are loaded. A run that goes on from its own checkpoint loads the rest as well.
_WEIGHTS_ONLY = ("--no-load-optim", "--finetune")


@dataclass(frozen=True)
class Node:
    """One host's place in the plan."""

    name: str
    rank: int
    shards: Sequence[str]  # directory names of the shards that its ranks load
    writes: Sequence[str]  # and of those that they save


@dataclass(frozen=True)
class Run:
    """A training run as the plan and this host's artifacts ask for it."""

    inputs: Mapping[str, Any]
    parents: Mapping[str, str]
    directory: str
    node: Node
    nodes: Sequence[str]  # names in rank order
    arguments: Sequence[str]  # with every `current` resolved
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The name of the run."""
        return fingerprint(self.inputs)

    @property
    def load(self) -> str:
        """Where the first attempt loads from; empty where it starts from random weights."""
        return option(self.arguments, "--load") or ""

    @property
    def save(self) -> str:
        """Where checkpoints are saved; empty where none are."""
        return option(self.arguments, "--save") or ""

    @property
    def iterations(self) -> int:
        """Iterations of the whole run."""
        return int(option(self.arguments, "--train-iters") or 0)

    @property
    def saves_optimizer(self) -> bool:
        """Whether its checkpoints hold what is needed to go on."""
        return bool(self.save) and "--no-save-optim" not in self.arguments

    @property
    def files_of_a_shard(self) -> List[str]:
        """Names of the files that a saved shard consists of."""
        separate = self.saves_optimizer and "--use-distributed-optimizer" in self.arguments
        return [WEIGHTS] + (["distrib_optim.pt"] if separate else [])


def read_run(host: Host, work_root: str, plan: Mapping[str, Any], name: str) -> Run:
    """Return the run that the plan asks of this host; FleetError names the stage that is missing before it."""
    parents = {stage: predecessor(host, work_root, stage).fingerprint for stage in ("checkpoint", "dataset", "weights")}
    source = read_receipt(host, os.path.join(work_root, "source", RECEIPT))
    if source is None:
        raise FleetError(
            f"There is no source tree with a receipt in {work_root}/source.", "Run the stage before: --tags source."
        )
    inputs = run_inputs(plan, work_root, parents, source.inputs.get("commits", {}))
    run_name = fingerprint(inputs)
    arguments = resolve(plan["training_arguments"], work_root, {**parents, STAGE: run_name})
    weights = parents.pop("weights")  # the tokenizer's place; what counts of it stands in checkpoint and dataset
    parents = {**parents, "weights": weights, "source": source.fingerprint}
    node = find_node(plan, name)
    return Run(
        inputs,
        parents,
        os.path.join(work_root, STAGE, run_name),
        node,
        [item["name"] for item in plan["hosts"]],
        arguments,
        plan["environment"].get(name, {}),
    )


def missing_stages(host: Host, work_root: str) -> List[str]:
    """Return the stages before the training that have left nothing here yet."""
    missing: List[str] = []
    for stage in ("checkpoint", "dataset", "weights"):
        try:
            predecessor(host, work_root, stage)
        except FleetError:
            missing.append(stage)
    return missing + ([] if read_receipt(host, os.path.join(work_root, "source", RECEIPT)) else ["source"])


def run_inputs(
    plan: Mapping[str, Any], work_root: str, parents: Mapping[str, str], commits: Mapping[str, str]
) -> Dict[str, Any]:
    """Return what decides about a run; the same on every host of it, wherever the work root is."""
    planned = {**planned_inputs(plan, work_root), "source": dict(commits)}
    return {"checkpoint": parents["checkpoint"], "dataset": parents["dataset"], **planned}


def planned_inputs(plan: Mapping[str, Any], work_root: str) -> Dict[str, Any]:
    """Return the part of a run's inputs that the plan alone decides."""
    prefix = work_root.rstrip("/") + "/"
    arguments = ["<work root>/" + text[len(prefix) :] if text.startswith(prefix) else text for text in _texts(plan)]
    return {
        "source": dict(plan["release"].get("commits", {})),
        "arguments": arguments,
        "world": {key: plan[key] for key in WORLD},
    }


def _texts(plan: Mapping[str, Any]) -> List[str]:
    return [str(text) for text in plan["training_arguments"]]


def find_node(plan: Mapping[str, Any], name: str) -> Node:
    """Return a host's place in the plan; InputError where it has none."""
    for item in plan["hosts"]:
        if item["name"] == name:
            rank = int(item["node_rank"])
            return Node(name, rank, plan["shards"].get(name, []), plan["writers"].get(name, []))
    names = ", ".join(item["name"] for item in plan["hosts"])
    raise InputError(f"Host {name} is not in the run plan, which has {names}.", "Add it to the group training.")


def resolve(arguments: Sequence[str], work_root: str, names: Mapping[str, str]) -> List[str]:
    """Replace `<work root>/<stage>/current` by the directory it stands for: a link that is switched must not change a run."""
    resolved: List[str] = []
    for text in arguments:
        text = str(text)
        for stage, name in names.items():
            link = os.path.join(work_root, stage, "current")
            if text == link or text.startswith(link + "/"):
                text = os.path.join(work_root, stage, name) + text[len(link) :]
        resolved.append(text)
    return resolved


def option(arguments: Sequence[str], name: str) -> Optional[str]:
    """Return the value of an option, None where it is not given; the last one counts, as for argparse."""
    value: Optional[str] = None
    for position, text in enumerate(arguments):
        if text == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif text.startswith(name + "="):
            value = text[len(name) + 1 :]
    return value


def resumed(arguments: Sequence[str], save: str) -> List[str]:
    """Return the arguments of a run that goes on from its own checkpoints, with optimizer state and random numbers."""
    dropped = set(_WEIGHTS_ONLY)
    if "--no-save-rng" not in arguments:
        dropped.add("--no-load-rng")
    changed: List[str] = []
    rest = iter(arguments)
    for text in rest:
        if text == "--load":
            next(rest, None)
        elif text not in dropped and not text.startswith("--load="):
            changed.append(text)
    return [*changed, "--load", save]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[str]:
    """Return the inputs that differ, one readable line each; arguments one by one."""
    lines: List[str] = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if key == "arguments" and isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
            lines += _differing_options(_options(old), _options(new))
        elif isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += [f"{key}.{line}" for line in differing(old, new)]
        else:
            lines.append(f"{key}: {old} -> {new}")
    return lines


def _options(arguments: Sequence[str]) -> Dict[str, str]:
    options: Dict[str, List[str]] = {}
    name = ""
    for text in arguments:
        if text.startswith("--"):
            name = text
            options.setdefault(name, [])
        else:
            options.setdefault(name, []).append(text)
    return {key: " ".join(values) for key, values in options.items()}


def _differing_options(old: Mapping[str, str], new: Mapping[str, str]) -> List[str]:
    lines: List[str] = []
    for key in sorted(set(old) | set(new)):
        if old.get(key) == new.get(key):
            continue
        shown = [("absent" if key not in side else side[key] or "given") for side in (old, new)]
        lines.append(f"{key}: {shown[0]} -> {shown[1]}")
    return lines
