# SPDX-License-Identifier: GPL-3.0-or-later
"""The training container of one server: made from a specification, re-made only on drift and never under a running job."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from .container_spec import LABEL_HASH, LABEL_SPEC, ContainerSpec, resolve
from .docker import ContainerState, Engine
from .docker_probe import probe, require
from .errors import FleetError, InputError, RefusedError
from .host import Container, Host
from .manifest import Manifest
from .outcome import Outcome
from .receipt import RECEIPT, Receipt, Store, read_receipt

STAGE = "container"
SUPERVISOR = "supervise_training.py"


@dataclass(frozen=True)
class Look:
    """The look from inside, taken once per start of a container; the receipt remembers one that went well."""

    store: Store
    spec: ContainerSpec

    def remembered(self, state: Optional[ContainerState]) -> Optional[Dict[str, Any]]:
        """Return what an earlier look at this very start of the container found; None where there was none."""
        receipt = read_receipt(self.store.host, os.path.join(self.store.root, RECEIPT))
        if state is None or receipt is None or receipt.inputs != self._inputs(state):
            return None
        same = (receipt.made_with.get("container"), receipt.made_with.get("started_at")) == (state.id, state.started_at)
        return receipt.made_with.get("probe") if same else None

    def take(self, host: Host, params: Mapping[str, Any], state: ContainerState) -> Dict[str, Any]:
        """Look from inside; raises where the NPU software does not work or sees other cards than it was given."""
        found = probe(Container(host, self.spec.name, params["env_scripts"], params["docker_cli"]), params["python"])
        require(found, self.spec.name, params["npus"], self.spec.privileged)
        made_with = {"container": state.id, "started_at": state.started_at, "probe": found.as_dict()}
        self.store.write(Receipt(STAGE, self._inputs(state), Manifest({}), made_with), self.store.root)
        return found.as_dict()

    def _inputs(self, state: ContainerState) -> Dict[str, Any]:
        return {"spec": self.spec.as_dict(), "image_id": state.image_id}


def ensure_container(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the container and prove from inside that it can do its work."""
    engine = Engine(host, params["docker_cli"])
    resolved = resolve(host, params)
    image = engine.image(resolved.spec.image)
    if image is None and not check_mode:
        raise InputError(
            f"Image {resolved.spec.image} is not on this server.", "Run the tag container, which brings it."
        )
    existing = engine.container(params["name"])
    outcome = _plan(resolved.spec, image.id if image else None, existing)
    outcome.actions = [f"make directory {path}" for path in resolved.new_directories] + outcome.actions
    look = Look(Store(host, params["work_root"], STAGE), resolved.spec)
    if outcome.changed or not look.remembered(existing):
        outcome.changed = True
        outcome.actions.append(f"look from inside for {len(params['npus'])} NPUs")
    if existing and outcome.values["found"] == "different":
        _refuse_loss(engine, existing, params["replace_foreign"])
    if check_mode:
        return outcome
    for path in resolved.new_directories:
        host.make_dirs(path)
    state = _apply(engine, resolved.spec, existing, outcome.values["found"])
    outcome.values["container"] = _view(state)
    outcome.values["probe"] = look.remembered(state) or look.take(host, params, state)
    return outcome


def _plan(spec: ContainerSpec, image_id: Optional[str], existing: Optional[ContainerState]) -> Outcome:
    """Compare what is there with what is wanted; `state` says which step leads from one to the other."""
    before, after = _before(spec, existing), {**spec.as_dict(), "image_id": image_id, "status": "running"}
    if existing is None:
        state, actions = "absent", [f"create container {spec.name}", "start it"]
    elif (
        existing.labels.get(LABEL_HASH) != spec.hash()
        or existing.image_id != image_id
        or existing.status in ("dead", "removing")
    ):
        different = sorted(key for key in after if before.get(key) != after[key] and key != "status")
        reason = ", ".join(different) or existing.status
        state, actions = "different", [f"create container {spec.name} anew, because of: {reason}"]
    elif existing.running:
        state, actions = "ok", []
    else:
        state, actions = "stopped", [f"start container {spec.name}, which is {existing.status}"]
    outcome = Outcome(changed=state != "ok", actions=actions, values={"found": state})
    outcome.values["container"] = _view(existing) if existing else None
    outcome.values["probe"] = None
    if outcome.changed:
        outcome.before, outcome.after = before, after
    return outcome


