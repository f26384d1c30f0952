# SPDX-License-Identifier: GPL-3.0-or-later
"""A corpus to Megatron's .bin/.idx, once, on the conversion host."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping

from .chain import predecessor, prediction
from .container_worker import call_worker
from .errors import FleetError, VerificationError
from .host import Container, Host
from .manifest import Manifest
from .outcome import Outcome
from .receipt import Receipt, Store, Verdict, converge

STAGE = "dataset"
# Weights do not change how text is cut into tokens; what is left of the model's files does.
NOT_TOKENIZER = (".safetensors", ".bin", ".pt", ".pth", ".index.json", "generation_config.json")
IDX_HEADER = b"MMIDIDX\x00\x00"


def tokenizer_files(manifest: Manifest) -> Dict[str, str]:
    """Return path -> SHA-256 of the files that can decide how the tokenizer cuts."""
    return {path: digest for path, digest in manifest.contents().items() if not path.endswith(NOT_TOKENIZER)}


def desired_inputs(params: Mapping[str, Any], corpus: str, weights: Receipt) -> Dict[str, Any]:
    """Return what decides about the dataset."""
    return {
        "corpus": corpus,
        "tokenizer": tokenizer_files(weights.outputs),
        "json_keys": params["json_keys"],
        "append_eod": params["append_eod"],
        "name": params["name"],
    }


def input_path(host: Host, directory: str, receipt: Receipt) -> str:
    """Return what the worker reads: the one file of the corpus, or its directory where it has several."""
    paths = sorted(receipt.outputs.files)
    if not paths:
        raise FleetError(f"The corpus in {directory} has no file.", "Check ascend_staging_dataset.")
    return os.path.join(directory, paths[0]) if len(paths) == 1 else directory


def worker_arguments(params: Mapping[str, Any], source: str, tokenizer: str, out: str) -> List[str]:
    """Return the dataset builder's command line."""
    line = ["--input", source, "--tokenizer", tokenizer, "--output-prefix", os.path.join(out, params["name"])]
    line += ["--json-keys", *params["json_keys"], "--workers", str(params["workers"])]
    return [*line, "--append-eod"] if params["append_eod"] else line


def check_pairs(host: Host, directory: str, name: str, keys: List[str]) -> None:
    """Make sure that each key has its pair and that an index is one, by its header."""
    for key in keys:
        prefix = os.path.join(directory, f"{name}_{key}_document")
        for suffix in (".bin", ".idx"):
            found = host.stat(prefix + suffix)
            if found is None or found.st_size == 0:
                raise VerificationError(
                    f"{prefix}{suffix} is {'absent' if found is None else 'empty'} after preprocessing.",
                    f"Check that key {key!r} holds text in the corpus.",
                )
        if not host.starts_with(prefix + ".idx", IDX_HEADER):
            raise VerificationError(f"{prefix}.idx has no MMIDIDX header.", "Nothing was put in place; run again.")


def preprocess(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the dataset that the parameters ask for (action of module megatron_dataset)."""
    root = params["work_root"]
    if check_mode:
        predicted = prediction(host, root, STAGE, ["weights", "corpus"])
        if predicted is not None:
            return predicted
    weights, corpus = predecessor(host, root, "weights"), predecessor(host, root, "corpus")
    tokenizer = Store(host, root, "weights").path(weights.fingerprint)
    source = input_path(host, Store(host, root, "corpus").path(corpus.fingerprint), corpus)
    container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
    inputs = desired_inputs(params, corpus.fingerprint, weights)

    def build(directory: str, verdict: Verdict) -> Mapping[str, Any]:
        started = time.time()
        answer = call_worker(
            container, root, "build_dataset.py", worker_arguments(params, source, tokenizer, directory)
        )
        check_pairs(host, directory, params["name"], params["json_keys"])
        return {"container": params["container"], "seconds": round(time.time() - started, 1), "worker": answer}

    parents = {"weights": weights.fingerprint, "corpus": corpus.fingerprint}
    outcome = converge(Store(host, root, STAGE), inputs, build, parents, params["verify"], check_mode)
    outcome.values.update(inputs=inputs, parents=parents)
    return outcome
