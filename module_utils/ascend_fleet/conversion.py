# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugging Face weights to a Megatron-core checkpoint, once, on the conversion host."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping

from .chain import predecessor, prediction
from .container_worker import call_worker
from .errors import VerificationError
from .host import Container, Host
from .outcome import Outcome
from .receipt import Store, Verdict, converge

STAGE = "checkpoint"
TRACKER = "latest_checkpointed_iteration.txt"
# The shape of what is written. A worker that writes something else gets another name here, and every site converts anew.
LAYOUT = "mcore-0.8"


def shard_names(tp: int, pp: int) -> List[str]:
    """Return the directory names of all shards, as Megatron names them."""
    if pp == 1:
        return [f"mp_rank_{rank:02d}" for rank in range(tp)]
    return [f"mp_rank_{rank:02d}_{stage:03d}" for stage in range(pp) for rank in range(tp)]


def desired_inputs(params: Mapping[str, Any], weights: str) -> Dict[str, Any]:
    """Return what decides about the converted checkpoint."""
    return {
        "weights": weights,
        "tp": params["tp"],
        "pp": params["pp"],
        "layers_per_stage": params["layers_per_stage"] or [],
        "dtype": params["dtype"],
        "vocab_divisible_by": params["vocab_divisible_by"],
        "layout": LAYOUT,
    }


def worker_arguments(params: Mapping[str, Any], weights_path: str, out: str) -> List[str]:
    """Return the converter's command line."""
    line = ["hf2mcore", "--hf", weights_path, "--out", out, "--tp", str(params["tp"]), "--pp", str(params["pp"])]
    line += ["--dtype", params["dtype"], "--vocab-divisible-by", str(params["vocab_divisible_by"])]
    if params["layers_per_stage"]:
        line += ["--layers-per-stage", ",".join(str(layers) for layers in params["layers_per_stage"])]
    return line


def check_shards(host: Host, directory: str, tp: int, pp: int) -> None:
    """Make sure that every shard and the tracker are there: upstream's lesson is that an exit status proves nothing."""
    found = {path for path, _ in host.walk_files(directory)}
    expected = {f"release/{name}/model_optim_rng.pt" for name in shard_names(tp, pp)} | {TRACKER}
    if expected - found:
        raise VerificationError(
            f"The converter left {len(found)} files; missing: {', '.join(sorted(expected - found))}.",
            "Look at the worker's output; nothing was put in place.",
        )


def convert(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the checkpoint that the parameters ask for (action of module mcore_checkpoint)."""
    if check_mode:
        predicted = prediction(host, params["work_root"], STAGE, ["weights"])
        if predicted is not None:
            return predicted
    weights = predecessor(host, params["work_root"], "weights")
    weights_path = Store(host, params["work_root"], "weights").path(weights.fingerprint)
    container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
    inputs = desired_inputs(params, weights.fingerprint)

    def build(directory: str, verdict: Verdict) -> Mapping[str, Any]:
        started = time.time()
        answer = call_worker(
            container, params["work_root"], "convert_checkpoint.py", worker_arguments(params, weights_path, directory)
        )
        check_shards(host, directory, params["tp"], params["pp"])
        return {"container": params["container"], "seconds": round(time.time() - started, 1), "worker": answer}

    store = Store(host, params["work_root"], STAGE)
    parents = {"weights": weights.fingerprint}
    outcome = converge(store, inputs, build, parents, params["verify"], check_mode)
    outcome.values.update(inputs=inputs, parents=parents)
    return outcome