def _before(spec: ContainerSpec, existing: Optional[ContainerState]) -> Dict[str, Any]:
    if existing is None:
        return {}
    try:
        old = json.loads(existing.labels.get(LABEL_SPEC, "{}"))
    except ValueError:
        old = {}
    return {**old, "image_id": existing.image_id, "status": existing.status}


def _refuse_loss(engine: Engine, existing: ContainerState, replace_foreign: bool) -> None:
    """Stop before a container is replaced that somebody needs."""
    if LABEL_HASH not in existing.labels and not replace_foreign:
        raise RefusedError(
            f"Container {existing.name} was not made by this project; replacing it would lose what was installed in it.",
            f"Rename it (docker rename {existing.name} {existing.name}-old), choose another ascend_container_name, "
            "or set training_container_replace_foreign: true.",
        )
    refuse_under_job(engine, existing, "the container would have to be created anew")


def refuse_under_job(engine: Engine, state: ContainerState, why: str) -> None:
    """Raise RefusedError where a training job runs in the container; `why` says what would happen to it."""
    jobs = running_jobs(engine, state)
    if jobs:
        raise RefusedError(
            f"A training job runs in container {state.name}, and {why}: {jobs[0]}.",
            "Wait for its end, or stop it with playbooks/stop-training.yml.",
            jobs=jobs,
        )


def running_jobs(engine: Engine, state: ContainerState) -> List[str]:
    """Return the command lines of the training supervisors that are alive in a container."""
    if state.status not in ("running", "paused"):
        return []
    return [line for line in engine.processes(state.name) if SUPERVISOR in line]


def _apply(engine: Engine, spec: ContainerSpec, existing: Optional[ContainerState], state: str) -> ContainerState:
    if state == "different" and existing:
        _replace(engine, spec, existing)
    elif state == "absent":
        _create(engine, spec)
        _remove_replaced(engine, spec.name)
    elif state == "stopped" and existing:
        if existing.status == "paused":
            engine.unpause(spec.name)
        else:
            engine.start(spec.name)
    found = existing if state == "ok" else engine.container(spec.name)
    if found is None or not found.running:
        raise FleetError(
            f"Container {spec.name} was started and is {found.status if found else 'gone'}.",
            f"Look at `{engine.cli} logs {spec.name}`.",
        )
    return found


def _create(engine: Engine, spec: ContainerSpec) -> None:
    """Create and start; what does not stay up is not left behind. A container that someone else made meanwhile is theirs."""
    made = engine.create(spec.arguments())
    try:
        engine.start(spec.name)
        if not engine.answers(spec.name):
            raise FleetError(
                f"Container {spec.name} ended at once: {engine.last_words(spec.name) or 'without a word'}.",
                "Correct its command, image or arguments.",
            )
    except FleetError:
        with contextlib.suppress(FleetError):
            engine.remove(made)
        raise


def _replace(engine: Engine, spec: ContainerSpec, existing: ContainerState) -> None:
    """Make the new container first; the old one goes only when the new one runs, and comes back where it does not."""
    aside = _remove_replaced(engine, spec.name)
    if existing.status in ("running", "paused", "restarting"):
        engine.stop(spec.name)
    engine.rename(spec.name, aside)
    try:
        _create(engine, spec)
    except FleetError:
        engine.rename(aside, spec.name)
        if existing.running:
            engine.start(spec.name)
        raise
    engine.remove(aside)


def _remove_replaced(engine: Engine, name: str) -> str:
    """Remove what an interrupted replacement may have left; return its name."""
    aside = f"{name}.replaced"
    if engine.container(aside):
        engine.remove(aside)
    return aside


def _view(state: ContainerState) -> Dict[str, Any]:
    return {
        "id": state.id,
        "name": state.name,
        "image_id": state.image_id,
        "status": state.status,
        "started_at": state.started_at,
    }
