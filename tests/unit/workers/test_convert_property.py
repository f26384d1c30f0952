# SPDX-License-Identifier: GPL-3.0-or-later
"""Every layout: the Megatron tensors are derived a second way, and the way back gives the same model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import _to_hf
import _to_mcore
import torch
from _layout import Split, hf_shapes, rank_targets
from _mcore import load_rank
from _model_config import model_spec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from .tiny import config, weights, write_model

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A model and a way to cut it that fits."""
    tp = draw(st.sampled_from([1, 2, 4]))
    groups = tp * draw(st.integers(1, 2))
    heads = groups * draw(st.sampled_from([1, 2, 3]))
    stages = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    model = config(
        architectures=[draw(st.sampled_from(["Qwen2ForCausalLM", "LlamaForCausalLM"]))],
        num_attention_heads=heads,
        num_key_value_heads=groups,
        hidden_size=heads * draw(st.sampled_from([2, 4])),
        intermediate_size=tp * draw(st.integers(1, 5)),
        num_hidden_layers=sum(stages),
        vocab_size=draw(st.integers(1, 41)),
        tie_word_embeddings=draw(st.booleans()),
        torch_dtype=draw(st.sampled_from(["bfloat16", "float16"])),
    )
    shards = draw(st.integers(1, 3))
    return {"config": model, "tp": tp, "stages": stages, "shards": shards, "multiple": draw(st.integers(1, 3))}


