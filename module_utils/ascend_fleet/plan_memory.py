# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory of its NPU a rank needs, in bytes: what stays, what a step adds, and what the runtime holds.

Every term is counted from the model's sizes or was measured on its own (docs/memory.md says where); none is fitted to a total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence

from .plan_findings import as_int
from .plan_placement import Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape

MIB = 1 << 20
RUNTIME = 3 << 30  # an idle NPU with a process on it: 64 GB cards leave 61.0-61.3 GiB to torch
BUFFER_MB = 200  # HCCL_BUFFSIZE where nobody sets it; a communicator has one for each direction
FRAGMENTATION = 0.1  # of the activations: torch reserves at least this much more than it has handed out
LOGIT_BYTES = 10  # a logit in bf16, in fp32, and its exponential in fp32, all alive at the loss
UPDATE_BYTES = 4  # Adam's update of the largest parameter, in fp32
SOFTMAX_BYTES = 64  # flash attention keeps maximum and sum of a row and head, each eight times in fp32


@dataclass(frozen=True)
class RankMemory:
    """What the ranks of one pipeline stage need; all in bytes. They differ from stage to stage and not within one."""

    parameters: int  # a count, not bytes
    static: int  # parameters, gradients and optimizer state
    activation: int  # the most that a step adds
    communication: int
    runtime: int = RUNTIME

    @property
    def total(self) -> int:
        """Everything that has to fit on the NPU at once."""
        return self.static + self.activation + self.communication + self.runtime


