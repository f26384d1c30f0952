# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a Megatron-core checkpoint of an unknown layout with its source: every value once, wherever it stands.

For a model whose layout is not known here no tensor can be derived. What can be said without it: all values of the source are in the
checkpoint, each as often as it should be, and no others. A lost bias, a missing layer, a cast through another type and a changed
value all show; a permutation within the model does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from _common import WorkerError
from _layout import EMBEDDING, LM_HEAD, MCORE_EMBEDDING, MCORE_OUTPUT
from _mcore import load_rank, rank_files, tensors_of, whole_grid
from _model_config import config_dtype
from _safetensors import Shards
from _values import same_bits

AGAIN = "Do not train on it: look at the converter's log, and convert again."
VOCABULARY = (MCORE_EMBEDDING, MCORE_OUTPUT)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PIECE = 1 << 20


@dataclass(frozen=True)
class Sum:
    """How many values, and the sum of their bits as whole numbers modulo 2**64, in any order."""

    count: int = 0
    bits: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, (self.bits + other.bits) % 2**64)


def sum_of(tensor: torch.Tensor) -> Sum:
    flat = tensor.contiguous().view(-1).view(INTEGERS[tensor.element_size()])
    # A product of each value with itself: two errors that cancel out in a plain sum do not cancel in this one.
    total = sum(int((piece.long() * (piece.long() * 3 + 1)).sum()) for piece in flat.split(PIECE))
    return Sum(flat.numel(), total % 2**64)


def compare_values(
    hf: Path, config: Dict[str, Any], iteration: Path, tp: int, pp: int, dtype: torch.dtype
) -> Dict[str, Any]:
    """Raise WorkerError where the checkpoint does not hold exactly the values of the model."""
    files = rank_files(iteration)
    found_tp, found_pp = whole_grid(files)
    if (found_tp, found_pp) != (tp, pp):
        raise WorkerError(f"{iteration} is TP {found_tp} x PP {found_pp}, not TP {tp} x PP {pp}", AGAIN)
    wanted = _source(Shards(hf), config, dtype)
    found = Sum()
    for stage in range(pp):
        found += _stage([files[(rank, stage)] for rank in range(tp)], config, dtype)
    if found != wanted:
        what = f"{found.count} values instead of {wanted.count}" if found.count != wanted.count else "other values"
        raise WorkerError(f"{iteration} holds {what} than the model in {hf}", AGAIN)
    return {"ranks": len(files), "values": found.count, "equal": True, "layout_known": False}


def _source(shards: Shards, config: Dict[str, Any], dtype: torch.dtype) -> Sum:
    through, total = config_dtype(config), Sum()
    tied = bool(config.get("tie_word_embeddings")) or LM_HEAD not in shards.place
    for name in shards.place:
        if name.endswith("rotary_emb.inv_freq") or (tied and name == LM_HEAD and EMBEDDING in shards.place):
            continue
        tensor = shards.tensor(name)
        total += sum_of((tensor if through is None else tensor.to(through)).to(dtype))
        shards.release([name])
    return total


def _stage(paths: List[Path], config: Dict[str, Any], dtype: torch.dtype) -> Sum:
    ranks = [tensors_of(load_rank(path)) for path in paths]
    names = set(ranks[0])
    for path, rank in zip(paths, ranks):
        if set(rank) != names:
            raise WorkerError(f"{path} does not hold the same tensors as {paths[0]}", AGAIN)
    total = Sum()
    for name in sorted(names):
        parts = [rank[name] for rank in ranks]
        wrong = [part.dtype for part in parts if part.dtype != dtype]
        if wrong:
            raise WorkerError(f"{paths[0]}: {name} is {wrong[0]} instead of {dtype}", AGAIN)
        for part in _distinct(name, parts, config):
            total += sum_of(part)
    return total


def _distinct(name: str, parts: List[torch.Tensor], config: Dict[str, Any]) -> Tuple[torch.Tensor, ...]:
    """The parts that hold values of their own: copies on all ranks count once, padding of the vocabulary not at all."""
    if name in VOCABULARY:
        if name == MCORE_OUTPUT and config.get("tie_word_embeddings"):
            return ()
        rows = int(config["vocab_size"])
        starts = [sum(part.shape[0] for part in parts[:number]) for number in range(len(parts))]
        return tuple(part[: max(0, rows - start)] for start, part in zip(starts, parts))
    if all(same_bits(part, parts[0]) for part in parts[1:]):
        return (parts[0],)
    return tuple(parts)
