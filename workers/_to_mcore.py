# SPDX-License-Identifier: GPL-3.0-or-later
"""Hugging Face to Megatron-core, one rank file at a time."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections import OrderedDict
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from _check_model import check_tensors, unfinite, untied
from _common import (
    Progress,
    WorkerError,
    forked_pool,
    output_directory,
    require_directory,
    require_empty_output,
    require_space,
    sync_directory,
    warn,
    whole_file,
)
from _layout import (
    ModelSpec,
    Piece,
    Split,
    Target,
    hf_shapes,
    lone_extra_state,
    plan_split,
    rank_targets,
)
from _mcore import TRACKER, WEIGHTS, digest
from _model_config import SHORT_NAMES, TORCH_DTYPES, checkpoint_args, config_dtype, model_spec, own_dtype, read_config
from _safetensors import Shards
from _torch_file import Slot
from _torch_file import write as write_file

Rank = Tuple[int, int]


@dataclass
class Job:
    """One conversion: everything a worker process needs (inherited by fork)."""

    shards: Shards
    spec: ModelSpec
    split: Split
    dtype: torch.dtype
    through: Optional[torch.dtype]
    args: Namespace
    iteration: Path
    digests: bool
    progress: Progress


def convert(
    hf: Path,
    out: Path,
    tp: int,
    pp: int,
    layers_per_stage: Optional[Sequence[int]] = None,
    dtype: Optional[str] = None,
    ranks: Optional[Sequence[Rank]] = None,
    tracker: str = "release",
    divisible_by: int = 1,
    workers: int = 1,
    digests: bool = False,
) -> Dict[str, Any]:
    """Write the checkpoint below ``out`` and describe it. Everything is checked before the first byte is written."""
    require_directory(hf, "model")
    require_empty_output(out)
    torch.set_num_threads(1)  # copying is bound by memory: further threads only wait; forked processes must have none
    config = read_config(hf)
    spec = model_spec(config)
    split = plan_split(spec, tp, pp, layers_per_stage, divisible_by)
    chosen = _chosen(split, ranks)
    shards = Shards(hf)
    check_tensors(shards, spec)
    target = target_dtype(dtype, config, shards)
    size = sum(rank_bytes(spec, split, rank, target) for rank in chosen)
    require_space(out, size + 2**20 * len(chosen))
    through = config_dtype(config)
    warnings = shards.warnings + untied(shards, spec) + unfinite(shards, spec, split, chosen, (through, target))
    for warning in warnings:
        warn(warning)
    args = checkpoint_args(config, spec, split, target, divisible_by)
    iteration, text = ("release", "release") if tracker == "release" else ("iter_0000001", "1")
    job = Job(shards, spec, split, target, through, args, out / iteration, digests, Progress(size, "bytes"))
    with output_directory(out):
        job.iteration.mkdir()
        written = _write_all(job, chosen, workers)
        _write_tracker(out, text)
    return _describe(job, out, written, text, warnings)


def _chosen(split: Split, ranks: Optional[Sequence[Rank]]) -> List[Rank]:
    existing = split.ranks()
    if ranks is None:
        return existing
    for tp_rank, pp_rank in ranks:
        if (tp_rank, pp_rank) not in existing:
            raise WorkerError(
                f"rank {tp_rank}_{pp_rank} does not exist at TP {split.tp} x PP {split.pp}", "Name ranks as tp_pp."
            )
    return [rank for rank in existing if rank in set(ranks)]


def target_dtype(dtype: Optional[str], config: Dict[str, Any], shards: Shards) -> torch.dtype:
    """The asked type, else the model's own: silently writing float16, as upstream does, loses values."""
    if dtype is not None:
        return TORCH_DTYPES[dtype]
    return own_dtype(config) or shards.entry("model.norm.weight").dtype


def rank_bytes(spec: ModelSpec, split: Split, rank: Rank, dtype: torch.dtype) -> int:
    """Bytes of all tensors of one rank."""
    count = 0
    for target in rank_targets(spec, split, *rank):
        size = 1
        for length in target.shape:
            size *= length
        count += size
    return count * torch.empty((), dtype=dtype).element_size()


def assemble(
    shards: Shards,
    target: Target,
    dtype: torch.dtype,
    through: Optional[torch.dtype],
    into: Optional[torch.Tensor] = None,
) -> torch.Tensor:
    """Build one tensor of a rank, in the memory of ``into`` if given. Values pass through the model's own type first, as
    upstream's loader does."""
    result = torch.empty(target.shape, dtype=dtype) if into is None else into
    for piece in target.pieces:
        rows = _rectangle(shards.tensor(piece.source), piece)
        if through is not None and rows.dtype != through:
            rows = rows.to(through)
        result[piece.at : piece.at + piece.length].copy_(rows.expand(piece.length, *rows.shape[1:]))
    return result


