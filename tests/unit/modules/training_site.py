# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hosts with everything that a training run needs, in temporary directories, and a supervisor that only writes its status."""

from __future__ import annotations

import fcntl
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.ascend_fleet.host import Container, Host
from ansible.module_utils.ascend_fleet.manifest import Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store, converge

from tests.conftest import ScriptedHost

SHARDS = {"npu-a": ["mp_rank_00_000", "mp_rank_01_000"], "npu-b": ["mp_rank_00_001", "mp_rank_01_001"]}
CONTAINER = {"Id": "c0ffee", "Name": "/train", "Image": "sha256:1", "State": {"Status": "running"}}


def write_archive(path: Path) -> None:
    """Write a file like torch.save does: a zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"values")


@dataclass
class Site:
    """One host of the run; both have the same inputs, each its own work root."""

    root: Path
    name: str = "npu-a"
    iterations: int = 20
    options: list[str] = field(default_factory=lambda: ["--lr", "1e-3"])
    locks: list[int] = field(default_factory=list)
    shards: dict[str, list[str]] = field(default_factory=lambda: SHARDS)  # that a host's ranks load
    writers: dict[str, list[str]] = field(default_factory=lambda: SHARDS)
    order: list[str] = field(default_factory=lambda: list(SHARDS))

    def make(self) -> Site:
        for stage, inputs in (("weights", {"w": 1}), ("dataset", {"d": 1}), ("checkpoint", {"c": 1})):
            converge(Store(Host(), str(self.root), stage), inputs, lambda directory, verdict: self._fill(directory))
        source = self.root / "source"
        (source / "MindSpeed-LLM").mkdir(parents=True)
        (source / "MindSpeed-LLM" / "pretrain_gpt.py").write_text("")
        Store(Host(), str(self.root), "source").write(
            Receipt("source", {"commits": {"MindSpeed-LLM": "b6"}}, Manifest({})), str(source)
        )
        (self.root / "workers").mkdir()
        (self.root / "workers" / "supervise_training.py").write_text("")
        return self

    def use_checkpoint(self, inputs: dict[str, Any]) -> None:
        """Put another checkpoint, of the same files, in use."""
        converge(Store(Host(), str(self.root), "checkpoint"), inputs, lambda directory, verdict: self._fill(directory))

    def _fill(self, directory: str) -> dict[str, str]:
        folder = Path(directory)
        if ".partial" in folder.name and folder.parent.name == "checkpoint":
            (folder / "latest_checkpointed_iteration.txt").write_text("release")
            for shard in self.shards[self.name]:
                write_archive(folder / "release" / shard / "model_optim_rng.pt")
        for ending in ("bin", "idx"):
            (folder / f"lab_text_document.{ending}").write_text("x")
        return {}

    @property
    def rank(self) -> int:
        return self.order.index(self.name)

    def plan(self) -> dict[str, Any]:
        root = str(self.root)
        arguments = ["--train-iters", str(self.iterations), *self.options]
        arguments += ["--data-path", f"{root}/dataset/current/lab_text_document"]
        arguments += ["--tokenizer-name-or-path", f"{root}/weights/current", "--no-load-optim", "--no-load-rng"]
        arguments += ["--load", f"{root}/checkpoint/current", "--save", f"{root}/run/current/checkpoints"]
        launcher = ["--nnodes", "2", "--node_rank"]
        return {
            "release": {"name": "2.0.0", "commits": {"MindSpeed-LLM": "b6"}},
            **dict.fromkeys(("nnodes", "nproc_per_node", "tp", "pp"), 2),
            **dict.fromkeys(("cp", "dp"), 1),
            "world_size": 4,
            "hosts": [{"name": name, "node_rank": rank} for rank, name in enumerate(self.order)],
            "shards": self.shards,
            "writers": self.writers,
            "training_arguments": arguments,
            "environment": {name: {"NODE_RANK": str(rank)} for rank, name in enumerate(self.order)},
            "launch": {
                "script": "pretrain_gpt.py",
                "arguments": {name: [*launcher, str(rank)] for rank, name in enumerate(self.order)},
                "master_addr": "10.0.0.1",
                "master_port": 61234,
            },
            "model": {"padded_vocab": 1024},
            "dataset": {"name": "lab", "train_key": "text"},
            "train": {
                "seq_length": 128,
                "global_batch_size": 16,
                "micro_batch_size": 2,
                "iterations": self.iterations,
                "seed": 1234,
                "split": "100,0,0",
            },
        }

    def params(self, **changes: Any) -> dict[str, Any]:
        values = {"work_root": str(self.root), "host": self.name, "container": "train", "plan": self.plan()}
        return {**values, **changes}

    # The run as its files show it

    @property
    def directory(self) -> Path:
        """Return the directory of the run in use."""
        return (self.root / "run" / "current").resolve()

    def expect_container(self, host: ScriptedHost, running: bool = True) -> None:
        state = {"Status": "running" if running else "exited"}
        host.expect(["docker", "container", "inspect", "train"], json.dumps([{**CONTAINER, "State": state}]))

    def expect_supervisor(self, host: ScriptedHost, name: str, **status: Any) -> None:
        """Expect the exact command that starts the supervisor of the run `name`; it leaves its first status."""
        folder = self.root / "run" / name
        argv = ["bash", "-c", 'exec "$@" >>"$0" 2>&1', str(folder / "logs" / f"supervisor-{self.rank}.log"), "python"]
        argv += [f"{self.root}/workers/supervise_training.py", "--spec", str(folder / f"launch-{self.rank}.json")]
        effect = None if status.get("silent") else lambda: self.write_status(folder, state="starting", **status)
        host.expect(Container(host, "train").command(argv, detach=True), effect=effect)

    def launch(self, folder: Path | None = None) -> dict[str, Any]:
        return json.loads(((folder or self.directory) / f"launch-{self.rank}.json").read_text())

    def write_status(self, folder: Path | None = None, alive: bool = True, **values: Any) -> None:
        folder = folder or self.directory
        base = {"attempt": self.launch(folder)["attempt"], "iterations": self.iterations, "final": False, "losses": []}
        (folder / f"status-{self.rank}.json").write_text(json.dumps({**base, "node": self.name, **values}))
        self.release()
        lock = os.open(str(folder / f"supervisor-{self.rank}.lock"), os.O_RDWR | os.O_CREAT)
        self.locks.append(lock)
        if alive:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def release(self) -> None:
        """Let the supervisor be gone."""
        while self.locks:
            os.close(self.locks.pop())

    def save(self, iteration: int, shards: list[str] | None = None) -> None:
        """Write what the ranks of this host save."""
        folder = self.directory / "checkpoints"
        for shard in self.writers[self.name] if shards is None else shards:
            write_archive(folder / f"iter_{iteration:07d}" / shard / "model_optim_rng.pt")
        if self.rank == 0:
            (folder / "latest_checkpointed_iteration.txt").write_text(str(iteration))

    def succeed(self) -> None:
        """Let the run end well."""
        self.save(self.iterations)
        (self.directory / "logs" / f"node-{self.rank}.log").write_text("iteration ...\n")
        self.write_status(
            alive=False,
            state="succeeded",
            final=True,
            iteration=self.iterations,
            loss=4.5,
            first_loss=6.0,
            first_iteration=1,
            loaded_iteration=0,
            ms_per_iteration=1000.0,
            started=100.0,
            ended=130.5,
            losses=[[1, 6.0], [self.iterations, 4.5]],
        )
