# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line that the stand-in acts on, and what it refuses before any process group exists."""

from __future__ import annotations

import argparse
import os

import torch
from megatron.training.log_lines import print_args

_INTEGERS = (
    "num-layers",
    "hidden-size",
    "ffn-hidden-size",
    "num-attention-heads",
    "kv-channels",
    "max-position-embeddings",
    "seq-length",
    "micro-batch-size",
    "global-batch-size",
    "train-iters",
    "lr-decay-iters",
    "padded-vocab-size",
    "save-interval",
    "exit-interval",
)
_INTEGERS_WITH_DEFAULT = {
    "tensor-model-parallel-size": 1,
    "pipeline-model-parallel-size": 1,
    "num-query-groups": 1,
    "rotary-base": 10000,
    "make-vocab-size-divisible-by": 128,
    "lr-warmup-iters": 0,
    "seed": 1234,
    "log-interval": 100,
    "eval-interval": 1000,
    "eval-iters": 100,
    "distributed-timeout-minutes": 10,
}
_FLOATS_WITH_DEFAULT = {
    "norm-epsilon": 1e-5,
    "attention-dropout": 0.1,
    "hidden-dropout": 0.1,
    "min-lr": 0.0,
    "weight-decay": 0.01,
    "clip-grad": 1.0,
    "adam-beta1": 0.9,
    "adam-beta2": 0.999,
    "adam-eps": 1e-8,
    "init-method-std": 0.02,
}
_SWITCHES = (
    "sequence-parallel",
    "group-query-attention",
    "add-qkv-bias",
    "swiglu",
    "use-rotary-position-embeddings",
    "bf16",
    "no-load-optim",
    "no-load-rng",
    "no-save-optim",
    "no-save-rng",
    "finetune",
    "exit-on-missing-checkpoint",
    "log-throughput",
    "override-opt_param-scheduler",
    "use-checkpoint-opt_param-scheduler",
)
_TEXTS = ("load", "save", "data-cache-path", "tokenizer-type", "tokenizer-name-or-path", "split")


def megatron_parser() -> argparse.ArgumentParser:
    """Return a parser for the arguments that change what is computed, read, written or printed."""
    parser = argparse.ArgumentParser(description="MindSpeed-LLM Arguments (the lab's stand-in)", allow_abbrev=False)
    for name in _INTEGERS:
        parser.add_argument(f"--{name}", type=int)
    for name, number in _INTEGERS_WITH_DEFAULT.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    for name, value in _FLOATS_WITH_DEFAULT.items():
        parser.add_argument(f"--{name}", type=float, default=value)
    for name in _SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    for name in _TEXTS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--data-path", nargs="*")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--lr-warmup-fraction", type=float)
    parser.add_argument(
        "--lr-decay-style", default="linear", choices=("constant", "linear", "cosine", "inverse-square-root")
    )
    parser.add_argument("--normalization", default="LayerNorm", choices=("LayerNorm", "RMSNorm"))
    parser.add_argument("--position-embedding-type", default="learned_absolute", choices=("learned_absolute", "rope"))
    parser.add_argument("--distributed-backend", default="nccl", choices=("nccl", "gloo"))
    parser.add_argument("--disable-bias-linear", action="store_false", dest="add_bias_linear")
    parser.add_argument("--untie-embeddings-and-output-weights", action="store_true")
    parser.add_argument(
        "--no-check-for-nan-in-loss-and-grad", action="store_false", dest="check_for_nan_in_loss_and_grad"
    )
    return parser


def validate_args(args: argparse.Namespace) -> None:
    """Complete the arguments and print them on rank 0; AssertionError, ValueError or RuntimeError on a bad set."""
    args.rank, args.world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    _validate_parallel_sizes(args)
    _validate_batch(args)
    _validate_model(args)
    assert args.save is None or args.save_interval is not None, "--save needs --save-interval"
    assert args.data_path and len(args.data_path) == 1, "the stand-in reads exactly one --data-path"
    assert args.lr is not None and args.min_lr <= args.lr, f"--min-lr {args.min_lr} is above --lr {args.lr}"
    if args.lr_warmup_fraction is not None:
        assert args.lr_warmup_iters == 0, "can only specify one of lr-warmup-fraction and lr-warmup-iters"
    if args.split is None:
        args.split = "969, 30, 1"
    args.params_dtype = torch.bfloat16 if args.bf16 else torch.float
    args.iteration = args.consumed_train_samples = args.consumed_valid_samples = 0
    if args.rank == 0:
        print(f"using {args.params_dtype} for parameters ...", flush=True)
    print_args("MindSpeed-LLM Arguments", args)


def _validate_parallel_sizes(args: argparse.Namespace) -> None:
    world = args.world_size
    args.tensor_model_parallel_size = tp = min(args.tensor_model_parallel_size, world)
    assert world % tp == 0, f"world size ({world}) is not divisible by tensor model parallel size ({tp})"
    args.pipeline_model_parallel_size = pp = min(args.pipeline_model_parallel_size, world // tp)
    assert world % (tp * pp) == 0, (
        f"world size ({world}) is not divisible by tensor parallel size ({tp}) times "
        f"pipeline parallel size ({pp}) times context parallel size (1)"
    )
    args.data_parallel_size = world // (tp * pp)
    if args.rank == 0:
        print(
            f"using world size: {world}, data-parallel size: {args.data_parallel_size}, context-parallel size: 1 "
            f"tensor-model-parallel size: {tp}, pipeline-model-parallel size: {pp} ",
            flush=True,
        )
    args.sequence_parallel = args.sequence_parallel and tp > 1
    if args.sequence_parallel and os.environ.get("CUDA_DEVICE_MAX_CONNECTIONS") != "1":
        raise RuntimeError(
            "Using sequence parallelism requires setting the environment variable CUDA_DEVICE_MAX_CONNECTIONS to 1"
        )


def _validate_batch(args: argparse.Namespace) -> None:
    assert args.micro_batch_size is not None and args.micro_batch_size > 0
    unit = args.micro_batch_size * args.data_parallel_size
    args.global_batch_size = args.global_batch_size or unit
    assert args.global_batch_size % unit == 0, (
        f"global batch size ({args.global_batch_size}) is not divisible by micro batch size "
        f"({args.micro_batch_size}) times data parallel size ({args.data_parallel_size})"
    )
    args.num_micro_batches = args.global_batch_size // unit


def _validate_model(args: argparse.Namespace) -> None:
    for name in (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "max_position_embeddings",
        "ffn_hidden_size",
        "seq_length",
        "train_iters",
        "tokenizer_name_or_path",
    ):
        assert getattr(args, name) is not None, f"{name} argument is None"
    if args.kv_channels is None:
        assert args.hidden_size % args.num_attention_heads == 0
        args.kv_channels = args.hidden_size // args.num_attention_heads
    assert args.max_position_embeddings >= args.seq_length
    if not args.group_query_attention:
        args.num_query_groups = args.num_attention_heads
    if args.use_rotary_position_embeddings:
        args.position_embedding_type = "rope"
    tp = args.tensor_model_parallel_size
    for name in ("num_attention_heads", "num_query_groups"):
        if getattr(args, name) % tp:
            raise ValueError(f"{name} ({getattr(args, name)}) must be a multiple of tensor_model_parallel_size ({tp}).")
    assert args.ffn_hidden_size % tp == 0, f"{args.ffn_hidden_size} is not divisible by {tp}"
    assert not args.sequence_parallel or args.seq_length % tp == 0, (
        "First dimension of the tensor should be divisible by tensor parallel size"
    )
    args.add_position_embedding = True
