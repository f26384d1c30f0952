# SPDX-License-Identifier: GPL-3.0-or-later
"""A corpus to Megatron's .bin/.idx, once, on the conversion host."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping

from .chain import predecessor, prediction
from .container_worker import call_worker, progress_shown
from .conversion_alone import converge_alone
from .conversion_engine import Engine, choose_engine, read_model_config
from .corpus_upstream import objection, preprocess_upstream
from .errors import FleetError, InputError, RefusedError, VerificationError
from .host import Container, Host
from .manifest import Manifest
from .outcome import Outcome
from .receipt import Receipt, Store, Verdict

STAGE = "dataset"
# Weights do not change how text is cut into tokens; what is left of the model's files does.
NOT_TOKENIZER = (".safetensors", ".bin", ".pt", ".pth", ".index.json", "generation_config.json")
IDX_HEADER = b"MMIDIDX\x00\x00"


def tokenizer_files(manifest: Manifest) -> Dict[str, str]:
    """Return path -> SHA-256 of the files that can decide how the tokenizer cuts."""
    return {path: digest for path, digest in manifest.contents().items() if not path.endswith(NOT_TOKENIZER)}


def desired_inputs(params: Mapping[str, Any], corpus: str, weights: Receipt, engine: Engine) -> Dict[str, Any]:
    """Return what decides about the dataset."""
    return {
        "corpus": corpus,
        "tokenizer": tokenizer_files(weights.outputs),
        "json_keys": params["json_keys"],
        "append_eod": params["append_eod"],
        "name": params["name"],
        "template": params["template"],
        "validation": params["validation"],
        "skip_bad": params["skip_bad"],
        **engine.inputs,
    }


def refuse_impossible(params: Mapping[str, Any]) -> None:
    """Refuse what no engine does, before anything is looked at."""
    if params["task"] != "pretraining":
        raise RefusedError(
            f"Task {params['task']!r} needs an instruction dataset, with a prompt template and a handler of its own. This module "
            "makes pretraining datasets only; fine-tuning on one would train on something else without complaint.",
            "Set the task to pretraining, or make the dataset with the release's own tools.",
        )
    if params["template"] and len(params["json_keys"]) != 1:
        raise InputError(
            f"A template makes one text, and json_keys has {len(params['json_keys'])} entries.",
            "Name one key; it is only the name of the files.",
        )
    if not 0 <= params["validation"] < 1:
        raise InputError(f"validation {params['validation']} is no share below 1.", "Give for example 0.01.")


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
    line += ["--template", params["template"]] if params["template"] else []
    line += ["--validation", repr(params["validation"])] if params["validation"] else []
    line += ["--skip-bad", str(params["skip_bad"])] if params["skip_bad"] else []
    return [*line, "--append-eod"] if params["append_eod"] else line


def prefixes(params: Mapping[str, Any]) -> List[str]:
    """Return the file names without ending that have to be there: a part for validation is a dataset of its own."""
    names = [params["name"], f"{params['name']}_valid"] if params["validation"] else [params["name"]]
    return [f"{name}_{key}_document" for name in names for key in params["json_keys"]]


def check_pairs(host: Host, directory: str, names: List[str]) -> None:
    """Make sure that each key has its pair and that an index is one, by its header."""
    for name in names:
        prefix = os.path.join(directory, name)
        for suffix in (".bin", ".idx"):
            found = host.stat(prefix + suffix)
            if found is None or found.st_size == 0:
                raise VerificationError(
                    f"{prefix}{suffix} is {'absent' if found is None else 'empty'} after preprocessing.",
                    "Check that this key holds text in the corpus.",
                )
        if not host.starts_with(prefix + ".idx", IDX_HEADER):
            raise VerificationError(f"{prefix}.idx has no MMIDIDX header.", "Nothing was put in place; run again.")


class Preprocessing:
    """One dataset: the corpus, the tokenizer and the engine."""

    def __init__(self, host: Host, params: Dict[str, Any], weights: Receipt, corpus: Receipt) -> None:
        root = params["work_root"]
        self.host = host
        self.params = params
        self.tokenizer = Store(host, root, "weights").path(weights.fingerprint)
        self.source = input_path(host, Store(host, root, "corpus").path(corpus.fingerprint), corpus)
        config = read_model_config(host, self.tokenizer)
        self.engine = choose_engine(host, params, config, objection(params))
        self.container = Container(host, params["container"], params["env_scripts"], params["docker_cli"])

    def build(self, directory: str, verdict: Verdict) -> Mapping[str, Any]:
        """Make the pairs in an empty directory."""
        started = time.time()
        line = worker_arguments(self.params, self.source, self.tokenizer, directory)
        with progress_shown(self.host, os.path.dirname(directory)) as env:
            if self.engine.name == "upstream":
                answer = preprocess_upstream(
                    self.host, self.container, self.params, self.source, self.tokenizer, directory, line, env
                )
            else:
                answer = call_worker(self.container, self.params["work_root"], "build_dataset.py", line, env=env)
        check_pairs(self.host, directory, prefixes(self.params))
        return {
            "container": self.params["container"],
            "engine": f"{self.engine.name}: {self.engine.why}",
            "seconds": round(time.time() - started, 1),
            "worker": answer,
        }


def preprocess(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the dataset that the parameters ask for (action of module megatron_dataset)."""
    refuse_impossible(params)
    root = params["work_root"]
    if check_mode:
        predicted = prediction(host, root, STAGE, ["weights", "corpus"])
        if predicted is not None:
            return predicted
    weights, corpus = predecessor(host, root, "weights"), predecessor(host, root, "corpus")
    work = Preprocessing(host, params, weights, corpus)
    inputs = desired_inputs(params, corpus.fingerprint, weights, work.engine)
    parents = {"weights": weights.fingerprint, "corpus": corpus.fingerprint, **work.engine.parents}
    store = Store(host, root, STAGE)
    outcome = converge_alone(host, store, inputs, work.build, parents, params["verify"], check_mode)
    outcome.values.update(inputs=inputs, parents=parents, engine=work.engine.name)
    return outcome
