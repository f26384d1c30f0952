# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be converted is named before anything is written."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _to_hf
import _to_mcore
import _values
import _verify_mcore
import convert_checkpoint
import pytest
import torch
from _common import WorkerError

from .tiny import config, make_model, weights, write_model

FIRST = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "hf")


def refused(source: Path, out: Path, tp: int = 1, pp: int = 1, **options: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        _to_mcore.convert(source, out, tp, pp, **options)
    assert not out.exists()
    return caught.value


@pytest.mark.parametrize(
    ("tp", "pp", "stages", "words"),
    [
        (3, 1, None, "4 attention heads cannot be divided by TP 3"),
        (4, 1, None, "2 key/value heads cannot be divided by TP 4"),
        (1, 3, None, "4 layers cannot be divided by PP 3"),
        (1, 2, [1, 2], "do not give 2 stages and 4 layers"),
        (1, 2, [4], "do not give 2 stages and 4 layers"),
        (1, 2, [4, 0], "do not give 2 stages and 4 layers"),
        (0, 1, None, "must be 1 or more"),
    ],
)
def test_sizes_that_do_not_divide(model: Path, tmp_path: Path, tp: int, pp: int, stages: Any, words: str) -> None:
    error = refused(model, tmp_path / "out", tp, pp, layers_per_stage=stages)
    assert words in error.message
    assert error.remedy


def test_intermediate_size_that_does_not_divide(tmp_path: Path) -> None:
    source = make_model(tmp_path / "hf", intermediate_size=25)
    assert "25 intermediate size" in refused(source, tmp_path / "out", 2).message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["Qwen2MoeForCausalLM"]}, "Qwen2MoeForCausalLM is not converted natively"),
        ({"architectures": None}, "(none) is not converted natively"),
        ({"architectures": 5}, "(none) is not converted natively"),
        ({"architectures": ["LlamaForCausalLM"], "attention_bias": True}, "attention_bias=True"),
        ({"architectures": ["LlamaForCausalLM"], "mlp_bias": True}, "mlp_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"head_dim": 8}, "head_dim=8 differs"),
        ({"num_hidden_layers": "four"}, "num_hidden_layers='four'"),
        ({"num_key_value_heads": 3}, "do not divide"),
        ({"rope_scaling": "yarn"}, "rope_scaling='yarn', not an object"),
        ({"rope_theta": None, "rope_parameters": [1]}, "rope_parameters=[1], not an object"),
        ({"rope_theta": "1e6"}, "rope_theta='1e6', not a positive number"),
        ({"rope_scaling": {"rope_type": "llama3", "low_freq_factor": 1.0}}, "llama3 with factor=None, not a number"),
        ({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": "1"}}, "low_freq_factor='1'"),
    ],
)
def test_models_of_another_kind(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    source = make_model(tmp_path / "hf")
    (source / "config.json").write_text(json.dumps(config(**changes)))
    assert words in refused(source, tmp_path / "out").message


def _pointer(source: Path) -> None:
    (source / FIRST).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")


def _truncate(source: Path) -> None:
    data = (source / FIRST).read_bytes()
    (source / FIRST).write_bytes(data[:-10])


def _cut_header(source: Path) -> None:
    (source / FIRST).write_bytes((source / FIRST).read_bytes()[:40])


def _append(source: Path) -> None:
    with (source / FIRST).open("ab") as handle:
        handle.write(b"more")


def _spoil_header(source: Path) -> None:
    data = bytearray((source / FIRST).read_bytes())
    data[8] = ord("?")
    (source / FIRST).write_bytes(data)


def _edit_index(source: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((source / INDEX).read_text())
    change(index)
    (source / INDEX).write_text(json.dumps(index))


def _misplace(source: Path) -> None:
    _edit_index(source, lambda index: index["weight_map"].update({"model.norm.weight": FIRST}))


def _invent(source: Path) -> None:
    _edit_index(source, lambda index: index["weight_map"].update({"model.extra.weight": FIRST}))


def _escape(source: Path) -> None:
    _edit_index(source, lambda index: index["weight_map"].update({"model.norm.weight": "../x.safetensors"}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_pointer, "git-lfs pointer"),
        (_truncate, "truncated or damaged"),
        (_cut_header, "its header does not fit"),
        (_append, "truncated or damaged"),
        (_spoil_header, "damaged header"),
        (lambda source: (source / FIRST).unlink(), "does not exist"),
        (lambda source: (source / FIRST).write_bytes(b""), "its header does not fit"),
        (lambda source: (source / INDEX).unlink(), "neither model.safetensors.index.json nor model.safetensors"),
        (lambda source: (source / INDEX).write_text("{"), "not JSON"),
        (lambda source: (source / INDEX).write_text("{}"), "no weight_map"),
        (lambda source: (source / INDEX).write_text("version https://git-lfs.github.com/spec/v1\n"), "git-lfs pointer"),
        (lambda source: (source / INDEX).write_text("[]"), "no weight_map"),
        (
            lambda source: (source / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "config.json is a git-lfs pointer",
        ),
        (lambda source: (source / "config.json").unlink(), "config.json does not exist"),
        (_misplace, "says model.norm.weight is in"),
        (_invent, "says model.extra.weight is in"),
        (_escape, "points outside"),
    ],
)
def test_damaged_directories(model: Path, tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(model)
    error = refused(model, tmp_path / "out")
    assert words in error.message


def test_pickled_weights_are_not_read(model: Path, tmp_path: Path) -> None:
    for path in model.glob("*.safetensors*"):
        path.unlink()
    (model / "pytorch_model.bin").write_bytes(b"x")
    assert "pickled weights" in refused(model, tmp_path / "out").message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("lm_head.weight"), "tensor lm_head.weight is in no shard"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.zeros(15)}), "has shape [15]"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.zeros(16, dtype=torch.int32)}), "has the type"),
        (lambda tensors: tensors.update({"model.layers.0.mlp.gate.weight": torch.zeros(2)}), "does not belong to"),
    ],
)
def test_wrong_tensors(tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], None], words: str) -> None:
    tensors = weights(config(), torch.bfloat16)
    change(tensors)
    source = write_model(tmp_path / "hf", config(), tensors)
    assert words in refused(source, tmp_path / "out").message


