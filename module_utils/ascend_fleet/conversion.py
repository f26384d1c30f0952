# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugging Face weights to a Megatron-core checkpoint, once, on the conversion host."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping

from .chain import predecessor, prediction
from .container_worker import call_worker, progress_shown
from .conversion_alone import converge_alone
from .conversion_engine import Engine, choose_engine, read_model_config
from .conversion_repair import plan_repair, shard_path
from .conversion_upstream import convert_upstream, dialect_objection
from .errors import VerificationError
from .host import Container, Host
from .outcome import Outcome
from .receipt import Receipt, Store, Verdict

STAGE = "checkpoint"
TRACKER = "latest_checkpointed_iteration.txt"
# The shape of what is written. A worker that writes something else gets another name here, and every site converts anew.
LAYOUT = "mcore-0.8"


def desired_inputs(params: Mapping[str, Any], weights: str, engine: Engine) -> Dict[str, Any]:
    """Return what decides about the converted checkpoint."""
    return {
        "weights": weights,
        "tp": params["tp"],
        "pp": params["pp"],
        "layers_per_stage": params["layers_per_stage"] or [],
        "dtype": params["dtype"],
        "vocab_divisible_by": params["vocab_divisible_by"],
        "layout": LAYOUT,
        **engine.inputs,
    }


def worker_arguments(params: Mapping[str, Any], weights_path: str, out: str) -> List[str]:
    """Return the converter's command line."""
    line = ["hf2mcore", "--hf", weights_path, "--out", out, "--tp", str(params["tp"]), "--pp", str(params["pp"])]
    line += ["--dtype", params["dtype"], "--vocab-divisible-by", str(params["vocab_divisible_by"])]
    line += ["--workers", str(params["workers"])]
    if params["layers_per_stage"]:
        line += ["--layers-per-stage", ",".join(str(layers) for layers in params["layers_per_stage"])]
    return line


def all_files(tp: int, pp: int) -> List[str]:
    """Return the files of a whole checkpoint, relative to it: every shard, and the tracker."""
    return [shard_path(rank, stage, pp) for stage in range(pp) for rank in range(tp)] + [TRACKER]


def check_shards(host: Host, directory: str, tp: int, pp: int) -> None:
    """Make sure that every shard and the tracker are there: upstream's lesson is that an exit status proves nothing."""
    found = {path for path, _ in host.walk_files(directory)}
    missing = sorted(set(all_files(tp, pp)) - found)
    if missing:
        raise VerificationError(
            f"The converter left {len(found)} files; missing: {', '.join(missing)}.",
            "Look at the worker's output; nothing was put in place.",
        )


class Conversion:
    """One conversion: the model, where it goes and with which engine."""

    def __init__(self, host: Host, params: Dict[str, Any], weights: Receipt) -> None:
        self.host = host
        self.params = params
        self.weights = weights
        self.source = Store(host, params["work_root"], "weights").path(weights.fingerprint)
        self.config = read_model_config(host, self.source)
        self.engine = choose_engine(host, params, self.config, dialect_objection(params["converter_dialect"]))
        self.container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
        self.store = Store(host, params["work_root"], STAGE)

    def build(self, directory: str, verdict: Verdict) -> Mapping[str, Any]:
        """Make the checkpoint in an empty directory."""
        started = time.time()
        with progress_shown(self.host, self.store.root) as env:
            answer = (
                self._upstream(directory, env)
                if self.engine.name == "upstream"
                else self._native(directory, verdict, env)
            )
        check_shards(self.host, directory, self.params["tp"], self.params["pp"])
        return {
            "container": self.params["container"],
            "engine": f"{self.engine.name}: {self.engine.why}",
            "seconds": round(time.time() - started, 1),
            "worker": answer,
        }

    def _upstream(self, directory: str, env: Dict[str, str]) -> Dict[str, Any]:
        return convert_upstream(
            self.host, self.container, self.params, self.config, self.weights, self.source, directory, env
        )

    def _native(self, directory: str, verdict: Verdict, env: Dict[str, str]) -> Dict[str, Any]:
        """Convert all ranks, or after damage only those whose shard is not whole."""
        line = worker_arguments(self.params, self.source, directory)
        repair = plan_repair(self.host, self.store, verdict, self.params["tp"], self.params["pp"])
        if repair is None:
            return self._worker(line, env)
        answer: Dict[str, Any] = {}
        if repair.ranks:
            line += ["--ranks", ",".join(repair.ranks)]
            answer = self._worker(line, env)
        else:
            self.host.write_text(os.path.join(directory, TRACKER), "release")
        repair.move_kept(self.host, directory)
        return {**answer, "repaired_ranks": list(repair.ranks)}

    def _worker(self, line: List[str], env: Dict[str, str]) -> Dict[str, Any]:
        return call_worker(self.container, self.params["work_root"], "convert_checkpoint.py", line, env=env)


def convert(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the checkpoint that the parameters ask for (action of module mcore_checkpoint)."""
    if check_mode:
        predicted = prediction(host, params["work_root"], STAGE, ["weights"])
        if predicted is not None:
            return predicted
    weights = predecessor(host, params["work_root"], "weights")
    work = Conversion(host, params, weights)
    inputs = desired_inputs(params, weights.fingerprint, work.engine)
    parents = {"weights": weights.fingerprint, **work.engine.parents}
    # Of a checkpoint that another host made, only the shards of its own ranks may have been brought here.
    expected = all_files(params["tp"], params["pp"])
    outcome = converge_alone(host, work.store, inputs, work.build, parents, params["verify"], check_mode, expected)
    outcome.values.update(inputs=inputs, parents=parents, engine=work.engine.name)
    return outcome
