# SPDX-License-Identifier: GPL-3.0-or-later
"""One load of the weights through transformers, in the container: the proof that they are a model and not only whole files."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from .chain import predecessor, prediction
from .container_worker import call_worker, on_own_npus
from .errors import CommandError, FleetError
from .host import Container, Host
from .outcome import Outcome
from .receipt import Store

STAGE = "weights"
KNOWN = ("architecture", "model_type", "parameters", "dtype", "device", "structure")


def show_model(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module pretrained_model_info; `params` are its options."""
    work_root = params["work_root"]
    if check_mode and prediction(host, work_root, STAGE, [STAGE]):
        return Outcome(values={**_values({}), "loaded": False, "fingerprint": None})
    weights = predecessor(host, work_root, STAGE)
    asked = {"fingerprint": weights.fingerprint, "image": _image(host, params, check_mode), "device": params["device"]}
    path = os.path.join(work_root, STAGE, f".verified-{weights.fingerprint}.json")
    answer = _remembered(host, path, asked)
    loaded = answer is None and not check_mode
    if loaded:
        answer = _load(host, params, Store(host, work_root, STAGE).path(weights.fingerprint))
        host.write_text(path, json.dumps({"asked": asked, "answer": answer}, sort_keys=True) + "\n")
    return Outcome(values={**_values(answer or {}), "loaded": loaded, "fingerprint": weights.fingerprint})


def _image(host: Host, params: Dict[str, Any], check_mode: bool) -> Optional[str]:
    """Return the id of the image that the container runs: with another one, libraries may read the same weights differently."""
    try:
        done = host.run(
            [params["docker_cli"], "inspect", "--type", "container", "--format", "{{.Image}}", params["container"]]
        )
    except CommandError as error:
        if check_mode:
            return None  # a bare server has no container yet, perhaps not even the engine
        raise FleetError(
            f"Container {params['container']} is not there ({error.message}).",
            "Run the stage before this one: --tags container.",
        ) from error
    return done.stdout.strip()


def _load(host: Host, params: Dict[str, Any], directory: str) -> Dict[str, Any]:
    container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
    switches = [name for name in ("trust_remote_code", "allow_pickle") if params[name]]
    arguments: List[str] = ["--model", directory, "--device", params["device"]]
    arguments += [f"--{name.replace('_', '-')}" for name in switches]
    return call_worker(container, params["work_root"], "verify_model.py", arguments, env=on_own_npus(params))


def _remembered(host: Host, path: str, asked: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Return the answer of an earlier load of the same weights by the same image; anything odd means: none."""
    try:
        data = json.loads(host.read_text(path) or "")
        answer = data["answer"] if data["asked"] == asked else None
    except (ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, dict) else None


def _values(answer: Dict[str, Any]) -> Dict[str, Any]:
    """Return the module's own values; `finite` is None where no logits were computed (structure only)."""
    logits = answer.get("logits") or {}
    values = {**{name: answer.get(name) for name in KNOWN}, "finite": logits.get("finite")}
    return {**values, "remarks": answer.get("warnings") or []}
