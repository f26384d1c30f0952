# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-train a Qwen2 (or Llama) model, tensor x pipeline x data parallel, on the CPU: the lab's stand-in.

It takes upstream's arguments, reads and writes upstream's files and prints upstream's lines. Weights are held as fp32
tensors of bf16 values with fp32 main copies beside them; products are computed in fp32.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import sys
import time
import zlib
from argparse import Namespace
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mindspeed_llm import megatron_adaptor  # noqa: F401
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch_npu import npu

# isort: split
# The line above makes CUDA names mean the NPU: it comes before anything of megatron.
from megatron.core.optimizer import MixedPrecisionOptimizer
from megatron.core.parallel_state import Layout, initialize_model_parallel
from megatron.training.checkpointing import load_checkpoint, save_checkpoint
from megatron.training.log_lines import IterationLog, floating_point_operations, print_datetime, print_rank_0, timed
from megatron.training.optimizer_param_scheduler import OptimizerParamScheduler
from mindspeed_llm.training.arguments import parse_args
from mindspeed_llm.training.data import global_batches, train_dataset

STARTED = time.time()


# ---- tensor parallelism: which half of a pair of layers has to sum over the ranks


class CopyToRanks(torch.autograd.Function):
    """Hand the same input to all ranks; their gradients add up on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Pass on."""
        ctx.group = group
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Sum over the ranks."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


class SumOverRanks(torch.autograd.Function):
    """Add up the ranks' partial outputs; each gets the whole gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        """Sum over the ranks."""
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Pass on."""
        return gradient, None