def whole_megatron(
    model: dict[str, Any], tensors: dict[str, torch.Tensor], tp: int, multiple: int
) -> dict[str, list[torch.Tensor]]:
    """Each Megatron tensor of the whole model by its global key, one entry a tensor parallel rank (as facts say it)."""
    heads, groups, hidden = model["num_attention_heads"], model["num_key_value_heads"], model["hidden_size"]
    dim = hidden // heads

    def qkv(layer: int, kind: str) -> torch.Tensor:
        q, k, v = (tensors[f"model.layers.{layer}.self_attn.{name}_proj.{kind}"] for name in "qkv")
        tail = [hidden] if kind == "weight" else []
        parts = [
            q.reshape(groups, dim * heads // groups, *tail),
            k.reshape(groups, dim, *tail),
            v.reshape(groups, dim, *tail),
        ]
        return torch.cat(parts, dim=1).reshape(-1, *tail)

    def vocabulary(name: str) -> list[torch.Tensor]:
        rows = tensors[name]
        step = multiple * tp
        missing = -len(rows) % step
        return list(torch.cat([rows, rows[-1:].expand(missing, -1)]).chunk(tp))

    result = {"embedding": vocabulary("model.embed_tokens.weight"), "norm": [tensors["model.norm.weight"]] * tp}
    result["output"] = vocabulary("lm_head.weight" if not model["tie_word_embeddings"] else "model.embed_tokens.weight")
    for layer in range(model["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        gate, up = tensors[at + "mlp.gate_proj.weight"].chunk(tp), tensors[at + "mlp.up_proj.weight"].chunk(tp)
        result |= {
            f"{layer}.input_layernorm.weight": [tensors[at + "input_layernorm.weight"]] * tp,
            f"{layer}.pre_mlp_layernorm.weight": [tensors[at + "post_attention_layernorm.weight"]] * tp,
            f"{layer}.self_attention.linear_qkv.weight": list(qkv(layer, "weight").chunk(tp)),
            f"{layer}.self_attention.linear_proj.weight": list(tensors[at + "self_attn.o_proj.weight"].chunk(tp, 1)),
            f"{layer}.mlp.linear_fc1.weight": [torch.cat(pair) for pair in zip(gate, up, strict=True)],
            f"{layer}.mlp.linear_fc2.weight": list(tensors[at + "mlp.down_proj.weight"].chunk(tp, 1)),
        }
        if model["architectures"] == ["Qwen2ForCausalLM"]:
            result[f"{layer}.self_attention.linear_qkv.bias"] = list(qkv(layer, "bias").chunk(tp))
    return result


def global_key(key: str, first_layer: int) -> str:
    if key.startswith("decoder.layers."):
        _, _, number, rest = key.split(".", 3)
        return f"{int(number) + first_layer}.{rest}"
    return {"embedding.word_embeddings.weight": "embedding", "output_layer.weight": "output"}.get(key, "norm")


@QUICK
@given(cases())
def test_conversion_is_right_and_reversible(case: dict[str, Any]) -> None:
    model, tp, stages = case["config"], case["tp"], case["stages"]
    tensors = weights(model, getattr(torch, model["torch_dtype"]), seed=len(stages))
    wanted = whole_megatron(model, tensors, tp, case["multiple"])
    with tempfile.TemporaryDirectory() as place:
        source = write_model(Path(place, "hf"), model, tensors, case["shards"])
        out = Path(place, "mcore")
        _to_mcore.convert(source, out, tp, len(stages), layers_per_stage=stages, divisible_by=case["multiple"])
        found: set[str] = set()
        for tp_rank, pp_rank in Split(tp, tuple(stages), 0).ranks():
            directory = Split(tp, tuple(stages), 0).rank_directory(tp_rank, pp_rank)
            state = torch.load(out / "release" / directory / "model_optim_rng.pt", weights_only=False)
            for key, value in state["model"].items():
                if value is not None:
                    name = global_key(key, sum(stages[:pp_rank]))
                    assert torch.equal(value, wanted[name][tp_rank]), key
                    assert value.is_contiguous()
                    found.add(name)
        stored = set(wanted) - ({"output"} if model["tie_word_embeddings"] and len(stages) == 1 else set())
        assert found == stored
        _to_hf.convert(out, source, Path(place, "back"))
        back: dict[str, torch.Tensor] = {}
        for file in sorted(Path(place, "back").glob("*.safetensors")):
            back |= load_file(file)
        assert set(back) == set(tensors)
        assert all(torch.equal(back[name], tensors[name]) for name in tensors)


@QUICK
@given(cases())
def test_pieces_cover_each_weight_once_per_copy(case: dict[str, Any]) -> None:
    """Counting rectangles: no element of the model is left out, and none stands twice on one copy."""
    spec = model_spec(case["config"])
    step = case["tp"] * case["multiple"]
    split = Split(case["tp"], tuple(case["stages"]), -(-spec.vocab // step) * step)
    covered: dict[str, torch.Tensor] = {name: torch.zeros(shape) for name, shape in hf_shapes(spec).items()}
    for rank in split.ranks():
        for target in rank_targets(spec, split, *rank):
            assert sum(piece.length for piece in target.pieces) == target.shape[0]
            for piece in target.pieces:
                if piece.padding:
                    continue
                region = covered[piece.source][piece.rows[0] : piece.rows[1]]
                region = region if piece.columns is None else region[:, piece.columns[0] : piece.columns[1]]
                region += 1
    for name, count in covered.items():
        copies = split.tp if count.dim() == 1 and not name.endswith(".bias") else 1
        copies += name == "model.embed_tokens.weight" and spec.tied and split.pp > 1
        assert torch.all(count == copies), name


@QUICK
@given(st.sampled_from(["bf16", "fp16", "fp32"]), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_values_pass_through_the_models_own_type(dtype: str, stored: torch.dtype) -> None:
    """Upstream loads in float32, casts to config.json's torch_dtype, then to the asked type."""
    model = config(num_hidden_layers=1, torch_dtype="bfloat16")
    tensors = weights(model, stored)
    target = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    with tempfile.TemporaryDirectory() as place:
        source = write_model(Path(place, "hf"), model, tensors, 1)
        result = _to_mcore.convert(source, Path(place, "out"), 1, 1, dtype=dtype)
        state = torch.load(Path(place, "out", "release", "mp_rank_00", "model_optim_rng.pt"), weights_only=False)
    assert result["dtype"] == dtype
    wanted = tensors["model.norm.weight"].float().to(torch.bfloat16).to(target)
    assert torch.equal(state["model"]["decoder.final_layernorm.weight"], wanted)
    assert state["args"].params_dtype == target


def test_configuration_of_newer_transformers(tmp_path: Path) -> None:
    """From 4.56 on the type is written as dtype, from 5 on the rotary base among the rope_parameters."""
    rope = {"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope["original_max_position_embeddings"] = 8192
    newer = config(torch_dtype=None, dtype="bfloat16", rope_theta=None, rope_parameters=rope)
    model = write_model(tmp_path / "hf", newer, weights(newer, torch.float32))
    result = _to_mcore.convert(model, tmp_path / "out", 1, 1)
    assert (result["dtype"], result["rotary_base"]) == ("bf16", 5e5)
    recorded = vars(load_rank(tmp_path / "out" / "release" / "mp_rank_00" / "model_optim_rng.pt")["args"])
    assert (recorded["rope_scaling_type"], recorded["rope_scaling_factor"]) == ("llama3", 8.0)
