# SPDX-License-Identifier: GPL-3.0-or-later
"""How the supervisors of a run talk to each other: torch's TCPStore, hosted by node 0.

Every node writes one key with its own state. Node 0 reads them all, decides (_supervise_plan) and writes the key `job`, which every
node reads and obeys. So the traffic grows with the number of nodes and not with its square. A thread of its own does the talking: a
network that hangs must not keep a supervisor from reading its log and writing its status.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import socket
import threading
import time
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any, Dict, List, Optional

from _supervise_failures import JUDGED, SILENT, Failure
from _supervise_plan import ENDED, GATHER, Job, NodeState, Seen, advance
from _supervise_spec import Spec, plain

# torch loads device plug-ins when it is imported, and a plug-in takes hold of an NPU. A supervisor computes nothing.
_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_OPERATION_TIMEOUT = timedelta(seconds=20)


class Peers:
    """This node's link to the others. `say` and `job` never block; `close` waits for the last exchange."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._mine = NodeState(spec.identity)
        self._job = Job(since=time.monotonic())
        self._heard = time.monotonic()
        self._problem = ""
        self._failure: Optional[Failure] = None
        self._beat = 0
        self._beat_of_first = 0
        self._over = threading.Event()
        self._told = threading.Event()
        self._coordinator = Coordinator(spec)
        self._thread = threading.Thread(target=self._talk, name="peers", daemon=True)

    def start(self) -> None:
        """Begin to talk."""
        self._thread.start()

    def say(self, state: NodeState) -> None:
        """Set what the others are told about this node."""
        with self._lock:
            self._mine = state

    def job(self) -> Job:
        """Return what holds for all nodes, as last heard."""
        with self._lock:
            return self._job

    def failure(self) -> Optional[Failure]:
        """Return why this node cannot go by the others any more, None while it can."""
        with self._lock:
            if self._failure is not None or self._job.phase == ENDED:
                return self._failure
            silence, problem, phase = time.monotonic() - self._heard, self._problem, self._job.phase
        limit = self.spec.timing.start_timeout if phase == GATHER else self.spec.timing.dead_after
        if silence <= limit:
            return None
        first = self.spec.nodes[0]
        place = f"{self.spec.master_addr}:{self.spec.store_port}"
        return Failure(
            f"The supervisor of {first} at {place} gave no sign of life for {silence:.0f} s{problem}.",
            f"Look whether {first} and its training container are up, and whether {place} can be reached from here.",
            SILENT,
            first,
        )

    def close(self, patience: float) -> None:
        """Say the last word; node 0 stays for up to `patience` seconds, until every node has heard the verdict."""
        self._over.set()
        self._thread.join(timeout=patience)

    def _talk(self) -> None:
        store: Optional[Any] = None
        while True:
            try:
                store = store or self._connect()
                if store is not None:
                    self._exchange(store)
            except RuntimeError as error:  # what every operation of a TCPStore raises
                store = None if self.spec.node_rank else store
                with self._lock:
                    self._problem = f" ({str(error).splitlines()[0][:200]})"
            if self._over.is_set() and (self._told.is_set() or self._failure is not None):
                return
            time.sleep(self.spec.timing.poll)

    def _connect(self) -> Optional[Any]:
        """Return a store; None where node 0 does not listen yet."""
        address, port = self.spec.master_addr, self.spec.store_port
        if self.spec.node_rank and not _listens(address, port):
            with self._lock:
                self._problem = " (nothing listens there)"
            return None
        tcp_store = _import_store()
        try:
            return tcp_store(
                address, port, is_master=not self.spec.node_rank, wait_for_workers=False, timeout=_OPERATION_TIMEOUT
            )
        except RuntimeError as error:
            if not self.spec.node_rank:
                self._give_up(str(error))
            raise

    def _give_up(self, said: str) -> None:
        with self._lock:
            self._failure = Failure(
                f"Port {self.spec.store_port} cannot be opened for the supervisors: {said.splitlines()[0][:200]}",
                "End what listens there, or choose another master port (the supervisors use the one after it).",
                JUDGED,
                self.spec.name,
            )

    def _exchange(self, store: Any) -> None:
        with self._lock:
            self._beat += 1
            mine = replace(self._mine, beat=self._beat)
        store.set(f"node/{self.spec.node_rank}", plain(asdict(mine)))
        if self.spec.node_rank == 0:
            job = self._coordinator.look(store, time.monotonic())
            store.set("job", plain({**asdict(job), "beat": mine.beat}))
            self._told_everybody(store, job)
            self._hear(job)
        else:
            self._listen(store)

    def _listen(self, store: Any) -> None:
        text = _read(store, "job")
        if not text:
            return
        data = json.loads(text)
        beat = data.pop("beat")
        if beat != self._beat_of_first:
            self._beat_of_first = beat
            self._hear(Job.from_dict(data))
        if data["phase"] == ENDED:
            store.set(f"heard/{self.spec.node_rank}", "1")
            self._told.set()

    def _hear(self, job: Job) -> None:
        with self._lock:
            self._job, self._heard, self._problem = job, time.monotonic(), ""

    def _told_everybody(self, store: Any, job: Job) -> None:
        if job.phase != ENDED:
            return
        alive = self._coordinator.alive()
        if all(_read(store, f"heard/{rank}") for rank in alive if rank):
            self._told.set()


class Coordinator:
    """Node 0's view: the states of all nodes, how old they are, and the job that follows from them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.job = Job(since=time.monotonic())
        self._seen: Dict[int, Seen] = {}
        self._changed: Dict[int, float] = {}

    def look(self, store: Any, now: float) -> Job:
        """Read every node's state and return the job after it."""
        for rank in range(len(self.spec.nodes)):
            text = _read(store, f"node/{rank}")
            if not text:
                continue
            state = NodeState.from_dict(json.loads(text))
            before = self._seen.get(rank)
            if before is None or before.state.beat != state.beat:
                self._changed[rank] = now
            self._seen[rank] = Seen(state, now - self._changed[rank])
        self.job = advance(self.spec, self.job, self._seen, now)
        return self.job

    def alive(self) -> List[int]:
        """Return the ranks that lately gave a sign of life."""
        return [rank for rank, item in self._seen.items() if item.age <= self.spec.timing.dead_after]


def _read(store: Any, key: str) -> str:
    """Return what a key holds, an empty text where nobody has set it: `get` would wait, and torch 2.1 has no `check` in Python."""
    return bytes(store.compare_set(key, "", "")).decode()


def _listens(address: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=3.0):
        return True
    return False


def _import_store() -> Any:
    before = os.environ.get(_AUTOLOAD)
    os.environ[_AUTOLOAD] = "0"
    try:
        distributed = importlib.import_module("torch.distributed")
    finally:
        os.environ.pop(_AUTOLOAD)
        if before is not None:
            os.environ[_AUTOLOAD] = before
    return distributed.TCPStore
