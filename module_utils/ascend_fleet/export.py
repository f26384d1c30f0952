# SPDX-License-Identifier: GPL-3.0-or-later
"""A trained Megatron-core checkpoint back to a Hugging Face model, loaded and compared before it is put in place."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Optional

from .chain import predecessor, predicted, prediction
from .container_worker import call_worker, on_own_npus, progress_shown
from .conversion_alone import converge_alone
from .conversion_engine import native_objection, read_model_config
from .conversion_repair import WEIGHTS
from .conversion_upstream import verify_arguments
from .errors import FleetError, RefusedError, VerificationError
from .host import Container, Host
from .outcome import Outcome
from .receipt import RECEIPT, Receipt, Store, Verdict, fingerprint, read_receipt
from .training_saved import TRACKER, iteration_directory

STAGE = "export"
LAYOUT = "hf-1"  # another name makes every site export anew
LEVELS = 4  # directories between a shard's file and the receipt that names it


class Export:
    """One export: the shards of one iteration, and the model that they were trained from."""

    def __init__(self, host: Host, params: Mapping[str, Any], weights: Receipt) -> None:
        self.host = host
        self.params = params
        self.weights = weights
        self.source = Store(host, params["work_root"], "weights").path(weights.fingerprint)
        self.config = read_model_config(host, self.source)
        self.container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
        self.store = Store(host, params["work_root"], STAGE)

    def inputs(self) -> Dict[str, Any]:
        """Return what decides about the exported model: the shards by their content, and the model that gives names and tokenizer."""
        shards = {
            name: shard_digest(self.host, os.path.join(directory, WEIGHTS))
            for name, directory in sorted(self.params["shards"].items())
        }
        return {
            "run": self.params["run"],
            "iteration": self.params["iteration"],
            "shards": shards,
            "weights": self.weights.fingerprint,
            "layout": LAYOUT,
        }

    def build(self, directory: str, verdict: Verdict) -> Mapping[str, Any]:
        """Make the model in an empty directory and prove it."""
        started = time.time()
        gathered = self.store.path(f".{fingerprint(self.inputs())}.shards")
        try:
            self._gather(gathered)
            with progress_shown(self.host, self.store.root) as env:
                line = ["mcore2hf", "--mcore", gathered, "--reference-hf", self.source, "--out", directory]
                converted = self._worker("convert_checkpoint.py", line, env)
                self._check_files(directory)
                compared = self._compare(directory, gathered, env)
        finally:
            self.host.remove(gathered)
        line = ["--model", directory, "--device", self.params["device"]]
        loaded = self._worker("verify_model.py", line, on_own_npus(self.params))
        loaded.pop("structure", None)
        return {
            "container": self.params["container"],
            "seconds": round(time.time() - started, 1),
            "worker": converted,
            "compared": compared,
            "loaded": loaded,
        }

    def _worker(self, program: str, line: List[str], env: Dict[str, str]) -> Dict[str, Any]:
        return call_worker(self.container, self.params["work_root"], program, line, env=env)

    def _gather(self, directory: str) -> None:
        """Lay out a whole checkpoint of links: the shards are large, and each lies below the work root already."""
        self.host.remove(directory)
        for name, place in self.params["shards"].items():
            folder = os.path.join(directory, iteration_directory(self.params["iteration"]), name)
            self.host.make_dirs(folder)
            self.host.point(os.path.join(folder, WEIGHTS), os.path.join(place, WEIGHTS))
        self.host.write_text(os.path.join(directory, TRACKER), str(self.params["iteration"]))

    def _check_files(self, directory: str) -> None:
        expected = {path for path in self.weights.outputs.files if path.endswith(".safetensors")} | {"config.json"}
        missing = sorted(expected - {path for path, _ in self.host.walk_files(directory)})
        if missing:
            raise VerificationError(
                f"The exported model lacks {', '.join(missing)}.",
                "Look at the worker's output; nothing was put in place.",
            )

    def _compare(self, directory: str, gathered: str, env: Dict[str, str]) -> Dict[str, Any]:
        """Derive every shard from the exported model again and compare bits, wherever the shards hold nothing beside the model."""
        padded = int(self.config["vocab_size"]) % (self.params["vocab_divisible_by"] * self.params["tp"]) != 0
        if padded or self.config.get("tie_word_embeddings"):
            why = "padding rows of the vocabulary" if padded else "a second copy of the tied embedding"
            return {"equal": None, "why": f"the shards hold {why}, which the model does not have"}
        return self._worker("convert_checkpoint.py", verify_arguments(self.params, directory, gathered), env)


def shard_digest(host: Host, path: str) -> str:
    """Return the SHA-256 of a shard: from the receipt that names it where size and time still agree, else from its bytes."""
    found = host.stat(path)
    if found is None:
        raise FleetError(
            f"Shard {path} is not there.", "Run playbooks/export-model.yml as a whole: it gathers the shards."
        )
    folder = os.path.dirname(path)
    for _ in range(LEVELS):
        receipt = read_receipt(host, os.path.join(folder, RECEIPT))
        if receipt is not None:
            entry = receipt.outputs.files.get(os.path.relpath(path, folder))
            if entry is not None and (entry.size, entry.mtime_ns) == (found.st_size, found.st_mtime_ns):
                return entry.sha256
            break
        folder = os.path.dirname(folder)
    return host.sha256(path)


def export(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the exported model (action of module hf_export)."""
    root = params["work_root"]
    if check_mode:
        early = prediction(host, root, STAGE, ["weights"]) or _not_gathered(host, params)
        if early is not None:
            return early
    weights = predecessor(host, root, "weights")
    work = Export(host, params, weights)
    objection = native_objection(work.config)
    if objection:
        raise RefusedError(
            f"The native engine does not export this model: {objection}.",
            "Use convert_ckpt.py of the source tree with --load-model-type mg --save-model-type hf --params-dtype bf16.",
        )
    inputs = work.inputs()
    parents = {"run": params["run"], "weights": weights.fingerprint}
    outcome = converge_alone(host, work.store, inputs, work.build, parents, params["verify"], check_mode)
    outcome.values.update(inputs=inputs, parents=parents)
    return outcome


def _not_gathered(host: Host, params: Mapping[str, Any]) -> Optional[Outcome]:
    """In check mode: what to report while shards of other hosts have not been brought here, or nothing is trained yet."""
    there = [host.is_file(os.path.join(place, WEIGHTS)) for place in params["shards"].values()]
    return None if there and all(there) else predicted(Store(host, params["work_root"], STAGE), ["every shard"])