def _rectangle(source: torch.Tensor, piece: Piece) -> torch.Tensor:
    rows = source[piece.rows[0] : piece.rows[1]]
    return rows if piece.columns is None else rows[:, piece.columns[0] : piece.columns[1]]


def layout_state(job: Job, rank: Rank) -> Tuple[Dict[str, Any], List[Target]]:
    """The contents of one rank file with slots for its tensors, and the tensors in the order of the slots."""
    model: Dict[str, Optional[Slot]] = OrderedDict()
    targets = rank_targets(job.spec, job.split, *rank)
    for target in targets:
        model[target.key] = Slot(target.shape, job.dtype)
        if target.extra_state is not None:
            model[target.extra_state] = None
    state = lone_extra_state(job.spec, job.split)
    if state is not None:
        model[state] = None
    whole = {
        "args": job.args,
        "checkpoint_version": 3.0,
        "iteration": 1,
        "model": model,
        "num_floating_point_operations_so_far": 0,
    }
    return whole, targets


def write_rank(job: Job, rank: Rank) -> Tuple[str, Dict[str, Any]]:
    """Write one rank file, tensor by tensor; returns its path below the output and what it holds."""
    state, targets = layout_state(job, rank)
    waiting = iter(targets)
    largest = max(Slot(target.shape, job.dtype).numel for target in targets)
    memory = torch.empty(
        largest, dtype=job.dtype
    )  # one for all: fresh memory for each tensor costs as much as the copying
    digests: Dict[str, str] = {}

    def fill(slot: Slot) -> torch.Tensor:
        target = next(waiting)
        tensor = assemble(job.shards, target, job.dtype, job.through, memory[: slot.numel].view(slot.shape))
        job.shards.release(piece.source for piece in target.pieces)
        if job.digests:
            digests[target.key] = digest(tensor)
        job.progress.advance(slot.bytes)
        return tensor

    directory = job.iteration / job.split.rank_directory(*rank)
    directory.mkdir()
    path = directory / WEIGHTS
    with whole_file(path) as temporary:
        write_file(temporary, state, fill)
    sync_directory(directory)
    described: Dict[str, Any] = {"bytes": path.stat().st_size, "tensors": len(targets), "tp": rank[0], "pp": rank[1]}
    if job.digests:
        described["sha256"] = digests
    return f"{job.iteration.name}/{directory.name}/{WEIGHTS}", described


_JOB: Optional[Job] = None


def _write_in_child(rank: Rank) -> Tuple[str, Dict[str, Any]]:
    if _JOB is None:
        raise WorkerError("a worker process was started without its job", "Run with --workers 1.")
    return write_rank(_JOB, rank)


def _write_all(job: Job, ranks: Sequence[Rank], workers: int) -> Dict[str, Dict[str, Any]]:
    if workers < 2 or len(ranks) < 2:
        return dict(write_rank(job, rank) for rank in ranks)
    global _JOB  # forked processes inherit the job instead of receiving a copy of every map
    _JOB = job
    with forked_pool(min(workers, len(ranks))) as pool:
        try:
            return dict(pool.map(_write_in_child, ranks))
        except BrokenProcessPool:
            raise WorkerError(
                "a worker process was ended from outside, most likely by the out-of-memory killer",
                "Run with fewer --workers: each needs the memory of one rank.",
            ) from None


def _write_tracker(out: Path, text: str) -> None:
    """Last of all: without it the directory is no checkpoint."""
    with whole_file(out / TRACKER) as temporary:
        temporary.write_text(text, encoding="ascii")
    sync_directory(out)


def _describe(
    job: Job, out: Path, written: Dict[str, Dict[str, Any]], tracker: str, warnings: List[str]
) -> Dict[str, Any]:
    parameters = sum(_count(shape) for shape in hf_shapes(job.spec).values())
    result: Dict[str, Any] = {
        "out": str(out),
        "files": {name: {key: value for key, value in one.items() if key != "sha256"} for name, one in written.items()},
        "tracker": tracker,
        "iteration": job.iteration.name,
        "family": job.spec.family,
        "parameters": parameters,
        "dtype": SHORT_NAMES[job.dtype],
        "tp": job.split.tp,
        "pp": job.split.pp,
        "layers_per_stage": list(job.split.layers_per_stage),
        "vocab_size": job.spec.vocab,
        "padded_vocab_size": job.split.padded_vocab,
        "rotary_base": job.args.rotary_base,
        "warnings": warnings,
    }
    if job.digests:
        result["tensors_digest"] = tensors_digest({name: one["sha256"] for name, one in written.items()})
    return result


def _count(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def tensors_digest(files: Dict[str, Dict[str, str]]) -> str:
    """One sha256 over the digests of all tensors; independent of file bytes, which hold times and pickles."""
    total = hashlib.sha256()
    for name in sorted(files):
        for key in sorted(files[name]):
            total.update(f"{Path(name).parent.name}\0{key}\0{files[name][key]}\n".encode())
    return total.hexdigest()
