# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each row of a Hugging Face tensor lies in a Megatron-core checkpoint: pure index arithmetic, no data.

A rank's tensor is described by pieces. A piece says which rectangle of which Hugging Face tensor stands at which row
of the Megatron tensor; every piece spans all columns of its target. Read forwards the pieces convert Hugging Face to
Megatron, read backwards they convert back, so the two directions cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from _common import WorkerError

Shape = Tuple[int, ...]

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
LM_HEAD = "lm_head.weight"
MCORE_EMBEDDING = "embedding.word_embeddings.weight"
MCORE_OUTPUT = "output_layer.weight"
OUTPUT_STATE = "output_layer._extra_state"


@dataclass(frozen=True)
class ModelSpec:
    """The figures of a dense Llama-like model that decide its checkpoint layout."""

    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    tied: bool
    qkv_bias: bool

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def kv_rows(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Split:
    """How a model is cut: ``layers_per_stage`` has one entry a pipeline stage, ``padded_vocab`` counts rows."""

    tp: int
    layers_per_stage: Tuple[int, ...]
    padded_vocab: int

    @property
    def pp(self) -> int:
        return len(self.layers_per_stage)

    def ranks(self) -> List[Tuple[int, int]]:
        """All (tp, pp) ranks, in the order in which they are written."""
        return [(tp_rank, pp_rank) for pp_rank in range(self.pp) for tp_rank in range(self.tp)]

    def rank_directory(self, tp_rank: int, pp_rank: int) -> str:
        return f"mp_rank_{tp_rank:02d}_{pp_rank:03d}" if self.pp > 1 else f"mp_rank_{tp_rank:02d}"


@dataclass(frozen=True)
class Piece:
    """``rows`` (and ``columns``) of the Hugging Face tensor ``source`` stand at row ``at`` of the target.

    ``padding`` above 0 makes it no data of the model: one row, written that many times to fill up the vocabulary.
    """

    source: str
    rows: Tuple[int, int]
    at: int
    columns: Optional[Tuple[int, int]] = None
    padding: int = 0

    @property
    def length(self) -> int:
        """Rows of the target that this piece fills."""
        return self.padding or self.rows[1] - self.rows[0]


@dataclass(frozen=True)
class Target:
    """One tensor of a rank's checkpoint. ``extra_state`` marks a parallel linear, which also carries an empty entry."""

    key: str
    shape: Shape
    pieces: Tuple[Piece, ...]
    extra_state: Optional[str] = None


def plan_split(
    spec: ModelSpec, tp: int, pp: int, layers_per_stage: Optional[Sequence[int]], divisible_by: int
) -> Split:
    """Return the split, or say which figure of the model does not divide. Nothing is rounded except the vocabulary."""
    if tp < 1 or pp < 1 or divisible_by < 1:
        raise WorkerError(
            f"TP {tp}, PP {pp}, vocabulary multiple {divisible_by}: all must be 1 or more", "Give positive sizes."
        )
    for name, size in (
        ("attention heads", spec.heads),
        ("key/value heads", spec.kv_heads),
        ("intermediate size", spec.ffn),
    ):
        if size % tp:
            raise WorkerError(f"{size} {name} cannot be divided by TP {tp}", f"Choose a TP that divides {size}.")
    multiple = divisible_by * tp
    padded = -(-spec.vocab // multiple) * multiple
    return Split(tp, _stages(spec.layers, pp, layers_per_stage), padded)


def _stages(layers: int, pp: int, layers_per_stage: Optional[Sequence[int]]) -> Tuple[int, ...]:
    if layers_per_stage is None:
        if layers % pp:
            raise WorkerError(
                f"{layers} layers cannot be divided by PP {pp}",
                f"Choose a PP that divides {layers}, or give --layers-per-stage.",
            )
        return (layers // pp,) * pp
    stages = tuple(layers_per_stage)
    if len(stages) != pp or sum(stages) != layers or min(stages) < 1:
        raise WorkerError(
            f"layers per stage {','.join(map(str, stages))} do not give {pp} stages and {layers} layers in all",
            f"Give {pp} positive numbers that add up to {layers}.",
        )
    return stages


def hf_shapes(spec: ModelSpec) -> Dict[str, Shape]:
    """The tensors a Hugging Face model of this kind must hold, with their shapes."""
    shapes: Dict[str, Shape] = {EMBEDDING: (spec.vocab, spec.hidden), FINAL_NORM: (spec.hidden,)}
    for layer in range(spec.layers):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = (spec.hidden,)
        shapes[prefix + "post_attention_layernorm.weight"] = (spec.hidden,)
        for name, rows in (("q", spec.hidden), ("k", spec.kv_rows), ("v", spec.kv_rows)):
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = (rows, spec.hidden)
            if spec.qkv_bias:
                shapes[f"{prefix}self_attn.{name}_proj.bias"] = (rows,)
        shapes[prefix + "self_attn.o_proj.weight"] = (spec.hidden, spec.hidden)
        shapes[prefix + "mlp.gate_proj.weight"] = (spec.ffn, spec.hidden)
        shapes[prefix + "mlp.up_proj.weight"] = (spec.ffn, spec.hidden)
        shapes[prefix + "mlp.down_proj.weight"] = (spec.hidden, spec.ffn)
    if not spec.tied:
        shapes[LM_HEAD] = (spec.vocab, spec.hidden)
    return shapes


def rank_targets(spec: ModelSpec, split: Split, tp_rank: int, pp_rank: int) -> List[Target]:
    """All tensors of one rank, in the order of Megatron's own state dict."""
    targets: List[Target] = []
    if pp_rank == 0:
        targets.append(_vocabulary(spec, split, tp_rank, MCORE_EMBEDDING, EMBEDDING, None))
    first = sum(split.layers_per_stage[:pp_rank])
    for local in range(split.layers_per_stage[pp_rank]):
        targets += _layer(spec, split.tp, tp_rank, f"model.layers.{first + local}.", f"decoder.layers.{local}.")
    if pp_rank == split.pp - 1:
        targets.append(_replicated("decoder.final_layernorm.weight", FINAL_NORM, spec.hidden))
        # With one stage and tied embeddings Megatron reads the embedding itself and stores no output weight.
        if not spec.tied or split.pp > 1:
            source = EMBEDDING if spec.tied else LM_HEAD
            targets.append(_vocabulary(spec, split, tp_rank, MCORE_OUTPUT, source, OUTPUT_STATE))
    return targets


def lone_extra_state(spec: ModelSpec, split: Split) -> Optional[str]:
    """The key of the output layer's empty entry where that layer has no weight of its own (tied, one stage)."""
    return OUTPUT_STATE if spec.tied and split.pp == 1 else None


def _layer(spec: ModelSpec, tp: int, rank: int, source: str, key: str) -> List[Target]:
    ffn = spec.ffn // tp
    half = (rank * ffn, (rank + 1) * ffn)
    attention = source + "self_attn."
    fc1 = (Piece(source + "mlp.gate_proj.weight", half, 0), Piece(source + "mlp.up_proj.weight", half, ffn))
    qkv_state = key + "self_attention.linear_qkv._extra_state"
    targets = [
        _replicated(key + "input_layernorm.weight", source + "input_layernorm.weight", spec.hidden),
        _columns(key + "self_attention.linear_proj", attention + "o_proj.weight", spec.hidden, spec.hidden // tp, rank),
        _qkv(spec, tp, rank, key, attention, "weight", None if spec.qkv_bias else qkv_state),
    ]
    if spec.qkv_bias:
        targets.append(_qkv(spec, tp, rank, key, attention, "bias", qkv_state))
    targets += [
        _replicated(key + "pre_mlp_layernorm.weight", source + "post_attention_layernorm.weight", spec.hidden),
        Target(key + "mlp.linear_fc1.weight", (2 * ffn, spec.hidden), fc1, key + "mlp.linear_fc1._extra_state"),
        _columns(key + "mlp.linear_fc2", source + "mlp.down_proj.weight", spec.hidden, ffn, rank),
    ]
    return targets


def _replicated(key: str, source: str, size: int) -> Target:
    return Target(key, (size,), (Piece(source, (0, size), 0),))


def _columns(module: str, source: str, rows: int, width: int, rank: int) -> Target:
    piece = Piece(source, (0, rows), 0, (rank * width, (rank + 1) * width))
    return Target(module + ".weight", (rows, width), (piece,), module + "._extra_state")


def _qkv(spec: ModelSpec, tp: int, rank: int, key: str, attention: str, kind: str, state: Optional[str]) -> Target:
    """Query rows of a group, then its key, then its value; a rank holds a run of whole groups."""
    groups = spec.kv_heads // tp
    queries = spec.head_dim * spec.heads // spec.kv_heads
    pieces: List[Piece] = []
    at = 0
    for group in range(rank * groups, (rank + 1) * groups):
        for name, rows in (("q", queries), ("k", spec.head_dim), ("v", spec.head_dim)):
            pieces.append(Piece(f"{attention}{name}_proj.{kind}", (group * rows, (group + 1) * rows), at))
            at += rows
    shape: Shape = (at, spec.hidden) if kind == "weight" else (at,)
    return Target(f"{key}self_attention.linear_qkv.{kind}", shape, tuple(pieces), state)


def _vocabulary(spec: ModelSpec, split: Split, rank: int, key: str, source: str, state: Optional[str]) -> Target:
    """A run of vocabulary rows; rows beyond the vocabulary repeat the last one, as upstream pads."""
    size = split.padded_vocab // split.tp
    start, stop = rank * size, (rank + 1) * size
    real = max(0, min(stop, spec.vocab) - start)
    pieces: List[Piece] = []
    if real:
        pieces.append(Piece(source, (start, start + real), 0))
    if size > real:
        pieces.append(Piece(source, (spec.vocab - 1, spec.vocab), real, None, size - real))
    return Target(key, (size, spec.hidden), tuple(pieces), state)
