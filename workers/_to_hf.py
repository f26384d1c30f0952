# SPDX-License-Identifier: GPL-3.0-or-later
"""Megatron-core back to Hugging Face: the reference model's shards, with the trained values in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Tuple

import torch
from _check_model import check_tensors
from _common import (
    Progress,
    WorkerError,
    output_directory,
    require_directory,
    require_empty_output,
    require_space,
    sync_directory,
    warn,
    whole_file,
)
from _layout import (
    EMBEDDING,
    LM_HEAD,
    MCORE_EMBEDDING,
    MCORE_OUTPUT,
    ModelSpec,
    Piece,
    Split,
    Target,
    hf_shapes,
    rank_targets,
)
from _mcore import find_iteration, load_rank, rank_files, tensors_of, whole_grid
from _model_config import model_spec, read_config
from _safetensors import Shards, write_header
from _values import is_finite, same_bits

Source = Tuple[Tuple[int, int], Target, Piece]
RECEIPT = "receipt.json"  # describes the reference, not what is written here
WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".gguf")


class Checkpoint:
    """The rank files of one checkpoint, mapped, and which of their rectangles make up each Hugging Face tensor."""

    def __init__(self, iteration: Path, spec: ModelSpec) -> None:
        files = rank_files(iteration)
        tp, pp = whole_grid(files)
        self.spec = spec
        states = {rank: load_rank(path) for rank, path in files.items()}
        self.args = states[(0, 0)].get("args")
        self.ranks = {rank: tensors_of(state) for rank, state in states.items()}
        self.split = Split(tp, self._stages(pp), self._vocabulary(tp))
        self.sources: Dict[str, List[Source]] = {}
        for rank in self.split.ranks():
            self._index(rank, iteration)

    def _stages(self, pp: int) -> Tuple[int, ...]:
        stages = []
        for stage in range(pp):
            numbers = {key.split(".")[2] for key in self.ranks[(0, stage)] if key.startswith("decoder.layers.")}
            stages.append(len(numbers))
        if sum(stages) != self.spec.layers:
            raise WorkerError(
                f"the checkpoint has {sum(stages)} layers ({stages}), the reference model {self.spec.layers}",
                "Give the model that the checkpoint was converted from.",
            )
        return tuple(stages)

    def _vocabulary(self, tp: int) -> int:
        embedding = self.ranks[(0, 0)].get(MCORE_EMBEDDING)
        if embedding is None:
            raise WorkerError(f"the first stage holds no {MCORE_EMBEDDING}", "Give a Megatron-core GPT checkpoint.")
        rows = int(embedding.shape[0]) * tp
        # Padding hides a vocabulary of another size: rows that are not there would be exported unfilled, others be dropped.
        recorded = getattr(self.args, "vocab_size", None)
        if rows < self.spec.vocab or (isinstance(recorded, int) and recorded != self.spec.vocab):
            size = f"{rows} rows" if rows < self.spec.vocab else f"vocab_size {recorded} (recorded in its args)"
            raise WorkerError(
                f"the checkpoint's embedding has {size}, the reference model vocab_size {self.spec.vocab}",
                "Give the model that the checkpoint was converted from.",
            )
        return rows

    def _index(self, rank: Tuple[int, int], iteration: Path) -> None:
        tensors = self.ranks[rank]
        targets = rank_targets(self.spec, self.split, *rank)
        for target in targets:
            name = f"{target.key} of rank {rank[0]}_{rank[1]} in {iteration}"
            if target.key not in tensors:
                raise WorkerError(f"tensor {name} is missing", "Give the model that the checkpoint was converted from.")
            shape = tuple(tensors[target.key].shape)
            if shape != target.shape:
                raise WorkerError(
                    f"tensor {name} has shape {list(shape)}, the reference model asks for {list(target.shape)}",
                    "Give the model that the checkpoint was converted from.",
                )
            for piece in target.pieces:
                if not piece.padding:
                    self.sources.setdefault(piece.source, []).append((rank, target, piece))
        unknown = set(tensors) - {target.key for target in targets}
        if unknown:
            raise WorkerError(
                f"tensor {min(unknown)} of rank {rank[0]}_{rank[1]} does not belong to a {self.spec.family} model",
                "Use the upstream engine for this checkpoint.",
            )

    def piece(self, source: Source) -> torch.Tensor:
        rank, target, piece = source
        return self.ranks[rank][target.key][piece.at : piece.at + piece.length]

    def tensor(self, name: str, shape: Tuple[int, ...]) -> torch.Tensor:
        """Put one Hugging Face tensor together. Where ranks hold copies of it, they must agree."""
        sources = self.sources[name]
        result = torch.empty(shape, dtype=self.piece(sources[0]).dtype)
        seen: Dict[Tuple[Any, ...], Source] = {}
        for source in sources:
            _, target, piece = source
            if name == EMBEDDING and target.key == MCORE_OUTPUT:
                continue
            region = result[piece.rows[0] : piece.rows[1]]
            region = region if piece.columns is None else region[:, piece.columns[0] : piece.columns[1]]
            if (piece.rows, piece.columns) in seen:
                self._compare(name, seen[(piece.rows, piece.columns)], source)
            else:
                region.copy_(self.piece(source))
                seen[(piece.rows, piece.columns)] = source
        return result

    def _compare(self, name: str, first: Source, second: Source) -> None:
        if not same_bits(self.piece(first), self.piece(second)):
            raise WorkerError(
                f"{name}: the copies on the ranks {first[0][0]}_{first[0][1]} and {second[0][0]}_{second[0][1]} differ",
                "Gather the shards of one iteration from all hosts.",
            )

    def output_differs(self) -> bool:
        """Whether the last stage's copy of a tied embedding differs from the embedding itself."""
        pairs: Dict[Tuple[int, int], Dict[str, Source]] = {}
        for source in self.sources[EMBEDDING]:
            pairs.setdefault(source[2].rows, {})[source[1].key] = source
        return any(
            MCORE_OUTPUT in pair and not same_bits(self.piece(pair[MCORE_EMBEDDING]), self.piece(pair[MCORE_OUTPUT]))
            for pair in pairs.values()
        )


