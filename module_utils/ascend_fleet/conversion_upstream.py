# SPDX-License-Identifier: GPL-3.0-or-later
"""Converting with the pinned release's own convert_ckpt.py, which is never believed: what it left is compared with the source.

Its exit status says nothing. It ends with status 0 and without files when a size does not divide, when the target cannot be written
and when /dev/shm is too small, and it hangs for ever when its saving process dies under a deep model.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence

from .container_worker import call_worker
from .conversion_engine import TREE
from .conversion_repair import WEIGHTS
from .errors import FleetError, InputError, UnparsedError, VerificationError
from .host import Container, Host
from .receipt import Receipt
from .shards import shard_name

SCRIPT = "convert_ckpt.py"
DIALECT = "convert_ckpt"  # the only command line that is known here
RUNNER = "run_upstream.py"
LOG = "upstream.log"  # removed once the result is verified
ITERATION = "iter_0000001"  # what the script writes, with the tracker 1
BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
STORED_BYTES = {"float32": 4, "float64": 8}
QUEUE = 50  # the script's own number of messages between its two processes
MIB = 1024.0**2
# The scripts from 2.2.0 on refuse sizes other than 1 without it; upstream's examples set it before all of them.
SCRIPT_ENVIRONMENT = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}
# The last line of a Python trace, or what the saver logs before it leaves.
_CAUSE = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception)\b: |ERROR:")


@dataclass(frozen=True)
class Traffic:
    """What passes from the script's loader to its saver through /dev/shm: bytes of an embedding, and of a layer."""

    embedding: int
    layer: int

    def queue_size(self, free: int) -> int:
        """Return how many messages may wait so that they fit into `free` bytes; an embedding at each end fits besides.

        FleetError where not even the shortest queue fits.
        """
        least = 2 * self.embedding + 3 * self.layer
        if free < least:
            raise FleetError(
                f"/dev/shm in the container has {free / MIB:.1f} MiB free; upstream's converter needs {least / MIB:.1f} MiB for "
                "this model and would end with status 0 and no files.",
                "Give the container a larger training_container_shm_size, or ipc host.",
            )
        return max(1, min(QUEUE, (free - 2 * self.embedding) // self.layer - 2))


def traffic(config: Mapping[str, Any], weights: Receipt, dtype: str) -> Traffic:
    """Estimate the messages from the model's sizes and the bytes of its shards."""
    stored = sum(entry.size for path, entry in weights.outputs.files.items() if path.endswith(".safetensors"))
    values = stored // STORED_BYTES.get(str(config.get("torch_dtype") or config.get("dtype")), 2)
    embedding = int(config["vocab_size"]) * int(config["hidden_size"])
    layers = max(1, int(config["num_hidden_layers"]))
    tables = embedding if config.get("tie_word_embeddings") else 2 * embedding
    return Traffic(embedding * BYTES[dtype], max(1, (values - tables) // layers) * BYTES[dtype])


def shared_memory(container: Container) -> int:
    """Return the bytes free in the container's /dev/shm."""
    argv = ["df", "--block-size=1", "--output=avail", "/dev/shm"]
    done = container.run(argv)
    found = re.search(r"^\s*(\d+)\s*$", done.stdout, re.MULTILINE)
    if found is None:
        raise UnparsedError(f"df answered {done.stdout[-200:]!r} for /dev/shm.", "Look at /dev/shm in the container.")
    return int(found.group(1))


def dialect_objection(dialect: str) -> str:
    """Return why the converter of a release cannot be called, or nothing."""
    return "" if dialect == DIALECT else f"its converter's command line is {dialect}, and only {DIALECT} is known here"


def script_arguments(params: Mapping[str, Any], config: Mapping[str, Any], weights: str, out: str) -> List[str]:
    """Return everything after `python convert_ckpt.py`. All of it comes from the plan and the model's own config.json."""
    if not params["model_type_hf"]:
        raise InputError(
            f"The release does not say what its converter calls a {config.get('model_type')} model.",
            "Add it to converter.model_type_hf of the release.",
        )
    line = ["--use-mcore-models", "--model-type", "GPT", "--model-type-hf", params["model_type_hf"]]
    line += ["--load-model-type", "hf", "--save-model-type", "mg", "--params-dtype", params["dtype"]]
    line += ["--target-tensor-parallel-size", str(params["tp"]), "--target-pipeline-parallel-size", str(params["pp"])]
    line += ["--make-vocab-size-divisible-by", str(params["vocab_divisible_by"])]
    if has_qkv_bias(config):
        line += ["--add-qkv-bias"]  # without it the biases are dropped in silence
    stages = params["layers_per_stage"]
    if len(set(stages)) > 1:
        line += ["--num-layer-list", ",".join(str(layers) for layers in stages)]
    return [*line, "--load-dir", weights, "--save-dir", out, "--tokenizer-model", tokenizer_file(weights)]


def has_qkv_bias(config: Mapping[str, Any]) -> bool:
    """Say whether the model has biases on query, key and value: Qwen2 always does, others say so."""
    return config.get("model_type") == "qwen2" or bool(config.get("attention_bias") or config.get("qkv_bias"))


def tokenizer_file(directory: str) -> str:
    """Return the argument that the script insists on and does not read."""
    return os.path.join(directory, "tokenizer.json")


def run_script(
    container: Container,
    params: Mapping[str, Any],
    script: str,
    arguments: Sequence[str],
    watch: str,
    env: Dict[str, str],
    expect: int = 0,
) -> Dict[str, Any]:
    """Run one of the tree's scripts under the watchdog. `watch` is where it writes, `expect` bytes or 0 for unknown."""
    line = ["--cwd", os.path.join(params["work_root"], "source", TREE), "--stall", str(params["stall_seconds"])]
    line += ["--log", os.path.join(watch, LOG), "--watch", watch, "--expect-bytes", str(expect)]
    told = {**SCRIPT_ENVIRONMENT, **env}
    return call_worker(container, params["work_root"], RUNNER, [*line, "--script", script, "--", *arguments], env=told)


def convert_upstream(
    host: Host,
    container: Container,
    params: Mapping[str, Any],
    config: Mapping[str, Any],
    weights: Receipt,
    source: str,
    out: str,
    env: Dict[str, str],
) -> Dict[str, Any]:
    """Convert with upstream's script and verify its result; return what the run left to say."""
    queue = traffic(config, weights, params["dtype"]).queue_size(shared_memory(container))
    arguments = [*script_arguments(params, config, source, out), "--max-queue-size", str(queue)]
    ran = run_script(container, params, SCRIPT, arguments, out, env, weights.outputs.total_bytes)
    require_shards(host, out, params["tp"], params["pp"])
    line = verify_arguments(params, source, out)
    compared = call_worker(container, params["work_root"], "convert_checkpoint.py", line, env=env)
    release(host, out)
    host.remove(os.path.join(out, LOG))
    return {"script": SCRIPT, "arguments": arguments, "run": ran, "verified": compared}


def require_shards(host: Host, out: str, tp: int, pp: int) -> None:
    """Raise VerificationError with the cause from the script's log where it left out files; its status was 0."""
    wanted = [f"{ITERATION}/{shard_name(rank, stage, pp)}/{WEIGHTS}" for stage in range(pp) for rank in range(tp)]
    missing = [path for path in wanted if not host.is_file(os.path.join(out, path))]
    if missing:
        reasons = causes(host.read_text(os.path.join(out, LOG)) or "")
        raise VerificationError(
            f"{SCRIPT} ended with status 0 and left {len(wanted) - len(missing)} of {len(wanted)} shards. "
            f"Its log says: {'; '.join(reasons) or 'nothing of an error'}",
            "Correct what it names; nothing was put in place. The native engine says such things before it begins.",
        )


def causes(log: str) -> List[str]:
    """Return the lines of a log that name an error, each once, without the traces before them."""
    return list(dict.fromkeys(line.strip() for line in log.splitlines() if _CAUSE.match(line)))


def verify_arguments(params: Mapping[str, Any], weights: str, out: str) -> List[str]:
    """Return the command line that compares a checkpoint with its source, tensor by tensor."""
    line = ["verify", "--hf", weights, "--mcore", out, "--tp", str(params["tp"]), "--pp", str(params["pp"])]
    line += ["--dtype", params["dtype"], "--vocab-divisible-by", str(params["vocab_divisible_by"])]
    if params["layers_per_stage"]:
        line += ["--layers-per-stage", ",".join(str(layers) for layers in params["layers_per_stage"])]
    return line


def release(host: Host, out: str) -> None:
    """Make training start at iteration 0: with the script's own tracker the first global batch is skipped."""
    host.rename(os.path.join(out, ITERATION), os.path.join(out, "release"))
    host.write_text(os.path.join(out, "latest_checkpointed_iteration.txt"), "release")
