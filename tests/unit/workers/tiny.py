# SPDX-License-Identifier: GPL-3.0-or-later
"""Small Hugging Face models for tests, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


def config(**changes: Any) -> dict[str, Any]:
    """config.json of a Qwen2 model of 4 layers; ``changes`` replace entries, None removes one."""
    base: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 24,
        "vocab_size": 31,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 64,
        "hidden_act": "silu",
    }
    base.update(changes)
    return {key: value for key, value in base.items() if value is not None}


def weights(settings: dict[str, Any], dtype: torch.dtype, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random tensors under the names transformers gives them."""
    random = torch.Generator().manual_seed(seed)
    hidden, ffn, vocab = settings["hidden_size"], settings["intermediate_size"], settings["vocab_size"]
    kv = hidden // settings["num_attention_heads"] * settings["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    for layer in range(settings["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = shapes[at + "post_attention_layernorm.weight"] = (hidden,)
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (rows, hidden)
            if settings["architectures"] == ["Qwen2ForCausalLM"]:
                shapes[f"{at}self_attn.{name}_proj.bias"] = (rows,)
        shapes[at + "self_attn.o_proj.weight"] = (hidden, hidden)
        shapes[at + "mlp.gate_proj.weight"] = shapes[at + "mlp.up_proj.weight"] = (ffn, hidden)
        shapes[at + "mlp.down_proj.weight"] = (hidden, ffn)
    if not settings["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    return {name: torch.randn(shape, generator=random).to(dtype) for name, shape in shapes.items()}


def write_model(directory: Path, settings: dict[str, Any], tensors: dict[str, torch.Tensor], shards: int = 2) -> Path:
    """Write config.json, ``shards`` safetensors files and, for more than one, their index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(settings))
    names = list(tensors)
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        return directory
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        mine = names[number::shards]
        save_file({name: tensors[name] for name in mine}, directory / file, {"format": "pt"})
        weight_map.update(dict.fromkeys(mine, file))
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def make_model(directory: Path, shards: int = 2, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
    settings = config(**changes)
    return write_model(directory, settings, weights(settings, dtype), shards)
