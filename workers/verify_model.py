# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a model, its configuration and its tokenizer through transformers, and show that it works.

    python verify_model.py --model DIR [--device auto|cpu|npu|meta] [--json]

Prints the architecture and its parameter count and computes the logits of a few tokens, which must be finite. With
``--device meta`` only structure is checked: every weight of the architecture against the shards' headers. So it is with
``auto`` where neither the NPU nor main memory has room for the model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from _common import WorkerError, run, warn
from _memory import Done, first_with_room, model_need
from _model import choose_device, load_config, load_model
from _safetensors import Shards
from _tokenizer import Tokenizer

TEXT = "Ascend servers train language models. 昇腾服务器训练语言模型。"
REMEDY = (
    "Free that memory, or set model_weights_device (of an export model_export_device) to auto, which takes what has room, "
    "or to meta, which only compares structure."
)


def verify(options: argparse.Namespace) -> Dict[str, Any]:
    """Return what was loaded; whatever does not load or is not finite is an error."""
    config = load_config(options.model, options.trust_remote_code)
    tokenizer = Tokenizer(options.model, options.trust_remote_code)
    ids = tokenizer.encode([TEXT])[0]
    if not ids or max(ids) >= config.vocab_size:
        raise WorkerError(
            f"the tokenizer gives {len(ids)} tokens up to id {max(ids, default=-1)}, the model has {config.vocab_size}",
            "Take tokenizer and weights from one model.",
        )
    device = choose_device(options.device)
    if device.name == "meta":
        done: Done[Tuple[Any, Dict[str, Any]]] = Done(None, None, [])
    else:
        need = model_need(options.model, config, None, len(ids))
        done = first_with_room(options.device, device, need, lambda place: _load(options, config, ids, place), REMEDY)
    warnings = [*device.warnings, *done.remarks]
    if done.result is None and done.remarks:
        warnings.append("the model does not fit into this host's memory: only its structure is checked")
    for warning in warnings:
        warn(warning)
    model, logits = done.result or (_on_meta(options, config), None)
    return {
        "model": str(options.model),
        "architecture": type(model).__name__,
        "structure": str(model).splitlines(),
        "model_type": config.model_type,
        "parameters": _parameters(model),
        "dtype": str(next(model.parameters()).dtype).replace("torch.", ""),
        "device": done.place or "meta",
        "npus": device.npus,
        "tokenizer": {"size": tokenizer.size, "eod": tokenizer.eod, "pad": tokenizer.pad, "tokens": len(ids)},
        "logits": logits,
        "warnings": warnings,
    }


def _load(options: argparse.Namespace, config: Any, ids: List[int], place: str) -> Tuple[Any, Dict[str, Any]]:
    model = load_model(options.model, config, "auto", place, options.trust_remote_code, options.allow_pickle)
    return model, _logits(model, ids, place)


def _parameters(model: Any) -> int:
    """Tied weights count once."""
    return sum({id(one): one.numel() for one in model.parameters()}.values())


def _logits(model: Any, ids: List[int], device: str) -> Dict[str, Any]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits.float().cpu()
    wrong = int((~torch.isfinite(logits)).sum())
    if wrong:
        raise WorkerError(
            f"{wrong} of {logits.numel()} logits are NaN or Inf",
            "Compare the checksums of the weights with their origin.",
        )
    return {
        "tokens": len(ids),
        "finite": True,
        "lowest": float(logits.min()),
        "highest": float(logits.max()),
        "next_token": int(logits[0, -1].argmax()),
    }


def _on_meta(options: argparse.Namespace, config: Any) -> Any:
    """Build the architecture without memory and compare each weight's shape with the shards."""
    from transformers import AutoModelForCausalLM  # type: ignore[import-untyped]

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, torch_dtype=config.torch_dtype or torch.float32, trust_remote_code=options.trust_remote_code
        )
    shards = Shards(options.model)
    tied = set(getattr(model, "_tied_weights_keys", None) or []) if config.tie_word_embeddings else set()
    for name, weight in model.state_dict().items():
        if name not in shards.place:
            if name in tied:
                continue
            raise WorkerError(f"weight {name} is in no shard of {options.model}", "Copy the complete model directory.")
        if shards.entry(name).shape != tuple(weight.shape):
            raise WorkerError(
                f"weight {name} has shape {list(shards.entry(name).shape)}, the architecture {list(weight.shape)}",
                "Take config.json and the shards from one revision of the model.",
            )
    return model


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--model", type=Path, required=True, metavar="DIR")
    top.add_argument("--device", choices=["auto", "cpu", "npu", "meta"], default="auto")
    top.add_argument("--trust-remote-code", action="store_true", help="run code that the model directory brings")
    top.add_argument("--allow-pickle", action="store_true", help="load pickled weights, which can run code")
    top.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    return top


def show(result: Dict[str, Any]) -> str:
    """The result for people."""
    facts = [f"{key}: {value}" for key, value in result.items() if key != "structure"]
    return "\n".join([*result["structure"], *facts])


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    return run(lambda: verify(options), options.json, show)


if __name__ == "__main__":
    sys.exit(main())
