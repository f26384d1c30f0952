# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model's config.json says: which layout it has, and the arguments that a Megatron checkpoint records of it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Optional

import torch
from _common import WorkerError, read_json
from _layout import ModelSpec, Split

FAMILIES = {"Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama"}
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
SHORT_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
OTHER_ENGINE = "Use the upstream engine for this model."


def read_config(directory: Path) -> Dict[str, Any]:
    config = read_json(directory / "config.json", "model configuration")
    if not isinstance(config, dict):
        raise WorkerError(f"{directory / 'config.json'} is not a JSON object", "Copy the file again from its origin.")
    return config


def model_spec(config: Dict[str, Any]) -> ModelSpec:
    """Return the layout figures; a model whose layout is not proven equal to upstream's is refused by name."""
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else "(none)"
    family = FAMILIES.get(architecture)
    if family is None:
        known = ", ".join(FAMILIES)
        raise WorkerError(f"architecture {architecture} is not converted natively (only {known})", OTHER_ENGINE)
    _refuse_variants(config, architecture)
    spec = ModelSpec(
        family=family,
        layers=_figure(config, "num_hidden_layers"),
        hidden=_figure(config, "hidden_size"),
        heads=_figure(config, "num_attention_heads"),
        kv_heads=_figure(config, "num_key_value_heads", config.get("num_attention_heads")),
        ffn=_figure(config, "intermediate_size"),
        vocab=_figure(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2",
    )
    _check_heads(spec, config)
    return spec


def is_native(config: Dict[str, Any]) -> bool:
    """Whether the layout of such a model is known here."""
    try:
        model_spec(config)
    except WorkerError as error:
        if error.remedy == OTHER_ENGINE:
            return False
        raise
    return True


def _refuse_variants(config: Dict[str, Any], architecture: str) -> None:
    variants = {
        "attention_bias": "biases in all attention projections",
        "mlp_bias": "biases in the MLP",
        "quantization_config": "quantised weights",
    }
    for key, meaning in variants.items():
        if config.get(key):
            raise WorkerError(
                f"{architecture} with {key}={config[key]}: {meaning} are not converted natively", OTHER_ENGINE
            )
    activation = config.get("hidden_act", "silu")
    if activation != "silu":
        raise WorkerError(
            f"{architecture} with hidden_act={activation} is not converted natively (only silu)", OTHER_ENGINE
        )


def _figure(config: Dict[str, Any], key: str, default: Any = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WorkerError(f"config.json has {key}={value!r}, not a positive number", "Use the model's own config.json.")
    return value


def _check_heads(spec: ModelSpec, config: Dict[str, Any]) -> None:
    if spec.hidden % spec.heads or spec.heads % spec.kv_heads:
        raise WorkerError(
            f"config.json: hidden size {spec.hidden}, {spec.heads} heads and {spec.kv_heads} key/value heads do not divide",
            "Use the model's own config.json.",
        )
    head_dim = config.get("head_dim") or spec.head_dim
    if head_dim != spec.head_dim:
        raise WorkerError(f"head_dim={head_dim} differs from hidden size / heads = {spec.head_dim}", OTHER_ENGINE)


def config_dtype(config: Dict[str, Any]) -> Optional[torch.dtype]:
    """The 16-bit type upstream's loader casts to first, or None: it leaves every other type as float32."""
    return HALVES.get(str(config.get("torch_dtype")))


def own_dtype(config: Dict[str, Any]) -> Optional[torch.dtype]:
    """The 16-bit type of the model, or None. From transformers 4.56 on it is written as ``dtype``, which upstream does not read."""
    return config_dtype(config) or HALVES.get(str(config.get("dtype")))


def _rope(config: Dict[str, Any]) -> Dict[str, Any]:
    """``rope_theta`` and the scaling; transformers 5 writes both as ``rope_parameters``."""
    both = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or both
    for name, value in (("rope_parameters", both), ("rope_scaling", scaling)):
        if not isinstance(value, dict):
            raise WorkerError(f"config.json has {name}={value!r}, not an object", "Use the model's own config.json.")
    base = config.get("rope_theta")
    base = both.get("rope_theta", 10000) if base is None else base
    if not isinstance(base, (int, float)) or isinstance(base, bool) or not base > 0:
        raise WorkerError(
            f"config.json has rope_theta={base!r}, not a positive number", "Use the model's own config.json."
        )
    return {"rope_theta": base, **_rope_scaling(scaling)}


def checkpoint_args(
    config: Dict[str, Any], spec: ModelSpec, split: Split, dtype: torch.dtype, divisible_by: int
) -> Namespace:
    """The ``args`` of a checkpoint: what Megatron compares on load, what its converter needs to read the file back,
    and the model's true rotary base (upstream records 10000 whatever the model has)."""
    rope = _rope(config)
    return Namespace(
        **_shape_args(config, spec),
        rotary_base=rope.pop("rope_theta"),
        **_kind_args(spec),
        **_split_args(split),
        **rope,
        padded_vocab_size=split.padded_vocab,
        make_vocab_size_divisible_by=divisible_by,
        params_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        iteration=1,
        consumed_train_samples=0,
        consumed_valid_samples=0,
    )


def _shape_args(config: Dict[str, Any], spec: ModelSpec) -> Dict[str, Any]:
    grouped = spec.kv_heads != spec.heads
    positions = _figure(config, "max_position_embeddings", 2048)
    return {
        "num_layers": spec.layers,
        "encoder_num_layers": spec.layers,
        "hidden_size": spec.hidden,
        "ffn_hidden_size": spec.ffn,
        "num_attention_heads": spec.heads,
        "kv_channels": spec.head_dim,
        "group_query_attention": grouped,
        "num_query_groups": spec.kv_heads if grouped else 1,
        "vocab_size": spec.vocab,
        "seq_length": positions,
        "max_position_embeddings": positions,
        "rotary_percent": 1.0,
        "norm_epsilon": config.get("rms_norm_eps", 1e-6),
    }


def _kind_args(spec: ModelSpec) -> Dict[str, Any]:
    wanted = {
        "position_embedding_type": "rope",
        "normalization": "RMSNorm",
        "tokenizer_type": "Llama2Tokenizer",
        "num_experts": None,
        "spec": None,
        "add_qkv_bias": spec.qkv_bias,
        "untie_embeddings_and_output_weights": not spec.tied,
    }
    yes = ("add_position_embedding", "use_rotary_position_embeddings", "swiglu", "bert_binary_head", "use_mcore_models")
    no = (
        "add_bias_linear",
        "add_dense_bias",
        "add_output_layer_bias",
        "apply_layernorm_1p",
        "apply_query_key_layer_scaling",
        "embed_layernorm",
        "moe_grouped_gemm",
        "multi_head_latent_attention",
        "post_norm",
        "qk_layernorm",
        "rotary_interleaved",
        "sequence_parallel",
    )
    return {**wanted, **dict.fromkeys(yes, True), **dict.fromkeys(no, False)}


def _split_args(split: Split) -> Dict[str, Any]:
    uneven = len(set(split.layers_per_stage)) > 1
    return {
        "num_layer_list": ",".join(map(str, split.layers_per_stage)) if uneven else None,
        "tensor_model_parallel_size": split.tp,
        "pipeline_model_parallel_size": split.pp,
        "virtual_pipeline_model_parallel_size": None,
        "num_layers_per_virtual_pipeline_stage": None,
        "expert_model_parallel_size": 1,
        "context_parallel_size": 1,
        "world_size": split.tp * split.pp,
        "data_parallel_size": 1,
    }


def _rope_scaling(scaling: Dict[str, Any]) -> Dict[str, Any]:
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind != "llama3":
        return {"rope_scaling_type": None if kind == "default" else kind}
    recorded: Dict[str, Any] = {"rope_scaling_type": "llama3"}
    for key in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"):
        value = scaling.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise WorkerError(
                f"config.json has rope_scaling of type llama3 with {key}={value!r}, not a number",
                "Use the model's own config.json.",
            )
        recorded["rope_scaling_factor" if key == "factor" else key] = value
    return recorded