def layers_of(shape: ModelShape, recipe: Recipe, pp: int) -> List[int]:
    """Return the number of layers of each stage."""
    return list(recipe.layers_per_stage or [shape.layers // pp] * pp)


def stage_parameters(shape: ModelShape, layers: Sequence[int], tp: int, padded_vocab: int) -> List[int]:
    """Return the number of parameters that a rank of each stage holds, embedding and head where they are."""
    hidden, groups = shape.hidden, shape.kv_groups * shape.head_dim
    sharded = 2 * hidden * (hidden + groups) + 3 * hidden * shape.ffn + (hidden + 2 * groups) * shape.qkv_bias
    layer = sharded // tp + 2 * hidden  # the two norms are on every rank
    table = padded_vocab * hidden // tp
    counts = [count * layer for count in layers]
    counts[0] += table
    counts[-1] += hidden  # the last norm
    if len(layers) > 1 or not shape.tied:  # tied weights on two stages are there twice
        counts[-1] += table
    return counts


def bytes_per_parameter(recipe: Recipe, replicas: int) -> float:
    """Return the bytes of a parameter with gradient and Adam's state; `replicas` is DP x CP.

    Megatron adds gradients up in fp32 for bf16 and not for fp16, whose optimizer keeps fp32 copies of the gradients instead.
    """
    kept, optimizer = {"bf16": (6, 12), "fp16": (4, 16), "fp32": (8, 8)}[recipe.dtype]
    if recipe.switched_on("reuse-fp32-param"):
        optimizer -= 2  # the bf16 parameter is the upper half of its fp32 copy
    return kept + optimizer / (replicas if recipe.switched_on("use-distributed-optimizer") else 1)


@dataclass(frozen=True)
class _Layer:
    """Bytes that one layer keeps of one micro batch until its backward pass."""

    attention: float  # everything of the attention but the layer's input
    mlp: float
    swiglu: float  # the part of `mlp` that recompute-activation-function gives up
    entry: float  # the layer's input: all that full recomputation keeps

    @property
    def whole(self) -> float:
        return self.entry + self.attention + self.mlp


def _layer(shape: ModelShape, recipe: Recipe, sizes: Sizes) -> _Layer:
    tokens = recipe.seq_length // sizes.cp * recipe.micro_batch_size
    spread = sizes.tp if recipe.switched_on("sequence-parallel") else 1
    normed = 2 * tokens * shape.hidden / spread
    groups = shape.kv_groups * shape.head_dim
    flash = recipe.switched_on("use-flash-attn")
    scores = SOFTMAX_BYTES * shape.heads if flash else 5 * shape.heads * recipe.seq_length // sizes.cp
    attention = tokens * (4 * shape.hidden + 4 * groups + scores) / sizes.tp
    swiglu = 2 * tokens * shape.ffn / sizes.tp
    return _Layer(attention=normed + attention, mlp=2 * normed + 3 * swiglu, swiglu=swiglu, entry=normed)


def _kept(layer: _Layer, layers: int, flight: float, recipe: Recipe) -> float:
    """Return the bytes of a stage's activations; `flight` is how many micro batches of the whole stage are under way."""
    each = layer.whole
    if recipe.switched_on("recompute-activation-function"):
        each -= layer.swiglu
    swapped = 0.0
    if recipe.switched_on("swap-attention"):
        each, swapped = each - layer.attention, layer.attention  # on the host, but for the layer that is at work
    again = _recomputed(recipe, layers)
    at_work = layer.whole if again else swapped
    if recipe.arguments.get("recompute-method") == "uniform" and again:
        step = as_int(recipe.arguments.get("recompute-num-layers")) or 1
        return flight * layer.entry * -(-layers // step) + min(step, layers) * each
    return flight * ((layers - again) * each + again * layer.entry) + at_work


def _recomputed(recipe: Recipe, layers: int) -> int:
    """Return how many layers of a stage are computed again in the backward pass."""
    if recipe.arguments.get("recompute-granularity") != "full":
        return 0
    if recipe.arguments.get("recompute-method") == "uniform":
        return layers
    return min(layers, as_int(recipe.arguments.get("recompute-num-layers")) or layers)


def micro_batches_in_flight(stage: int, pp: int, layers: int, rounds: int, chunk: Optional[int]) -> float:
    """Return how many micro batches a stage has begun and not finished, as Megatron's schedules run; `chunk` layers a virtual stage."""
    if not chunk or pp == 1 or chunk >= layers:
        return min(pp - stage, rounds)
    chunks = layers // chunk
    begun = 2 * (pp - stage - 1) + (chunks - 1) * pp + 1
    return min(begun, rounds * chunks) / chunks


def _step(shape: ModelShape, recipe: Recipe, sizes: Sizes, stage: int, layers: int, padded_vocab: int) -> int:
    """Return the bytes that a step adds: activations and loss, or, where that is more, the largest update of the optimizer."""
    layer = _layer(shape, recipe, sizes)
    rounds = max(1, recipe.global_batch_size // (recipe.micro_batch_size * sizes.dp))
    chunk = as_int(recipe.arguments.get("num-layers-per-virtual-pipeline-stage"))
    flight = micro_batches_in_flight(stage, sizes.pp, layers, rounds, chunk)
    tokens = recipe.seq_length // sizes.cp * recipe.micro_batch_size
    at_work = tokens * (
        4 * shape.hidden + 6 * shape.ffn / sizes.tp
    )  # gathered input, its gradient, those of the wide layers
    if stage == sizes.pp - 1:
        at_work = max(at_work, tokens * padded_vocab / sizes.tp * LOGIT_BYTES)
    activations = (_kept(layer, layers, flight, recipe) + at_work) * (1 + FRAGMENTATION)
    return int(max(activations, largest_update(shape, recipe, sizes, padded_vocab)))


def largest_update(shape: ModelShape, recipe: Recipe, sizes: Sizes, padded_vocab: int) -> float:
    """Return the bytes of the optimizer's update of the largest parameter, shared out where the optimizer is."""
    shared = sizes.dp * sizes.cp if recipe.switched_on("use-distributed-optimizer") else 1
    return UPDATE_BYTES * shape.hidden * max(padded_vocab, 2 * shape.ffn) / sizes.tp / shared


def _communication(shape: ModelShape, sizes: Sizes, stage: int, environment: Mapping[str, str]) -> int:
    """Return the bytes of the buffers of a rank's communicators: two for each group of more than one rank that it talks in."""
    groups = [sizes.world, sizes.tp, sizes.pp, sizes.cp, sizes.dp * sizes.cp, sizes.tp * sizes.pp]
    if shape.tied and stage in (0, sizes.pp - 1):
        groups.append(sizes.pp)
    size = as_int(environment.get("HCCL_BUFFSIZE")) or BUFFER_MB
    return 2 * size * MIB * sum(group > 1 for group in groups)


def memory_by_stage(
    shape: ModelShape, recipe: Recipe, sizes: Sizes, environment: Mapping[str, str]
) -> List[RankMemory]:
    """Return what a rank of each pipeline stage needs, in the order of the stages."""
    padded = shape.padded_vocab(sizes.tp, recipe.vocab_divisible_by)
    layers = layers_of(shape, recipe, sizes.pp)
    each = bytes_per_parameter(recipe, sizes.dp * sizes.cp)
    return [
        RankMemory(
            parameters=count,
            static=int(count * each),
            activation=_step(shape, recipe, sizes, stage, layers[stage], padded),
            communication=_communication(shape, sizes, stage, environment),
        )
        for stage, count in enumerate(stage_parameters(shape, layers, sizes.tp, padded))
    ]
