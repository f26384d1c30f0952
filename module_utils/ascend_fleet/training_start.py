# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a training run on one host: the launch file, the supervisor in the container, its first sign of life."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any, Dict, List, Mapping

from .container_worker import WORKERS
from .errors import FleetError, last_lines
from .host import Container, Host
from .outcome import Outcome
from .receipt import Store
from .training_bring import drop_copies, forget, lacking, put_in_place
from .training_decide import Decision, decide
from .training_inputs import STAGE, Run, missing_stages, read_run, resumed
from .training_look import SUPERVISOR, Look, look
from .training_saved import write_tracker
from .training_status import STOP_FILE, Part, in_words, launch_path, read_part, supervisor_log

SIGN_OF_LIFE = 60.0  # seconds for a supervisor to write its status; it does so before it imports torch
LOOK_INTERVAL = 0.5  # seconds
# The supervisor says everything in its status file; this catches what Python says when it cannot even be started.
_INTO_LOG = 'exec "$@" >>"$0" 2>&1'


def start(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring it about that this host takes part in the run (state started of module training_job)."""
    missing = missing_stages(host, params["work_root"]) if check_mode else []
    if missing:
        return _predicted(missing)
    run = read_run(host, params["work_root"], params["plan"], params["host"])
    own, part = look(host, params, run)
    looks = [own if item["host"] == own.host else Look.from_dict(item) for item in params["fleet"]] or [own]
    decision = decide(looks, params["new_run"])
    sources = lacking(looks, decision).get(own.host, {})
    outcome = _outcome(run, own, part, decision)
    outcome.actions += [
        f"run {run.fingerprint}: {', '.join(sources[name])} as {name} saved them" for name in sorted(sources)
    ]
    if not outcome.changed or check_mode:
        return outcome
    store = Store(host, params["work_root"], STAGE)
    if decision.action != "none":
        if decision.start:
            drop_copies(host, params["work_root"], run, keep=decision.start)
            put_in_place(host, params["work_root"], run, decision.start, sources)
        _launch(host, params, run, decision)
        outcome.values.update(_sign_of_life(host, params, run, decision))
    store.make_current(run.fingerprint)
    return outcome


def _predicted(missing: List[str]) -> Outcome:
    action = f"run: would be started once {', '.join(missing)} is there"
    values = {"fingerprint": None, "directory": None, "run_state": "absent", "attempt": 1, "progress": "absent"}
    return Outcome(True, {"run": "absent"}, {"run": "started"}, [action], values)


def _outcome(run: Run, own: Look, part: Part, decision: Decision) -> Outcome:
    values = {
        "fingerprint": run.fingerprint,
        "directory": run.directory,
        "run_state": own.state,
        "attempt": decision.attempt if decision.action != "none" else own.attempt,
        "progress": in_words({"state": own.state, **part.summary()}),
        "decision": decision.action,
    }
    outcome = Outcome(values=values)
    if decision.action == "none":
        # A finished run that is taken up again (its inputs were restored) is put in use without being trained again.
        if own.other:
            outcome.changed = True
            outcome.before, outcome.after = {"run": own.other["fingerprint"]}, {"run": run.fingerprint}
            outcome.actions = [f"run {run.fingerprint}: put in use"]
        return outcome
    outcome.changed = True
    at = f" at iteration {decision.start}" if decision.start else ""
    outcome.actions = [f"run {run.fingerprint}: {decision.action}{at}, attempt {decision.attempt} ({decision.why})"]
    outcome.before = {"run": own.state, "inputs": own.other.get("inputs") if own.other else None}
    outcome.after = {"run": "started", "inputs": dict(run.inputs)}
    return outcome


def _launch(host: Host, params: Mapping[str, Any], run: Run, decision: Decision) -> None:
    if decision.aside:
        _move_aside(host, run.directory, decision.attempt - 1)
        forget(host, params["work_root"], run)
    host.make_dirs(os.path.join(run.directory, "logs"))
    host.remove(os.path.join(run.directory, STOP_FILE))
    if decision.start:
        write_tracker(host, run.save, decision.start)
    path = launch_path(run.directory, run.node.rank)
    text = json.dumps(launch_file(params, run, decision), indent=1, sort_keys=True) + "\n"
    host.write_text(path, text, mode=0o600)  # the environment may hold what is nobody's business
    container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
    supervisor = os.path.join(params["work_root"], WORKERS, SUPERVISOR)
    log = supervisor_log(run.directory, run.node.rank)
    container.start(["bash", "-c", _INTO_LOG, log, "python", supervisor, "--spec", path])


def _move_aside(host: Host, directory: str, attempt: int) -> None:
    number = attempt
    while host.stat(f"{directory}.attempt-{number}") is not None:
        number += 1
    if host.is_dir(directory):
        host.rename(directory, f"{directory}.attempt-{number}")


def launch_file(params: Mapping[str, Any], run: Run, decision: Decision) -> Dict[str, Any]:
    """Return what the supervisor is told; see workers/_supervise_spec.py."""
    plan = params["plan"]
    arguments = resumed(run.arguments, run.save) if decision.start else list(run.arguments)
    environment = {**plan["environment"].get(run.node.name, {}), **(params["environment"] or {})}
    return {
        "run": run.fingerprint,
        "inputs": dict(run.inputs),
        "attempt": decision.attempt,
        "node_rank": run.node.rank,
        "nodes": list(run.nodes),
        "launcher": plan["launch"]["arguments"][run.node.name],
        "master_addr": plan["launch"]["master_addr"],
        "store_port": int(plan["launch"]["master_port"]) + 1,
        "directory": os.path.join(params["work_root"], "source", "MindSpeed-LLM"),
        "script": plan["launch"]["script"],
        "arguments": arguments,
        "environment": {key: str(value) for key, value in environment.items()},
        "expect": {
            "loads": bool(run.load) or bool(decision.start),
            "start": decision.start,
            "iterations": run.iterations,
            "first_loss": params["reference_loss"],
            "exact": params["reference_exact"],
            "tolerance": params["tolerance"],
            "random_loss": round(math.log(int(plan["model"]["padded_vocab"])), 6),
        },
        "timing": {"start_timeout": params["start_timeout"], "grace": params["grace"]},
    }


def _sign_of_life(host: Host, params: Mapping[str, Any], run: Run, decision: Decision) -> Dict[str, Any]:
    """Wait for the supervisor's first status; raises FleetError with what it printed when there is none."""
    limit = time.monotonic() + SIGN_OF_LIFE
    while True:
        part = read_part(host, run.directory, run.node.rank)
        if part.status.get("attempt") == decision.attempt:
            return {"run_state": part.state, "progress": in_words(part.status)}
        if time.monotonic() > limit:
            break
        time.sleep(LOOK_INTERVAL)
    log = supervisor_log(run.directory, run.node.rank)
    said = last_lines(host.read_text(log) or "")
    raise FleetError(
        f"The supervisor gave no sign of life within {SIGN_OF_LIFE:.0f} s in container {params['container']}: {said or 'it said nothing'}",
        f"Read {log}; the stages before bring what it needs (--tags container,source,weights).",
    )
