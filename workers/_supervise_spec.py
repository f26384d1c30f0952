# SPDX-License-Identifier: GPL-3.0-or-later
"""What a supervisor is told to do: the launch file of one node."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from _common import WorkerError, read_json


@dataclass(frozen=True)
class Timing:
    """Seconds. The defaults fit a real cluster; tests shorten them."""

    poll: float = 1.0  # how often a supervisor looks around and exchanges what it knows
    start_timeout: float = 600.0  # until every node's supervisor has to be there
    dead_after: float = 60.0  # a node without a sign of life for so long is given up
    grace: float = 45.0  # between SIGTERM and SIGKILL; torchrun itself waits 30 s for its workers
    loaded_grace: float = (
        30.0  # the line of rank 0 about the checkpoint may arrive after the first iteration of the last rank
    )
    exit_skew: float = 300.0  # from the first node that ends to the last, once the last iteration was logged
    early_exit_skew: float = 30.0  # the same, before the last iteration: the others wait for a rank that is gone
    last_word: float = 600.0  # how long a verdict that the disk does not take is written again and again


@dataclass(frozen=True)
class Expectation:
    """What the run has to show before it is believed."""

    loads: bool  # whether a checkpoint is to be loaded
    start: int  # the iteration it is loaded at: 0 for converted weights, the saved iteration for a resumed run
    iterations: int
    first_loss: Optional[float] = None  # the model's own loss on the first global batch
    exact: bool = (
        True  # it was computed on the whole batch, neither estimated from a part nor missing against one's will
    )
    tolerance: float = 0.02
    random_loss: Optional[float] = None  # ln(vocabulary): what random weights would show


@dataclass(frozen=True)
class Spec:
    """One node's part of a training run."""

    run: str
    attempt: int
    node_rank: int
    nodes: List[str]
    launcher: List[str]  # arguments of torchrun before the script
    master_addr: str
    store_port: int
    directory: str
    script: str
    arguments: List[str]
    environment: Dict[str, str]
    run_directory: Path
    expect: Expectation
    timing: Timing = field(default_factory=Timing)

    @property
    def name(self) -> str:
        """This node's name."""
        return self.nodes[self.node_rank]

    @property
    def identity(self) -> str:
        """What has to be the same on all nodes."""
        same = [self.run, self.attempt, self.nodes, self.master_addr, self.store_port, self.expect.start]
        return json.dumps(same)

    @property
    def saves(self) -> bool:
        """Whether the training program was told to save what it trains."""
        return "--save" in self.arguments

    @property
    def status_path(self) -> Path:
        """Where this node's status goes."""
        return self.run_directory / f"status-{self.node_rank}.json"

    @property
    def log_path(self) -> Path:
        """Where the output of this node's ranks goes."""
        return self.run_directory / "logs" / f"node-{self.node_rank}.log"

    @property
    def stop_path(self) -> Path:
        """A file whose presence asks for the end of the run."""
        return self.run_directory / "stop"


def read_spec(path: Path) -> Spec:
    """Read a launch file; raises WorkerError that names what is wrong in it."""
    data = read_json(path, "launch file")
    try:
        known = {item.name for item in fields(Spec)}
        values = {key: value for key, value in data.items() if key in known}
        values["run_directory"] = path.parent
        values["expect"] = Expectation(**data["expect"])
        values["timing"] = Timing(**data.get("timing", {}))
        spec = Spec(**values)
    except (AttributeError, KeyError, TypeError) as error:
        raise WorkerError(
            f"launch file {path} is not complete: {error}", "Start the run through module training_job."
        ) from None
    _check(spec, path)
    return spec


def _check(spec: Spec, path: Path) -> None:
    if not 0 <= spec.node_rank < len(spec.nodes):
        raise WorkerError(
            f"launch file {path}: node rank {spec.node_rank} of {len(spec.nodes)} nodes", "Write the file anew."
        )
    script = Path(spec.directory) / spec.script
    if not script.is_file():
        raise WorkerError(f"training program {script} is not there", "Run --tags source on this host.")


def finite(value: Optional[float]) -> bool:
    """Say whether there is a number and it is one."""
    return value is not None and math.isfinite(value)


def plain(value: Mapping[str, Any]) -> str:
    """Return JSON on one line."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
