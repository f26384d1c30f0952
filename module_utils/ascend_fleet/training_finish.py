# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a training run to its end on one host: progress, verdict, verification of what it saved, receipt."""

from __future__ import annotations

import math
import os
import time
from typing import Any, Dict, List, Mapping, Optional

from .docker import Engine
from .errors import FleetError, VerificationError, last_lines
from .host import Host
from .manifest import scan
from .outcome import Outcome
from .receipt import Receipt, Store
from .training_bring import drop_copies
from .training_inputs import STAGE, Run, missing_stages, read_run
from .training_look import sealed
from .training_saved import iteration_directory, read_tracker, whole
from .training_start import LOOK_INTERVAL
from .training_status import Part, in_words, node_log, read_part

LOG_LINES = 15  # of a failed run, in its report
PACE = 5.0  # seconds that a call lasts at least while a run goes on: fast iterations are not worth a call each, on hundreds of hosts


def finish(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Wait for up to `wait` seconds for something new; at the end verify and seal (state finished of module training_job)."""
    missing = missing_stages(host, params["work_root"]) if check_mode else []
    if missing:
        return _predicted(f"run: would be followed to its end once {', '.join(missing)} is there", "absent")
    run = read_run(host, params["work_root"], params["plan"], params["host"])
    state, damage = sealed(host, params, run)
    part = read_part(host, run.directory, run.node.rank)
    if state == "finished":
        return Outcome(values=_values(run, part, state, True))
    if state == "damaged":
        raise VerificationError(
            f"The run was finished, and its files are not as they were: {'; '.join(damage[:10])}.",
            "Restore them, or start the run anew with pretraining_new_run: true.",
        )
    if check_mode:
        return _predicted(f"run {run.fingerprint}: would be followed to its end", part.state)
    part = _wait(host, params, run)
    _raise_on_failure(host, run, part)
    if part.state != "succeeded":
        return Outcome(values=_values(run, part, part.state, False))
    receipt = _seal(host, params, run, part)
    outcome = Outcome(True, {"run": "succeeded"}, {"run": "finished"}, values=_values(run, part, "finished", True))
    outcome.actions = [f"run {run.fingerprint}: verified, {len(receipt.outputs.files)} files"]
    remark = _remark(part.status)
    if remark:
        outcome.actions.append(f"run {run.fingerprint}: {remark}")
        outcome.values["warnings"] = [f"{run.node.name}: {remark}"]
    outcome.values["artifact"] = receipt.summary()
    return outcome


def _predicted(action: str, state: str) -> Outcome:
    values = {"final": False, "run_state": state, "progress": state, "fingerprint": None, "directory": None, "seen": ""}
    return Outcome(True, {"run": state}, {"run": "finished"}, [action], {**values, "status": {}})


def seen(part: Part) -> str:
    """Return a text that changes whenever there is something new to show."""
    return f"{part.attempt}:{part.state}:{part.status.get('iteration')}"


def _values(run: Run, part: Part, state: str, final: bool) -> Dict[str, Any]:
    return {
        "fingerprint": run.fingerprint,
        "directory": run.directory,
        "run_state": state,
        "final": final,
        "seen": seen(part),
        "status": part.summary(),
        "progress": in_words({**part.status, "state": state}),
    }


def _wait(host: Host, params: Mapping[str, Any], run: Run) -> Part:
    """Return the part as soon as it ended or its state differs from what was `seen`, later when it only went on, or when the time is up."""
    now = time.monotonic()
    limit, patience = now + params["wait"], now + min(PACE, params["wait"])
    state_seen = params["seen"].rpartition(":")[0]
    while True:
        part, now = read_part(host, run.directory, run.node.rank), time.monotonic()
        said = seen(part)
        if not part.alive or said.rpartition(":")[0] != state_seen or now >= limit:
            return part
        if said != params["seen"] and now >= patience:
            return part
        time.sleep(LOOK_INTERVAL)


def _raise_on_failure(host: Host, run: Run, part: Part) -> None:
    status = part.status
    if part.state in ("starting", "running", "ending", "succeeded"):
        return
    log = node_log(run.directory, run.node.rank)
    details = {"log": log, "log_tail": last_lines(host.read_text(log) or "", LOG_LINES), "status": part.summary()}
    if part.state == "absent":
        raise FleetError("The run was never started on this host.", "Run --tags training as a whole.")
    if part.state == "crashed":
        raise FleetError(
            f"The supervisor of this host is gone without a verdict ({in_words(status)}): the server or its container went down, "
            "or the disk took no verdict.",
            "See that there is room below the work root (df -h), bring the container up (--tags container) and start again: the run "
            "resumes from its last complete checkpoint.",
            **details,
        )
    where = f" [{status['cause_node']}]" if status.get("cause_node") else ""
    raise FleetError(
        f"Training {part.state}{where}: {status.get('reason', '')}", str(status.get("remedy", "")), **details
    )


def _seal(host: Host, params: Mapping[str, Any], run: Run, part: Part) -> Receipt:
    verify(host, run, part.status)
    drop_copies(host, params["work_root"], run)
    store = Store(host, params["work_root"], STAGE)
    patterns = [f"{os.path.relpath(run.save, run.directory)}/*"] if _below(run) else []
    # Logs are kept and not vouched for: the supervisor's own last words come after this.
    outputs = scan(host, run.directory, [*patterns, "launch.json"], ignore=_brought(host, run) if patterns else ())
    receipt = Receipt(STAGE, run.inputs, outputs, made_with(host, params, run, part), run.parents)
    store.write(receipt)
    store.make_current(run.fingerprint)
    return receipt


def _brought(host: Host, run: Run) -> List[str]:
    """Return patterns of shards here that other hosts wrote, brought to go on from: this host vouches for its own alone."""
    folder = os.path.relpath(run.save, run.directory)
    return [
        os.path.join(folder, iteration, shard, "*")
        for iteration in host.list_dir(run.save)
        for shard in host.list_dir(os.path.join(run.save, iteration))
        if shard.startswith("mp_rank_") and shard not in run.node.writes
    ]


def _remark(status: Mapping[str, Any]) -> str:
    """Return how a process ended badly after everything was done and saved; empty where all ended well."""
    if not status.get("reason"):
        return ""
    return (
        f"complete, although on {status['cause_node']} {status['reason']}"
        if status.get("cause_node")
        else status["reason"]
    )


def _below(run: Run) -> bool:
    return run.save.startswith(run.directory + "/")


def verify(host: Host, run: Run, status: Mapping[str, Any]) -> None:
    """Make sure that the run did what it had to do, as far as this host can tell; raises VerificationError with all that is wrong."""
    wrong: List[str] = []
    if status.get("iteration") != run.iterations and status.get("loaded_iteration") != run.iterations:
        wrong.append(f"the last iteration logged is {status.get('iteration')} of {run.iterations}")
    loss = status.get("loss")
    if status.get("iteration") is not None and (loss is None or not math.isfinite(loss)):
        wrong.append(f"the last loss is {loss}")
    folder = os.path.join(run.save, iteration_directory(run.iterations))
    for shard in run.node.writes if run.save else ():
        for file in run.files_of_a_shard:
            path = os.path.join(folder, shard, file)
            if not whole(host, path):
                wrong.append(f"{path} is absent or not whole")
    if run.save and run.node.rank == 0 and read_tracker(host, run.save) != str(run.iterations):
        wrong.append(f"the tracker in {run.save} names {read_tracker(host, run.save)}, not {run.iterations}")
    if wrong:
        raise VerificationError(
            f"The run says that it succeeded, but {'; '.join(wrong)}.",
            "Read the logs of the run; no receipt was written.",
        )


def made_with(host: Host, params: Mapping[str, Any], run: Run, part: Part) -> Dict[str, Any]:
    """Return what is reported about a run. Losses in nats per token, times in s or ms."""
    status = part.status
    container = Engine(host, params["docker_cli"]).container(params["container"])
    ended: Optional[float] = status.get("ended")
    return {
        "host": run.node.name,
        "node_rank": run.node.rank,
        "hosts": list(run.nodes),
        "container": container.id if container else params["container"],
        "image": container.image if container else "",
        "image_id": container.image_id if container else "",
        "release": params["plan"]["release"].get("name", ""),
        "attempts": part.attempt,
        "seconds": round(ended - float(status["started"]), 1) if ended else None,
        "iterations": run.iterations,
        "ms_per_iteration": status.get("ms_per_iteration"),
        "first_iteration": status.get("first_iteration"),
        "first_loss": status.get("first_loss"),
        "expected_first_loss": status.get("expected_first_loss"),
        "loss": status.get("loss"),
        "losses": status.get("losses", []),
        "remark": _remark(status),
    }