def edit_header(source: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a model's only shard; the data stays."""
    raw = (source / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (source / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def test_tensor_described_with_too_few_bytes(tmp_path: Path) -> None:
    source = make_model(tmp_path / "hf", shards=1)
    edit_header(source, lambda header: header["model.norm.weight"].update(shape=[17]))
    assert "model.norm.weight of shape [17]" in refused(source, tmp_path / "out").message


@pytest.mark.parametrize("place", ["the other's", "further on"])
def test_tensors_that_overlap_or_leave_a_gap(tmp_path: Path, place: str) -> None:
    """Of two tensors of one size the first takes the place of the second, or half of its own and half of the second's."""
    source = make_model(tmp_path / "hf", shards=1)
    first, second = (f"model.layers.{layer}.input_layernorm.weight" for layer in (0, 1))

    def change(header: dict[str, Any]) -> None:
        offsets = header[first]["data_offsets"]
        new = header[second]["data_offsets"] if place == "the other's" else [offset + 16 for offset in offsets]
        header[first]["data_offsets"] = new

    edit_header(source, change)
    message = refused(source, tmp_path / "out").message
    assert "damaged header: tensor model." in message
    assert "the one before it ends at" in message


def test_old_rotary_tables_are_left_out(tmp_path: Path) -> None:
    tensors = weights(config(), torch.bfloat16) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    source = write_model(tmp_path / "hf", config(), tensors)
    assert _to_mcore.convert(source, tmp_path / "out", 1, 1)["parameters"] == sum(
        tensor.numel() for name, tensor in tensors.items() if "inv_freq" not in name
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", ["equal", "other values", "other shape"])
def test_output_layer_of_a_tied_model_is_a_warning_where_it_differs(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    settings = config(tie_word_embeddings=True)
    tensors = weights(settings, torch.bfloat16)
    head = tensors["model.embed_tokens.weight"].to(dtype, copy=True)
    head[30, 15] += kind == "other values"
    tensors["lm_head.weight"] = head[:30].clone() if kind == "other shape" else head
    source = write_model(tmp_path / "hf", settings, tensors)
    warnings = _to_mcore.convert(source, tmp_path / "out", 1, 1)["warnings"]
    if kind == "equal":
        assert warnings == []
    else:
        assert "lm_head.weight" in warnings[0]
        assert "it is left out" in warnings[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_finite_means_what_torch_means(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert _values.is_finite(torch.tensor([0.0, -0.0, largest, -largest, torch.finfo(dtype).tiny], dtype=dtype))
    for value in (float("nan"), -float("nan"), float("inf"), -float("inf")):
        tensor = torch.zeros(3, (1 << 20) // 2, dtype=dtype)
        tensor[2, -1] = value
        assert not _values.is_finite(tensor)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_inf_are_a_warning(tmp_path: Path, value: float) -> None:
    tensors = weights(config(), torch.bfloat16)
    tensors["model.layers.2.mlp.up_proj.weight"][3, 3] = value
    source = write_model(tmp_path / "hf", config(), tensors)
    (warning,) = _to_mcore.convert(source, tmp_path / "out", 1, 2)["warnings"]
    assert "model.layers.2.mlp.up_proj.weight" in warning


@pytest.mark.parametrize(("own", "dtype"), [("bfloat16", "fp16"), ("float16", "bf16")])
def test_values_too_large_for_float16_are_a_warning(tmp_path: Path, own: str, dtype: str) -> None:
    """On the way in, where the target or the model's own type is float16, and when the result is verified."""
    settings = config(torch_dtype=own)
    tensors = weights(settings, torch.bfloat16)
    name = "model.layers.2.self_attn.k_proj.weight"
    tensors[name][3, 3] = 1e5  # of the first of two groups
    source = write_model(tmp_path / "hf", settings, tensors)
    (warning,) = _to_mcore.convert(source, tmp_path / "out", 1, 2, dtype=dtype)["warnings"]
    assert name in warning
    assert "too large for float16" in warning
    result = _verify_mcore.verify(source, tmp_path / "out", 1, 2, dtype=dtype)
    assert result["equal"]
    assert result["warnings"] == [f"tensor {name} holds NaN or Inf in the checkpoint"]


def test_nan_is_exported_with_a_warning(tmp_path: Path) -> None:
    """Copies that are the same NaN do not differ; padding of the vocabulary is not looked at."""
    tensors = weights(config(), torch.bfloat16)
    for name in ("model.norm.weight", "lm_head.weight"):
        tensors[name][3] = float("nan")
    source = write_model(tmp_path / "hf", config(), tensors)
    _to_mcore.convert(source, tmp_path / "out", 2, 1)
    warnings = _to_hf.convert(tmp_path / "out", source, tmp_path / "back")["warnings"]
    assert sorted(warning.split()[1] for warning in warnings) == ["lm_head.weight", "model.norm.weight"]


def test_trained_values_too_large_for_the_reference_are_a_warning(tmp_path: Path) -> None:
    tensors = weights(config(torch_dtype=None), torch.float32)
    tensors["model.norm.weight"][3] = 1e5
    source = write_model(tmp_path / "hf", config(torch_dtype=None), tensors)
    _to_mcore.convert(source, tmp_path / "out", 1, 1)
    reference = make_model(tmp_path / "reference", dtype=torch.float16)
    (warning,) = _to_hf.convert(tmp_path / "out", reference, tmp_path / "back")["warnings"]
    assert "model.norm.weight" in warning


def test_too_little_disk(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    assert "free, the output" in refused(model, tmp_path / "out").message


def test_output_that_holds_something(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(WorkerError, match="is not empty"):
        _to_mcore.convert(model, tmp_path / "out", 1, 1)
    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_rank_that_does_not_exist(model: Path, tmp_path: Path) -> None:
    assert "rank 2_0 does not exist" in refused(model, tmp_path / "out", 2, ranks=[(2, 0)]).message


def test_program_reports_an_error_as_json(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["hf2mcore", "--hf", str(model), "--out", str(tmp_path / "out"), "--tp", "3", "--pp", "1", "--json"]
    assert convert_checkpoint.main(line) == 1
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(answer) == {"error", "remedy"}
    assert convert_checkpoint.main(line[:-1]) == 1
    assert "cannot be divided" in capsys.readouterr().err
