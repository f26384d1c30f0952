# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that MindSpeed-LLM's scripts pass on top: a few act, most change speed or memory on an NPU only."""

from __future__ import annotations

import argparse

from megatron.training.arguments import megatron_parser, validate_args

# Accepted and without effect: they choose kernels, overlap, memory use or logging, not results.
IGNORED_SWITCHES = (
    "attention-softmax-in-fp32",
    "gemm-gradient-accumulation-fusion",
    "log-params-norm",
    "manual-gc",
    "no-bias-swiglu-fusion",
    "no-create-attention-mask-in-dataloader",
    "no-gradient-accumulation-fusion",
    "no-masked-softmax-fusion",
    "no-rope-fusion",
    "overlap-grad-reduce",
    "overlap-param-gather",
    "recompute-activation-function",
    "reuse-fp32-param",
    "swap-attention",
    "use-cp-send-recv-overlap",
    "use-distributed-optimizer",
    "use-flash-attn",
    "use-fused-ring-attention-update",
    "use-fused-rmsnorm",
    "use-fused-rotary-pos-emb",
    "use-fused-swiglu",
    "use-mc2",
    "jit-compile",
    "enable-recompute-layers-per-pp-rank",
    "accumulate-allreduce-grads-in-fp32",
    "tokenizer-not-use-fast",
    "distribute-saved-activations",
    "recompute-activations",
    "use-deter-comp",
    "log-timers-to-tensorboard",
)
IGNORED_VALUES = {
    "context-parallel-algo": str,
    "initial-loss-scale": float,
    "manual-gc-interval": int,
    "num-workers": int,
    "recompute-activation-function-num-layers": int,
    "recompute-granularity": str,
    "recompute-method": str,
    "recompute-num-layers": int,
    "sparse-mode": int,
    "tensorboard-dir": str,
    "tokenizer-model": str,
    "vocab-size": int,
    "num-dataset-builder-threads": int,
    "timing-log-level": int,
    "transformer-impl": str,
}
# Known upstream, but they would change what is computed and the stand-in does not do it: only this value passes.
ONLY_VALUE = {
    "context-parallel-size": 1,
    "expert-model-parallel-size": 1,
    "eval-iters": 0,
    "attention-dropout": 0.0,
    "hidden-dropout": 0.0,
}
NEEDED = {
    "use_mcore_models": True,
    "swiglu": True,
    "normalization": "RMSNorm",
    "position_embedding_type": "rope",
    "add_bias_linear": False,
    "tokenizer_type": "PretrainedFromHF",
}


def parse_args() -> argparse.Namespace:
    """Parse, complete and check the command line; an unknown argument ends the program with status 2."""
    parser = megatron_parser()
    parser.add_argument("--use-mcore-models", action="store_true")
    parser.add_argument("--no-shared-storage", action="store_true")
    parser.add_argument("--num-layer-list", help="layers of each pipeline stage, as in 3,5")
    parser.add_argument("--context-parallel-size", type=int, default=1)
    parser.add_argument("--expert-model-parallel-size", type=int, default=1)
    for name in IGNORED_SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    for name, kind in IGNORED_VALUES.items():
        parser.add_argument(f"--{name}", type=kind)
    args = parser.parse_args()
    _refuse_what_is_not_simulated(args)
    validate_args(args)
    _validate_stages(args)
    return args


def _refuse_what_is_not_simulated(args: argparse.Namespace) -> None:
    if args.use_rotary_position_embeddings:
        args.position_embedding_type = "rope"
    wanted = {name.replace("-", "_"): value for name, value in ONLY_VALUE.items()} | NEEDED
    wrong = [
        f"{name} is {getattr(args, name)}, must be {value}"
        for name, value in wanted.items()
        if getattr(args, name) != value
    ]
    if wrong:
        raise AssertionError(f"the lab's stand-in trains Qwen2 and Llama models only: {'; '.join(wrong)}")


def _validate_stages(args: argparse.Namespace) -> None:
    stages = args.pipeline_model_parallel_size
    if args.num_layer_list is None:
        assert args.num_layers % stages == 0, "number of layers should be divisible by the pipeline parallel size"
        args.layers_of_stage = [args.num_layers // stages] * stages
        return
    args.layers_of_stage = [int(part) for part in args.num_layer_list.split(",")]
    if len(args.layers_of_stage) != stages:
        raise ValueError("len(args.num_layer_list) != args.pipeline_model_parallel_size")
    if sum(args.layers_of_stage) != args.num_layers:
        raise ValueError(f"--num-layer-list {args.num_layer_list} does not add up to --num-layers {args.num_layers}")
