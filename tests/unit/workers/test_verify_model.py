# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification of a model: what it shows of a good one, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import _model
import convert_checkpoint
import pytest
import torch
import verify_model
from safetensors.torch import load_file, save_file

LAST = "model-00006-of-00006.safetensors"
pytestmark = pytest.mark.usefixtures("model_imports")


@pytest.fixture
def model(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden / "tiny_hf", tmp_path / "hf"))


def run(model: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> dict[str, Any]:
    assert verify_model.main(["--model", str(model), "--json", *more]) == code
    answer: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return answer


def test_good_model_on_the_cpu(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(golden / "tiny_hf", capsys, "--device", "cpu")
    assert (result["architecture"], result["parameters"], result["dtype"]) == ("Qwen2ForCausalLM", 1001600, "bfloat16")
    assert result["logits"]["finite"]
    assert result["logits"]["lowest"] < result["logits"]["highest"]
    assert result["tokenizer"]["eod"] == 997
    assert result["structure"][0] == "Qwen2ForCausalLM("


def test_good_model_by_structure_alone(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(golden / "tiny_hf", capsys, "--device", "meta")
    assert (result["device"], result["parameters"], result["logits"]) == ("meta", 1001600, None)


def test_rotary_base_as_newer_transformers_write_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The values of a model do not depend on which version wrote its config.json, nor on which one reads it."""
    before = run(model, capsys, "--device", "cpu")
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    base = config.pop("rope_theta")
    assert base != 10000, "so that the default could not pass"
    path.write_text(json.dumps({**config, "rope_parameters": {"rope_type": "default", "rope_theta": base}}))
    assert _model.load_config(model, False).rope_theta == base
    assert run(model, capsys, "--device", "cpu")["logits"] == before["logits"]


def test_converter_verifies_a_model_in_the_same_way(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["verify", "--hf", str(golden / "tiny_hf"), "--device", "cpu"]
    assert convert_checkpoint.main([*line, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["architecture"], result["device"], result["logits"]["finite"]) == ("Qwen2ForCausalLM", "cpu", True)
    assert convert_checkpoint.main(line) == 0
    assert capsys.readouterr().out.startswith("Qwen2ForCausalLM(\n")
    assert convert_checkpoint.main([*line, "--mcore", str(golden), "--tp", "1", "--json"]) == 1
    assert "--tp and --pp" in json.loads(capsys.readouterr().out)["error"]


def test_model_larger_than_memory_is_checked_by_structure(
    golden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("_memory.available_memory", lambda: 1000)
    result = run(golden / "tiny_hf", capsys)
    assert (result["device"], result["logits"]) == ("meta", None)
    assert "does not fit" in result["warnings"][1]
    refused = run(golden / "tiny_hf", capsys, "--device", "cpu", code=1)
    assert "on cpu, 0.0 MiB are free" in refused["error"]
    assert "model_weights_device" in refused["remedy"]


def change(model: Path, edit: Any) -> None:
    tensors = load_file(model / LAST)
    edit(tensors)
    save_file(tensors, model / LAST, {"format": "pt"})


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_missing_weight(model: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    """transformers would fill it with random numbers and go on."""
    change(model, lambda tensors: tensors.update({"lm_head.weights": tensors.pop("lm_head.weight")}))
    index = json.loads((model / "model.safetensors.index.json").read_text())
    index["weight_map"]["lm_head.weights"] = index["weight_map"].pop("lm_head.weight")
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lm_head.weight" in run(model, capsys, "--device", device, code=1)["error"]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weight_of_another_shape(model: Path, capsys: pytest.CaptureFixture[str], device: str) -> None:
    change(model, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(1000, 128).bfloat16()}))
    answer = run(model, capsys, "--device", device, code=1)
    assert "1000" in answer["error"] or "shape" in answer["error"] or "size" in answer["error"]


def test_weights_that_are_not_finite(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(model, lambda tensors: tensors["lm_head.weight"][3].fill_(float("nan")))
    assert "logits are NaN or Inf" in run(model, capsys, "--device", "cpu", code=1)["error"]


def test_truncated_shard(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / LAST).write_bytes((model / LAST).read_bytes()[:-1000])
    for device in ("cpu", "meta"):
        assert run(model, capsys, "--device", device, code=1)["remedy"]


def test_pickled_weights_only_when_allowed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(model.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    (model / "model.safetensors.index.json").unlink()
    torch.save(tensors, model / "pytorch_model.bin")
    assert "--allow-pickle" in run(model, capsys, "--device", "cpu", code=1)["remedy"]
    assert run(model, capsys, "--device", "cpu", "--allow-pickle")["parameters"] == 1001600


def test_code_of_the_model_runs_only_when_trusted(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads((model / "config.json").read_text())
    settings |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    (model / "config.json").write_text(json.dumps(settings))
    (model / "own.py").write_text(f"open({str(model / 'mark')!r}, 'w')\n")
    assert "--trust-remote-code" in run(model, capsys, "--device", "cpu", code=1)["remedy"]
    assert not (model / "mark").exists()


def test_tokenizer_of_another_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"vocab_size": 60}))
    assert "the model has 60" in run(model, capsys, "--device", "cpu", code=1)["error"]


def fake_npu(monkeypatch: pytest.MonkeyPatch, count: int, error: str | None = None) -> list[int]:
    """A torch.npu that counts ``count`` devices; torch itself knows no device type npu here, or fails with ``error``."""
    chosen: list[int] = []

    def set_device(number: int) -> None:
        if error:
            raise RuntimeError(error)
        chosen.append(number)

    npu = types.SimpleNamespace(device_count=lambda: count, set_device=set_device)
    monkeypatch.setitem(sys.modules, "torch_npu", types.ModuleType("torch_npu"))
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    return chosen


def test_npu_that_computes_on_the_cpu_is_held_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = fake_npu(monkeypatch, 2)
    device = _model.choose_device("auto")
    assert (device.name, device.npus, chosen) == ("cpu", 2, [0])
    assert "2 NPU(s)" in device.warnings[0]


def test_npu_that_fails_is_no_reason_to_take_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npu(monkeypatch, 1, "NPU error, error code is 507033")
    with pytest.raises(_model.WorkerError, match="507033"):
        _model.choose_device("auto")


def test_npu_that_is_full_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npu(monkeypatch, 1, "NPU out of memory. Tried to allocate 2.00 MiB")
    device = _model.choose_device("auto")
    assert (device.name, len(device.warnings)) == ("cpu", 1)
    with pytest.raises(_model.WorkerError, match="out of memory"):
        _model.choose_device("npu")


def test_npu_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npu(monkeypatch, 0)
    assert _model.choose_device("auto").name == "cpu"
    with pytest.raises(_model.WorkerError, match="offers no NPU"):
        _model.choose_device("npu")
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    with pytest.raises(_model.WorkerError, match="cannot be imported"):
        _model.choose_device("npu")
    assert _model.choose_device("auto").npus == 0
