# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's own loss on the samples that training sees first: what the first iteration has to log."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List, Mapping, Optional

from .chain import predecessor, prediction
from .container_worker import call_worker, on_own_npus
from .errors import FleetError
from .host import Container, Host
from .outcome import Outcome
from .receipt import Store, Verdict, converge, fingerprint

STAGE = "reference"
WORKER = "reference_loss.py"
# Arguments with which no position of a sample sees another document.
CUTS = ("--reset-position-ids", "--reset-attention-mask")


class NotComputedError(FleetError):
    """No device has room for the model; the remedy says what to do."""


def desired_inputs(params: Mapping[str, Any], weights: str, dataset: str) -> Dict[str, Any]:
    """Return what decides about the loss: model, data, and which samples come first."""
    plan = params["plan"]
    train = plan["train"]
    return {
        "weights": weights,
        "dataset": dataset,
        "prefix": f"{plan['dataset']['name']}_{plan['dataset']['train_key']}_document",
        **{
            key: train[key]
            for key in ("seq_length", "global_batch_size", "micro_batch_size", "iterations", "seed", "split")
        },
        "padded_vocab": plan["model"]["padded_vocab"],
        "eod_mask_loss": "--eod-mask-loss" in plan["training_arguments"],
        "documents_alone": any(name in plan["training_arguments"] for name in CUTS),
        "samples": params["samples"],
    }


def not_as_computed(plan: Mapping[str, Any]) -> Optional[str]:
    """Return why the trainer may compute packed samples otherwise than the worker, each document by itself; None where it does the same."""
    arguments = plan["training_arguments"]
    cut = [name for name in CUTS if name in arguments]
    if not cut:
        return None
    why = ""
    if CUTS[0] in cut and plan["train"]["micro_batch_size"] > 1:
        # Seen in 2.0.0: positions of the samples are laid out in turns, the ends of documents sample by sample.
        why = "with a micro batch of more than one sample the trainer does not keep to the ends of documents; set micro_batch_size to 1"
    elif "--use-flash-attn" not in arguments:
        why = "without --use-flash-attn"
    elif plan["cp"] > 1:
        why = "with context parallelism"
    return f"{cut[0]}: the first loss is compared only coarsely ({why})" if why else None


def worker_arguments(inputs: Mapping[str, Any], weights: str, dataset: str, device: str) -> List[str]:
    """Return the command line of the worker."""
    line = ["--model", weights, "--data-prefix", os.path.join(dataset, inputs["prefix"])]
    line += ["--seq-length", str(inputs["seq_length"]), "--global-batch-size", str(inputs["global_batch_size"])]
    line += ["--micro-batch-size", str(inputs["micro_batch_size"]), "--train-iters", str(inputs["iterations"])]
    line += ["--seed", str(inputs["seed"]), "--split", str(inputs["split"])]
    line += ["--padded-vocab-size", str(inputs["padded_vocab"]), "--device", device]
    line += ["--eod-mask-loss"] if inputs["eod_mask_loss"] else []
    line += ["--documents-alone"] if inputs["documents_alone"] else []
    return line + (["--samples", str(inputs["samples"])] if inputs["samples"] else [])


def reference(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the reference loss (action of module reference_loss)."""
    root = params["work_root"]
    if check_mode:
        predicted = prediction(host, root, STAGE, ["weights", "dataset"])
        if predicted is not None:
            predicted.values.update(loss=None, exact=True, remarks=[])
            return predicted
    parents = {stage: predecessor(host, root, stage).fingerprint for stage in ("weights", "dataset")}
    inputs = desired_inputs(params, parents["weights"], parents["dataset"])
    container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])

    def build(directory: str, verdict: Verdict) -> Mapping[str, Any]:
        started = time.time()
        places = [Store(host, root, stage).path(name) for stage, name in sorted(parents.items(), reverse=True)]
        line = worker_arguments(inputs, places[0], places[1], params["device"])
        answer = call_worker(container, root, WORKER, line, env=on_own_npus(params))
        if answer["loss"] is None:
            raise NotComputedError("; ".join(answer["warnings"]))
        host.write_text(os.path.join(directory, "reference.json"), json.dumps(answer, indent=1, sort_keys=True) + "\n")
        return {"container": params["container"], "wall_seconds": round(time.time() - started, 1), **answer}

    store = Store(host, root, STAGE)
    try:
        outcome = converge(store, inputs, build, parents, params["verify"], check_mode)
    except NotComputedError as error:
        # No receipt: how much memory is free is a matter of the moment, and the next run asks again.
        return _not_computed(store, inputs, error)
    made = (outcome.values["artifact"] or {}).get("made_with", {})
    otherwise = not_as_computed(params["plan"])
    outcome.values["loss"] = made.get("loss")
    outcome.values["exact"] = bool(made.get("complete", True)) and otherwise is None
    outcome.values["remarks"] = [*made.get("warnings", []), *([otherwise] if otherwise else [])]
    return outcome


def _not_computed(store: Store, inputs: Mapping[str, Any], error: NotComputedError) -> Outcome:
    name = fingerprint(inputs)
    values = {"fingerprint": name, "directory": store.path(name), "found": "absent", "artifact": None}
    return Outcome(values={**values, "loss": None, "exact": False, "remarks": [error.message]})
