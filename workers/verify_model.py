# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a model, its configuration and its tokenizer through transformers, and show that it works.

    python verify_model.py --model DIR [--device auto|cpu|npu|meta] [--json]

Prints the architecture and its parameter count and computes the logits of a few tokens, which must be finite. With
``--device meta`` only structure is checked: every weight of the architecture against the shards' headers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from _common import WorkerError, run, warn
from _model import available_memory, choose_device, load_config, load_model
from _safetensors import Shards
from _tokenizer import Tokenizer

TEXT = "Ascend servers train language models. 昇腾服务器训练语言模型。"


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
    place, warnings = device.name, list(device.warnings)
    if options.device == "auto" and place == "cpu" and not _fits(options.model):
        place = "meta"
        warnings.append("the model does not fit into this host's memory: only its structure is checked")
    for warning in warnings:
        warn(warning)
    if place == "meta":
        model, logits = _on_meta(options, config), None
    else:
        model = load_model(options.model, config, "auto", place, options.trust_remote_code, options.allow_pickle)
        logits = _logits(model, ids, place)
    return {
        "model": str(options.model),
        "architecture": type(model).__name__,
        "structure": str(model).splitlines(),
        "model_type": config.model_type,
        "parameters": _parameters(model),
        "dtype": str(next(model.parameters()).dtype).replace("torch.", ""),
        "device": place,
        "npus": device.npus,
        "tokenizer": {"size": tokenizer.size, "eod": tokenizer.eod, "pad": tokenizer.pad, "tokens": len(ids)},
        "logits": logits,
        "warnings": warnings,
    }


def _fits(directory: Path) -> bool:
    size = sum(path.stat().st_size for path in directory.iterdir() if path.suffix in (".safetensors", ".bin"))
    free = available_memory()
    return free is None or size * 1.2 < free


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


def _show(result: Dict[str, Any]) -> str:
    facts = [f"{key}: {value}" for key, value in result.items() if key != "structure"]
    return "\n".join([*result["structure"], *facts])


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    return run(lambda: verify(options), options.json, _show)


if __name__ == "__main__":
    sys.exit(main())
