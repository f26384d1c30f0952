# SPDX-License-Identifier: GPL-3.0-or-later
"""The model's shape, read from its own config.json and never typed.

What config.json asks for and upstream's dense path does not compute (sliding windows, scaled rope, other biases) is refused here:
training would start and the loss would simply be another model's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from .plan_findings import LARGEST, Findings, as_int, closest


@dataclass(frozen=True)
class Family:
    """What a Hugging Face model type implies: keys that may be absent with their value in transformers, and its biases."""

    qkv_bias: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)
    foreign_biases: Mapping[str, str] = field(default_factory=dict)  # key -> what it would add


_BIASES: Mapping[str, str] = {
    "attention_bias": "biases on all four attention projections",
    "mlp_bias": "biases in the feed-forward layers",
}
FAMILIES: Mapping[str, Family] = {
    "qwen2": Family(qkv_bias=True, defaults={"tie_word_embeddings": False}, foreign_biases=_BIASES),
    "llama": Family(
        qkv_bias=False,
        defaults={"tie_word_embeddings": False, "rope_theta": 10000.0, "rms_norm_eps": 1e-6},
        foreign_biases=_BIASES,
    ),
}

# Key of config.json -> attribute of ModelShape.
SIZES: Mapping[str, str] = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_groups",
    "intermediate_size": "ffn",
    "vocab_size": "vocab",
    "max_position_embeddings": "positions",
}


MOST: Mapping[str, int] = {"num_hidden_layers": 100000}  # each of them is laid out; other sizes are only computed with


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder; all counts, not bytes."""

    type: str
    layers: int
    hidden: int
    heads: int
    kv_groups: int
    ffn: int
    vocab: int
    positions: int
    rope_theta: int
    norm_epsilon: float
    tied: bool
    qkv_bias: bool

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    def padded_vocab(self, tp: int, divisible_by: int = 1) -> int:
        """Return the rows of the embedding after the converter padded it to a multiple of `divisible_by` x TP."""
        step = divisible_by * tp
        return -(-self.vocab // step) * step


def read_shape(config: Mapping[str, Any], findings: Findings) -> Optional[ModelShape]:
    """Read a config.json; None when it cannot be used, with the reasons among the findings."""
    if refuse_unreadable(config, findings):
        return None
    before = len(findings.refusals)
    kind = str(config.get("model_type", ""))
    family = FAMILIES.get(kind)
    if family is None:
        findings.refuse(
            "model-type",
            f"Model type {kind!r} (model_type in config.json) is not one this project can plan.",
            closest(kind, FAMILIES),
            "Choose a model of one of these types.",
        )
        return None
    values = {**family.defaults, **_flattened(config)}
    values.setdefault("num_key_value_heads", values.get("num_attention_heads") if kind == "llama" else None)
    sizes = _sizes(values, findings)
    scalars = _scalars(values, findings)
    _refuse_foreign(values, family, findings)
    if len(findings.refusals) > before:
        return None
    shape = ModelShape(type=kind, qkv_bias=family.qkv_bias, **sizes, **scalars)
    return shape if _consistent(shape, values, findings) else None


def refuse_unreadable(config: Mapping[str, Any], findings: Findings) -> bool:
    """Refuse a file whose only key says why it could not be read (filter plan_config); say whether it is one."""
    why = config.get("unreadable") if len(config) == 1 else None
    if why:
        findings.refuse(
            "config-unreadable",
            f"{why}.",
            remedy="Give the file that belongs to the weights (plan_hf_config, or ascend_staging_model); `git lfs pull` gets a pointer's.",
        )
    return bool(why)


def _flattened(config: Mapping[str, Any]) -> Dict[str, Any]:
    """Return config.json with the rope settings where older transformers wrote them."""
    values = {key: value for key, value in config.items() if value is not None}
    rope = values.get("rope_parameters")
    if isinstance(rope, Mapping):
        values.setdefault("rope_theta", rope.get("rope_theta"))
        if rope.get("rope_type", "default") != "default":
            values.setdefault("rope_scaling", rope)
    return values


def _sizes(values: Mapping[str, Any], findings: Findings) -> Dict[str, Any]:
    sizes: Dict[str, Any] = {}
    for key, name in SIZES.items():
        number = as_int(values.get(key))
        if values.get(key) is None:
            _missing(key, findings)
        elif number is None or not 1 <= number <= MOST.get(key, LARGEST):
            _refuse_value(key, values[key], f"a whole number from 1 to {MOST.get(key, LARGEST)}", findings)
        else:
            sizes[name] = number
    return sizes


def _scalars(values: Mapping[str, Any], findings: Findings) -> Dict[str, Any]:
    tied = values.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        _refuse_value("tie_word_embeddings", tied, "true or false", findings)
    scalars: Dict[str, Any] = {"tied": bool(tied)}
    for key, name in (("rope_theta", "rope_theta"), ("rms_norm_eps", "norm_epsilon")):
        value = values.get(key)
        if value is None:
            _missing(key, findings)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            _refuse_value(key, value, "a number above 0", findings)
        elif key == "rope_theta" and value != int(value):
            _refuse_value(key, value, "a whole number, which is all that --rotary-base takes", findings)
        else:
            scalars[name] = int(value) if key == "rope_theta" else float(value)
    return scalars


def _missing(key: str, findings: Findings) -> None:
    findings.refuse(
        "config-key",
        f"config.json has no {key}.",
        remedy="Take the config.json that belongs to the weights; the plan invents no sizes.",
    )


def _refuse_value(key: str, value: Any, wanted: str, findings: Findings) -> None:
    findings.refuse(
        "config-value",
        f"{key} in config.json is {value!r}, not {wanted}.",
        remedy="Take the config.json of the weights.",
    )


def _refuse_foreign(values: Mapping[str, Any], family: Family, findings: Findings) -> None:
    """Refuse what this model computes and upstream's dense path, as the plan starts it, does not."""
    foreign: List[str] = [
        f"{key} = true ({meaning})" for key, meaning in family.foreign_biases.items() if values.get(key)
    ]
    if _is_scaled(values.get("rope_scaling")):
        foreign.append(f"rope_scaling = {values['rope_scaling']!r} (scaled rotary positions)")
    if values.get("hidden_act", "silu") != "silu":
        foreign.append(f"hidden_act = {values['hidden_act']!r} (the plan starts SwiGLU)")
    quantized = values.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method", quantized) if isinstance(quantized, Mapping) else quantized
        findings.refuse(
            "config-quantized",
            f"config.json has quantization_config ({method}): the conversion reads plain weights only.",
            remedy="Take the model's release without quantization.",
        )
    names = values.get("architectures") or []
    listed = names if isinstance(names, list) else [names]
    strange = [str(name) for name in listed if not str(name).endswith("ForCausalLM")]
    if strange:
        findings.refuse(
            "config-architecture",
            f"architectures in config.json is {', '.join(strange)}, which is no causal language model: its head would be lost.",
            remedy="Take a model whose architecture ends in ForCausalLM.",
        )
    for text in foreign:
        findings.refuse(
            "config-foreign",
            f"config.json asks for {text}, which this training would silently leave out.",
            remedy="Train a model without it.",
        )


def _is_scaled(rope: Any) -> bool:
    """Say whether rope settings scale the positions; the type `default` is the plain ones."""
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, Mapping) else None
    return bool(rope) and kind != "default"


def _consistent(shape: ModelShape, values: Mapping[str, Any], findings: Findings) -> bool:
    before = len(findings.refusals)
    if shape.hidden % shape.heads:
        findings.refuse(
            "config-heads", f"hidden_size {shape.hidden} is not a multiple of num_attention_heads {shape.heads}.",
            remedy="Take the config.json of the weights.",
        )  # fmt: skip
    elif as_int(values.get("head_dim", shape.head_dim)) != shape.head_dim:
        findings.refuse(
            "config-heads",
            f"head_dim {values['head_dim']} in config.json is not hidden_size / num_attention_heads = {shape.head_dim}.",
            remedy="The converter lays out heads of that width only; train a model that has them.",
        )
    if shape.heads % shape.kv_groups:
        findings.refuse(
            "config-heads",
            f"num_attention_heads {shape.heads} is not a multiple of num_key_value_heads {shape.kv_groups}.",
            remedy="Take the config.json of the weights.",
        )
    return len(findings.refusals) == before


def sliding_window(config: Mapping[str, Any]) -> Optional[int]:
    """Return the window of tokens that attention is limited to, where config.json switches that on."""
    return as_int(config.get("sliding_window")) if config.get("use_sliding_window") else None