class ColumnParallelLinear(nn.Module):
    """A linear layer of which each rank computes a slice of the outputs: weight (out / tp, in)."""

    def __init__(self, inputs: int, outputs: int, layout: Layout, bias: bool = False) -> None:
        """Allocate this rank's slice."""
        super().__init__()
        self.group = layout.tp_group
        self.weight = nn.Parameter(torch.empty(outputs // layout.tp, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs // layout.tp)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out / tp)."""
        return F.linear(CopyToRanks.apply(x, self.group), self.weight, self.bias)


class RowParallelLinear(nn.Module):
    """A linear layer of which each rank sees a slice of the inputs: weight (out, in / tp)."""

    def __init__(self, inputs: int, outputs: int, layout: Layout) -> None:
        """Allocate this rank's slice."""
        super().__init__()
        self.group = layout.tp_group
        self.weight = nn.Parameter(torch.empty(outputs, inputs // layout.tp))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in / tp) to (..., out), the same on all ranks."""
        return SumOverRanks.apply(F.linear(x, self.weight), self.group)


class VocabParallelEmbedding(nn.Module):
    """An embedding of which each rank holds a slice of the vocabulary: weight (vocabulary / tp, hidden)."""

    def __init__(self, vocabulary: int, hidden: int, layout: Layout) -> None:
        """Allocate this rank's slice."""
        super().__init__()
        self.group, self.total = layout.tp_group, vocabulary
        self.weight = nn.Parameter(torch.empty(vocabulary // layout.tp, hidden))
        self.first = layout.tp_rank * len(self.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ids (b, s) to vectors (b, s, hidden)."""
        if tokens.max() >= self.total:
            raise IndexError(f"token id {int(tokens.max())} is outside of the vocabulary of {self.total}")
        local = tokens - self.first
        outside = (local < 0) | (local >= len(self.weight))
        vectors = F.embedding(local.masked_fill(outside, 0), self.weight).masked_fill(outside[..., None], 0.0)
        return SumOverRanks.apply(vectors, self.group)


def vocab_parallel_cross_entropy(logits: Tensor, labels: Tensor, layout: Layout) -> Tensor:
    """Return the loss of each token, (b, s), from this rank's slice of the logits, (b, s, vocabulary / tp)."""
    highest = logits.detach().amax(-1)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX, group=layout.tp_group)
    logits = logits - highest[..., None]
    local = labels - layout.tp_rank * logits.shape[-1]
    outside = (local < 0) | (local >= logits.shape[-1])
    target = logits.gather(-1, local.masked_fill(outside, 0)[..., None])[..., 0].masked_fill(outside, 0.0)
    target, total = (SumOverRanks.apply(part, layout.tp_group) for part in (target, logits.exp().sum(-1)))
    return total.log() - target


# ---- the model; its attribute names are the keys of a checkpoint


class RMSNorm(nn.Module):
    """Scale to unit mean square, then by a weight of shape (hidden,)."""

    def __init__(self, hidden: int, epsilon: float) -> None:
        """Start with weight 1."""
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(hidden)), epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., hidden) to the same shape."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class SelfAttention(nn.Module):
    """Causal attention with rotary positions; query groups share a key and a value."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate this rank's heads: whole groups of queries, key and value."""
        super().__init__()
        self.size, self.groups = args.kv_channels, args.num_query_groups // layout.tp
        self.queries = args.num_attention_heads // args.num_query_groups
        width = (args.num_attention_heads + 2 * args.num_query_groups) * self.size
        self.linear_qkv = ColumnParallelLinear(args.hidden_size, width, layout, args.add_qkv_bias)
        self.linear_proj = RowParallelLinear(args.num_attention_heads * self.size, args.hidden_size, layout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Map (b, s, hidden) to the same shape."""
        batch, length, _ = x.shape
        mixed = self.linear_qkv(x).view(batch, length, self.groups, self.queries + 2, self.size)
        query, key, value = mixed.split([self.queries, 1, 1], dim=3)
        query, key, value = (part.flatten(2, 3).transpose(1, 2) for part in (query, key, value))
        query, key = rotate(query, *rotary), rotate(key, *rotary)
        key, value = (part.repeat_interleave(self.queries, dim=1) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.linear_proj(mixed.transpose(1, 2).flatten(2))


def rotary_tables(length: int, size: int, base: float) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines of the positions, each (length, size)."""
    frequencies = 1.0 / base ** (torch.arange(0, size, 2).float() / size)
    angles = torch.outer(torch.arange(length).float(), frequencies)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (i, i + size / 2) of a head by its position's angle: (b, heads, s, size)."""
    lower, upper = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-upper, lower], dim=-1) * sines


class MLP(nn.Module):
    """SwiGLU: gate and up in one matrix, then down."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate this rank's slice of gate, up and down."""
        super().__init__()
        self.linear_fc1 = ColumnParallelLinear(args.hidden_size, 2 * args.ffn_hidden_size, layout)
        self.linear_fc2 = RowParallelLinear(args.ffn_hidden_size, args.hidden_size, layout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, s, hidden) to the same shape."""
        gate, up = self.linear_fc1(x).chunk(2, dim=-1)
        return self.linear_fc2(F.silu(gate) * up)


class TransformerLayer(nn.Module):
    """Attention and MLP, each behind a norm and added to its input."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate this rank's slice of the layer."""
        super().__init__()
        self.input_layernorm = RMSNorm(args.hidden_size, args.norm_epsilon)
        self.self_attention = SelfAttention(args, layout)
        self.pre_mlp_layernorm = RMSNorm(args.hidden_size, args.norm_epsilon)
        self.mlp = MLP(args, layout)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Map (b, s, hidden) to the same shape."""
        x = x + self.self_attention(self.input_layernorm(x), rotary)
        return x + self.mlp(self.pre_mlp_layernorm(x))


class Embedding(nn.Module):
    """The first stage's entry."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate this rank's slice of the vocabulary."""
        super().__init__()
        self.word_embeddings = VocabParallelEmbedding(args.padded_vocab_size, args.hidden_size, layout)


class Decoder(nn.Module):
    """The layers of a stage, and on the last one the norm behind them."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate this rank's slices of the stage's layers."""
        super().__init__()
        self.layers = nn.ModuleList(TransformerLayer(args, layout) for _ in range(args.layers_of_stage[layout.pp_rank]))
        if layout.last_stage:
            self.final_layernorm = RMSNorm(args.hidden_size, args.norm_epsilon)


class GPTModel(nn.Module):
    """This rank's pipeline stage: layers, the embedding on the first stage, the head on the last."""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        """Allocate the stage and draw its initial weights."""
        super().__init__()
        self.layout, self.tied = layout, not args.untie_embeddings_and_output_weights
        self.pad = args.pad_token_id
        if layout.first_stage:
            self.embedding = Embedding(args, layout)
        self.decoder = Decoder(args, layout)
        if layout.last_stage and not (self.tied and layout.first_stage):
            self.output_layer = ColumnParallelLinear(args.hidden_size, args.padded_vocab_size, layout)
        self.rotary = rotary_tables(args.seq_length, args.kv_channels, args.rotary_base)
        self._draw_weights(args)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Map ids (b, s) or hidden states (b, s, hidden) to hidden states, on the last stage to the mean loss.

        As in upstream's dataset, padding counts as id 0 and its labels do not count. The end of a document is padding too
        where the tokenizer gives both the same id, as Qwen2's does.
        """
        if self.layout.first_stage:
            x = self.embedding.word_embeddings(x.masked_fill(x == self.pad, 0))
        for layer in self.decoder.layers:
            x = layer(x, self.rotary)
        if labels is None:
            return x
        x = self.decoder.final_layernorm(x)
        if self.tied and self.layout.first_stage:
            logits = F.linear(CopyToRanks.apply(x, self.layout.tp_group), self.embedding.word_embeddings.weight)
        else:
            logits = self.output_layer(x)
        counts = labels != self.pad
        losses = vocab_parallel_cross_entropy(logits, labels.masked_fill(~counts, 0), self.layout)
        return (losses * counts).sum() / counts.sum()

    def shared_weight(self) -> nn.Parameter | None:
        """Return the weight that the first and the last stage both hold when the embedding is tied."""
        if not self.tied or self.layout.pp == 1:
            return None
        if self.layout.first_stage:
            return self.embedding.word_embeddings.weight
        return self.output_layer.weight if self.layout.last_stage else None

    def _draw_weights(self, args: Namespace) -> None:
        narrow = args.init_method_std / math.sqrt(2.0 * args.num_layers)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                # One stream a tensor, stage and slice; the two copies of a tied embedding draw the same.
                stream = "tied" if weight is self.shared_weight() else f"{self.layout.pp_rank} {name}"
                seed = zlib.crc32(f"{args.seed} {stream} {self.layout.tp_rank}".encode())
                std = narrow if name.endswith(("linear_proj.weight", "linear_fc2.weight")) else args.init_method_std
                nn.init.normal_(weight, 0.0, std, generator=torch.Generator().manual_seed(seed))
            weight.data = weight.data.to(args.params_dtype).float()


# ---- one iteration


def forward_backward(model: GPTModel, batches: list[Tensor], args: Namespace) -> list[float]:
    """Send all micro batches forward, then their gradients back; return the losses (last stage only)."""
    layout, losses = model.layout, []
    sending: list[dist.Work | None] = []
    kept: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        entry = batch[:, :-1] if layout.first_stage else _receive(args, layout.neighbour(-1)).requires_grad_()
        result = model(entry, batch[:, 1:] if layout.last_stage else None)
        if layout.last_stage:
            losses.append(_checked(result.item(), args))
        else:
            sending.append(dist.isend(result.detach(), layout.neighbour(1)))
        kept.append((entry, result))
    for entry, result in kept:
        if layout.last_stage:
            (result / len(batches)).backward()
        else:
            result.backward(_receive(args, layout.neighbour(1)))
        if entry.grad is not None:
            sending.append(dist.isend(entry.grad, layout.neighbour(-1)))
    for request in sending:
        if request is not None:
            request.wait()
    return losses


def _receive(args: Namespace, source: int) -> Tensor:
    """Return the hidden states, or their gradients, that a neighbouring stage sends: (b, s, hidden)."""
    hidden = torch.empty((args.micro_batch_size, args.seq_length, args.hidden_size))
    dist.recv(hidden, source)
    return hidden


def _checked(loss: float, args: Namespace) -> float:
    if args.check_for_nan_in_loss_and_grad and math.isnan(loss):
        raise ValueError(
            f"Rank {args.rank}: found NaN in local forward loss calculation. "
            f"Device: {npu.current_device()}, node: {os.uname()[1]}"
        )
    return loss


# ---- the run


def initialize(args: Namespace) -> Layout:
    """Take this rank's NPU, join the process groups and seed the generators."""
    if args.rank == 0:
        print("> initializing torch distributed ...", flush=True)
    args.local_rank = args.rank % npu.device_count()
    npu.set_device(args.local_rank)
    dist.init_process_group(
        backend=args.distributed_backend,
        rank=args.rank,
        world_size=args.world_size,
        timeout=timedelta(minutes=args.distributed_timeout_minutes),
    )
    layout = initialize_model_parallel(args.tensor_model_parallel_size, args.pipeline_model_parallel_size)
    print_rank_0(f"> initialized tensor model parallel with size {layout.tp}")
    print_rank_0(f"> initialized pipeline model parallel with size {layout.pp}")
    print_rank_0(f"> setting random seeds to {args.seed} ...")
    seed = args.seed + 100 * layout.pp_rank
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    args.data_parallel_rank = layout.dp_rank
    print_rank_0(f"time to initialize megatron (seconds): {time.time() - STARTED:.3f}")
    print_datetime("after megatron is initialized")
    return layout


def pad_vocabulary(args: Namespace) -> None:
    """Set padded_vocab_size from the tokenizer when it was not given; OSError when there is no tokenizer."""
    if args.rank == 0:
        print(" > building PretrainFromHF tokenizer. Vocab file is un-used, loading tokenizer from pre-trained model")
    file = Path(args.tokenizer_name_or_path, "tokenizer.json")
    if not file.is_file():
        raise OSError(f"Can't load tokenizer for '{args.tokenizer_name_or_path}': there is no tokenizer.json")
    tokenizer = Tokenizer.from_file(str(file))
    size = tokenizer.get_vocab_size()
    args.pad_token_id = pad_id(tokenizer, file.with_name("tokenizer_config.json"))
    if args.padded_vocab_size is None:
        unit = args.make_vocab_size_divisible_by * args.tensor_model_parallel_size
        args.padded_vocab_size = math.ceil(size / unit) * unit
    assert args.padded_vocab_size % args.tensor_model_parallel_size == 0


def pad_id(tokenizer: Tokenizer, configuration: Path) -> int:
    """Return the id of padding: the tokenizer's own, else that of its end of text, else one that no token has."""
    names = json.loads(configuration.read_text(encoding="utf-8")) if configuration.is_file() else {}
    for key in ("pad_token", "eos_token"):
        name = names.get(key)
        found = tokenizer.token_to_id(name["content"] if isinstance(name, dict) else name) if name else None
        if found is not None:
            return int(found)
    return -1


def build(args: Namespace, layout: Layout) -> tuple[GPTModel, MixedPrecisionOptimizer, OptimizerParamScheduler]:
    """Make model, optimizer and schedule, and load what --load names."""
    print_rank_0("building GPT model ...")
    model = GPTModel(args, layout)
    if layout.dp_rank == 0:
        print(
            f" > number of parameters on (tensor, pipeline) model parallel rank ({layout.tp_rank}, {layout.pp_rank}): "
            f"{sum(parameter.numel() for parameter in model.parameters())}",
            flush=True,
        )
    weights = dict(model.named_parameters())
    optimizer, scheduler = (
        MixedPrecisionOptimizer(weights, model.shared_weight(), layout, args),
        OptimizerParamScheduler(args),
    )
    print_rank_0(f"> learning rate decay style: {args.lr_decay_style}")
    if args.load is not None:
        with timed("load-checkpoint"):
            args.iteration = load_checkpoint(args, layout, model, optimizer, scheduler)
    if args.iteration > 0 and args.consumed_train_samples == 0:
        args.consumed_train_samples = args.iteration * args.global_batch_size
    print_datetime("after model, optimizer, and learning rate scheduler are built")
    return model, optimizer, scheduler


def train(
    args: Namespace,
    layout: Layout,
    model: GPTModel,
    optimizer: MixedPrecisionOptimizer,
    scheduler: OptimizerParamScheduler,
    batches: Iterator[list[Tensor]],
) -> None:
    """Run the iterations that are left; log and save as the arguments say."""
    print_rank_0("training ...")
    print_datetime("before the start of training step")
    log, saved = IterationLog(args), args.iteration
    while args.iteration < args.train_iters:
        losses = forward_backward(model, next(batches), args)
        grad_norm = optimizer.step(scheduler.get_lr())
        scheduler.step(args.global_batch_size)
        args.iteration += 1
        args.consumed_train_samples += args.global_batch_size
        args.num_floating_point_operations_so_far += floating_point_operations(args, args.global_batch_size)
        log.add(args.iteration, _mean_over_copies(losses, layout), scheduler.get_lr(), grad_norm)
        leaves = args.exit_interval and args.iteration % args.exit_interval == 0
        if args.save and (args.iteration % args.save_interval == 0 or leaves):
            with log.paused(), timed("save-checkpoint"):
                save_checkpoint(args, layout, model, optimizer, scheduler)
            saved = args.iteration
        if leaves:
            print_datetime(f"exiting program at iteration {args.iteration}")
            sys.exit()
    print_datetime("after training is done")
    if args.save and args.iteration not in (0, saved):
        save_checkpoint(args, layout, model, optimizer, scheduler)


def _mean_over_copies(losses: list[float], layout: Layout) -> float | None:
    if not losses:
        return None
    mean = torch.tensor(sum(losses) / len(losses))
    dist.all_reduce(mean, group=layout.dp_group)
    return mean.item() / layout.dp


def main() -> None:
    """Pre-train as the command line says."""
    if not npu.is_available():
        raise AssertionError("Megatron requires CUDA.")
    args = parse_args()
    logging.basicConfig(level=logging.INFO if args.rank == 0 else logging.WARNING)
    pad_vocabulary(args)
    args.num_floating_point_operations_so_far = 0.0
    layout = initialize(args)
    model, optimizer, scheduler = build(args, layout)
    dataset = train_dataset(args, layout)
    print_datetime("after dataloaders are built")
    print_rank_0("done with setup ...")
    train(args, layout, model, optimizer, scheduler, global_batches(args, layout, dataset))
    dist.barrier()
    # Otherwise threads of gloo that are still there may abort the interpreter on its way out.
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