def convert(mcore: Path, reference: Path, out: Path) -> Dict[str, Any]:
    """Write a copy of ``reference`` whose weights are those of the checkpoint ``mcore``; see ``Checkpoint`` for errors."""
    require_directory(mcore, "checkpoint")
    require_directory(reference, "reference model")
    require_empty_output(out)
    spec = model_spec(read_config(reference))
    shards = Shards(reference)
    check_tensors(shards, spec)
    iteration, tracker = find_iteration(mcore)
    checkpoint = Checkpoint(iteration, spec)
    require_space(out, sum(path.stat().st_size for path in reference.iterdir() if path.is_file()))
    warnings = list(shards.warnings)
    if spec.tied and checkpoint.output_differs():
        warnings.append("the output layer differs from the tied embedding: only the embedding is exported")
    for warning in warnings:
        warn(warning)
    with output_directory(out):
        files = _write_shards(checkpoint, shards, out, warnings)
        _copy_rest(reference, out)
        sync_directory(out)
    return {
        "out": str(out),
        "files": files,
        "iteration": iteration.name,
        "tracker": tracker,
        "tp": checkpoint.split.tp,
        "pp": checkpoint.split.pp,
        "parameters": sum(torch.Size(shape).numel() for shape in hf_shapes(spec).values()),
        "warnings": warnings,
    }


def _write_shards(checkpoint: Checkpoint, shards: Shards, out: Path, warnings: List[str]) -> Dict[str, Dict[str, int]]:
    """Write every shard and describe it; what is wrong with the values of a tensor is added to ``warnings``."""
    total = sum(entry.bytes for entries in shards.files.values() for entry in entries.values())
    progress = Progress(total, "bytes")
    files: Dict[str, Dict[str, int]] = {}
    for name, entries in shards.files.items():
        order = sorted(entries, key=lambda tensor: entries[tensor].start)
        with whole_file(out / name) as temporary, temporary.open("wb") as handle:
            handle.write(write_header({tensor: (entries[tensor].dtype, entries[tensor].shape) for tensor in order}))
            for tensor in order:
                if not _write_tensor(checkpoint, shards, tensor, handle):
                    warnings.append(f"tensor {tensor} in {name} holds NaN or Inf, or values too large for its type")
                    warn(warnings[-1])
                progress.advance(entries[tensor].bytes)
        files[name] = {"bytes": (out / name).stat().st_size, "tensors": len(order)}
    return files


def _write_tensor(checkpoint: Checkpoint, shards: Shards, name: str, handle: BinaryIO) -> bool:
    """Write one tensor's values; whether the trained ones are finite in the type they are written in."""
    entry = shards.entry(name)
    source = EMBEDDING if name == LM_HEAD and checkpoint.spec.tied else name
    # What the checkpoint does not know are rotary tables of old models: not trained, so copied.
    trained = source in checkpoint.sources
    value = checkpoint.tensor(source, entry.shape).to(entry.dtype) if trained else shards.tensor(name)
    handle.write(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return not trained or is_finite(value)


def _copy_rest(reference: Path, out: Path) -> None:
    """Configuration, tokenizer, index and license: everything that is no weight."""
    for path in sorted(reference.iterdir()):
        kept = not path.name.startswith(".") and path.name != RECEIPT and not path.name.endswith(WEIGHT_ENDINGS)
        if path.is_file() and kept:
            shutil.copyfile(str(path), str(out / path.name))
