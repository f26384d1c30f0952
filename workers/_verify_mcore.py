# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a Megatron-core checkpoint, whoever made it, with the Hugging Face model it was made from, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Set, Tuple

import torch
from _check_model import check_tensors
from _common import Progress, WorkerError, require_directory, warn
from _layout import ModelSpec, Split, lone_extra_state, plan_split, rank_targets
from _mcore import find_iteration, load_rank, rank_files, tensors_of, whole_grid
from _model_config import SHORT_NAMES, TORCH_DTYPES, config_dtype, is_native, model_spec, read_config
from _safetensors import Shards
from _to_mcore import assemble, rank_bytes, target_dtype
from _values import is_finite, same_bits
from _verify_values import compare_values

AGAIN = "Do not train on it: convert again, with the native engine."


def verify(
    hf: Path,
    mcore: Path,
    tp: int,
    pp: int,
    layers_per_stage: Optional[Sequence[int]] = None,
    dtype: Optional[str] = None,
    divisible_by: int = 1,
) -> Dict[str, Any]:
    """Derive every tensor of every rank from the source again and compare bits; the first that differs is an error.

    A model whose layout is not known here is compared value by value, see ``_verify_values``.
    """
    require_directory(hf, "model")
    require_directory(mcore, "checkpoint")
    torch.set_num_threads(1)
    config = read_config(hf)
    iteration, tracker = find_iteration(mcore)
    if not is_native(config):
        return {**compare_values(hf, config, iteration, tp, pp, TORCH_DTYPES[dtype or "bf16"]), "tracker": tracker}
    spec = model_spec(config)
    split = plan_split(spec, tp, pp, layers_per_stage, divisible_by)
    shards = Shards(hf)
    check_tensors(shards, spec)
    target = target_dtype(dtype, config, shards)
    files = rank_files(iteration)
    _require_ranks(iteration, split, set(files))
    whole_grid(files)  # all that was asked for may be a part of what the checkpoint is
    progress = Progress(sum(rank_bytes(spec, split, rank, target) for rank in split.ranks()), "bytes")
    through = config_dtype(config)
    tensors, unfinite = 0, set()
    for rank in split.ranks():
        count, names = _compare_rank(shards, spec, split, rank, files[rank], target, through, progress)
        tensors += count
        unfinite |= names
    warnings = [f"tensor {name} holds NaN or Inf in the checkpoint" for name in sorted(unfinite)]
    for warning in warnings:
        warn(warning)
    return {
        "ranks": len(files),
        "tensors": tensors,
        "tracker": tracker,
        "dtype": SHORT_NAMES[target],
        "equal": True,
        "warnings": warnings,
    }


def _require_ranks(iteration: Path, split: Split, found: Set[Tuple[int, int]]) -> None:
    wanted = set(split.ranks())
    if found != wanted:
        missing = ", ".join(f"{t}_{p}" for t, p in sorted(wanted - found)) or "none"
        surplus = ", ".join(f"{t}_{p}" for t, p in sorted(found - wanted)) or "none"
        raise WorkerError(f"{iteration}: ranks missing: {missing}; not asked for: {surplus}", AGAIN)


def _compare_rank(
    shards: Shards,
    spec: ModelSpec,
    split: Split,
    rank: Any,
    path: Path,
    dtype: torch.dtype,
    through: Optional[torch.dtype],
    progress: Progress,
) -> Tuple[int, Set[str]]:
    """How many tensors were compared, and the names of the source's that hold NaN or Inf there."""
    unfinite: Set[str] = set()
    found = tensors_of(load_rank(path))
    targets = rank_targets(spec, split, *rank)
    surplus = set(found) - {target.key for target in targets} - {lone_extra_state(spec, split)}
    if surplus:
        raise WorkerError(f"{path} holds {min(surplus)}, which the model does not have", AGAIN)
    for target in targets:
        name = f"{target.key} of rank {rank[0]}_{rank[1]}"
        if target.key not in found:
            raise WorkerError(f"{path}: {name} is missing", AGAIN)
        there = found[target.key]
        if tuple(there.shape) != target.shape or there.dtype != dtype:
            raise WorkerError(
                f"{path}: {name} is {there.dtype} {list(there.shape)} instead of {dtype} {list(target.shape)}", AGAIN
            )
        wanted = assemble(shards, target, dtype, through)
        shards.release(piece.source for piece in target.pieces)
        if not same_bits(there, wanted):
            raise WorkerError(f"{path}: {name} differs from the source", AGAIN)
        if not is_finite(wanted):
            unfinite |= {
                piece.source for piece in target.pieces if not is_finite(wanted[piece.at : piece.at + piece.length])
            }
        progress.advance(wanted.numel() * wanted.element_size())
    return len(targets), unfinite
