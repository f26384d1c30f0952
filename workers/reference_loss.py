# SPDX-License-Identifier: GPL-3.0-or-later
"""The loss that the first iteration of a correct training run must log, from the Hugging Face model itself.

    python reference_loss.py --model DIR --data-prefix P --seq-length N --global-batch-size B --train-iters T \\
        --seed S --split 100,0,0 [--samples K] [--skip-batches N] [--json]

Derives which samples Megatron puts into the first global batch and computes the model's loss on exactly these in
float32. A run that logs something else did not start from these weights, or reads other data. With ``--device auto`` and
no room for the model anywhere the loss is null and the warnings say why.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import torch
from _common import Progress, WorkerError, run, warn
from _cross_entropy import Masking, SampleLoss, logged_loss, sample_loss
from _indexed import PairReader
from _memory import FLOAT32, device_with_need, first_with_room, model_need
from _model import load_config, load_model
from _samples import SampleOrder, Sampling
from _tokenizer import Tokenizer

FASTER = "pretraining_first_loss_samples takes fewer of them, for a coarse comparison"
UNCHECKED = (
    "the run's first loss is only told from that of random weights; for the comparison free that memory or name a host with more as "
    "conversion_host, and pretraining_check_first_loss: false goes without it"
)
REMEDY = (
    "Free that memory, or set pretraining_first_loss_device to auto, which takes what has room, or to another device "
    "(pretraining_first_loss_samples shortens the time, not the need); pretraining_check_first_loss: false goes without the comparison."
)


def reference_loss(options: argparse.Namespace) -> Dict[str, Any]:
    """Return loss, samples and tokens; see the program's options for the inputs."""
    _check(options)
    order = SampleOrder(
        PairReader(options.data_prefix),
        Sampling(options.seq_length, options.train_iters * options.global_batch_size, options.seed, options.split),
    )
    count = min(options.samples or options.global_batch_size, options.global_batch_size)
    batch = list(order.batch(options.skip_batches * options.global_batch_size, count))
    config = load_config(options.model, False)
    _check_vocabulary(options, batch, config.vocab_size)
    need = model_need(options.model, config, FLOAT32, options.seq_length)
    device = device_with_need(options.device, need)
    done = first_with_room(options.device, device, need, lambda place: _losses(options, batch, config, place), REMEDY)
    warnings = [*device.warnings, *done.remarks, *_consequence(done.place, bool(done.remarks), count)]
    for warning in warnings:
        warn(warning)
    losses = done.result or []
    loss = logged_loss(losses, options.micro_batch_size) if losses else None
    if loss is not None and not math.isfinite(loss):
        raise WorkerError(
            f"the reference loss is {loss}", "Check the weights for NaN or Inf, and the data for padding."
        )
    return {
        "loss": loss,
        "samples": len(losses),
        "tokens": sum(one.count for one in losses),
        "complete": loss is not None and count == options.global_batch_size,
        "skipped_batches": options.skip_batches,
        "epochs": order.epochs,
        "total_samples": order.total,
        "log_vocabulary": math.log(config.vocab_size),
        "device": done.place,
        "warnings": warnings,
    }


def _consequence(place: Optional[str], short: bool, count: int) -> List[str]:
    """What a lack of memory means for the run."""
    if not short:
        return []
    if place is None:
        return [f"the loss to expect is not computed: {UNCHECKED}"]
    return [f"the loss of {count} samples is computed on the {place.upper()}, which is slow: {FASTER}"]


def _check_vocabulary(options: argparse.Namespace, batch: List[np.ndarray], size: int) -> None:
    highest = max(int(tokens.max()) for tokens in batch)
    if highest >= size:
        raise WorkerError(
            f"{options.data_prefix} holds token {highest}, the model's vocabulary ends at {size - 1}",
            "Build the dataset with this model's tokenizer.",
        )


def _losses(options: argparse.Namespace, batch: List[np.ndarray], config: Any, device: str) -> List[SampleLoss]:
    masking = _masking(options)
    model = load_model(options.model, config, torch.float32, device)
    progress = Progress(len(batch), "samples")
    losses: List[SampleLoss] = []
    for tokens in batch:
        losses.append(sample_loss(model, tokens, masking, options.padded_vocab_size, device))
        progress.advance(1)
    return losses


def _check(options: argparse.Namespace) -> None:
    for name in ("seq_length", "global_batch_size", "train_iters", "micro_batch_size"):
        if getattr(options, name) < 1:
            raise WorkerError(f"--{name.replace('_', '-')} {getattr(options, name)} is not positive", "Give 1 or more.")
    if options.skip_batches < 0 or (options.samples or 1) < 1:
        raise WorkerError("--skip-batches and --samples must not be negative", "Give the run's own figures.")


def _masking(options: argparse.Namespace) -> Masking:
    tokenizer = Tokenizer(options.tokenizer or options.model)
    if options.documents_alone and tokenizer.eod is None:
        raise WorkerError(
            f"the tokenizer in {options.tokenizer or options.model} names no end of document",
            "Add eos_token to its tokenizer_config.json: the samples of a packed run are cut there.",
        )
    return Masking(
        tokenizer.pad,
        tokenizer.eod if options.eod_mask_loss else None,
        tokenizer.eod if options.documents_alone else None,
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    top.add_argument("--model", type=Path, required=True, metavar="DIR", help="Hugging Face model")
    top.add_argument("--tokenizer", type=Path, metavar="DIR", help="the trainer's tokenizer, default: the model's")
    top.add_argument("--data-prefix", type=Path, required=True, metavar="P", help="with the key: .../name_key_document")
    top.add_argument("--seq-length", type=int, required=True)
    top.add_argument("--global-batch-size", type=int, required=True)
    top.add_argument("--micro-batch-size", type=int, default=1, help="matters only where padding or masks are uneven")
    top.add_argument("--train-iters", type=int, required=True, help="of the run: decides how many epochs are shuffled")
    top.add_argument("--seed", type=int, default=1234)
    top.add_argument("--split", default="100,0,0", help="as given to the trainer")
    top.add_argument("--samples", type=int, metavar="K", help="only the first K of the batch: an estimate")
    top.add_argument("--skip-batches", type=int, default=0, metavar="N", help="take batch N + 1 instead of the first")
    top.add_argument("--padded-vocab-size", type=int, metavar="N", help="rows of the trained embedding, when padded")
    top.add_argument("--eod-mask-loss", action="store_true", help="as given to the trainer")
    top.add_argument("--documents-alone", action="store_true", help="no attention beyond the end of a document")
    top.add_argument("--device", choices=["auto", "cpu", "npu"], default="auto")
    top.add_argument("--json", action="store_true", help="the last line of output is one JSON object")
    return top


def _show(result: Dict[str, Any]) -> str:
    if result["loss"] is None:
        return "loss not computed"
    part = "" if result["complete"] else " (an estimate from a part of the batch)"
    return f"loss {result['loss']:.5f} over {result['samples']} samples, {result['tokens']} tokens{part}"


def main(arguments: Optional[List[str]] = None) -> int:
    options = parser().parse_args(arguments)
    return run(lambda: reference_loss(options), options.json, _show)


if __name__ == "__main__":
    sys.exit(main())
