# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a model is computed: the estimate of its need, what is free, and the way from an NPU to the CPU to nowhere."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import _memory
import pytest
import torch
from _common import WorkerError
from _memory import Need, available_memory, first_with_room, free_on, model_need
from _model import Device

GIB = 1 << 30
NPU, CPU = Device("npu:0", 4, []), Device("cpu", 0, [])
NEED = Need(10 * GIB, GIB, 11 * GIB)
QWEN_14B = types.SimpleNamespace(
    torch_dtype=torch.bfloat16,
    num_hidden_layers=48,
    num_attention_heads=40,
    num_key_value_heads=8,
    hidden_size=5120,
    intermediate_size=13824,
    vocab_size=152064,
)


def free(monkeypatch: pytest.MonkeyPatch, npu: int | None, memory: int | None) -> None:
    monkeypatch.setattr(_memory, "free_on", lambda place: npu if place == "npu:0" else memory)
    monkeypatch.setattr(_memory, "available_memory", lambda: memory)
    monkeypatch.setattr(torch, "npu", types.SimpleNamespace(empty_cache=lambda: None), raising=False)


@pytest.mark.parametrize(
    ("npu", "memory", "place", "remarks"),
    [
        (20, 20, "npu:0", 0),
        (None, None, "npu:0", 0),  # what nobody says is not lacking
        (11, 20, "cpu", 1),  # the weights would fit, the work beside them not
        (20, 10, None, 2),  # the way to the NPU goes through main memory
        (5, 5, None, 2),
    ],
)
def test_auto_takes_the_first_place_with_room(
    monkeypatch: pytest.MonkeyPatch, npu: int | None, memory: int | None, place: str | None, remarks: int
) -> None:
    free(monkeypatch, npu and npu * GIB, memory and memory * GIB)
    done = first_with_room("auto", NPU, NEED, lambda where: f"on {where}", "remedy")
    assert (done.result, done.place, len(done.remarks)) == (place and f"on {place}", place, remarks)


@pytest.mark.parametrize(("wanted", "memory", "asked"), [("auto", 5, "cpu"), ("auto", 20, "auto"), ("npu", 5, "npu")])
def test_an_npu_that_cannot_be_filled_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, wanted: str, memory: int, asked: str
) -> None:
    free(monkeypatch, 20 * GIB, memory * GIB)
    chosen: list[str] = []
    monkeypatch.setattr(_memory, "choose_device", lambda name: chosen.append(name) or CPU)
    assert _memory.device_with_need(wanted, NEED) is CPU
    assert chosen == [asked]


def test_an_estimate_that_was_too_low_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 20 * GIB, 20 * GIB)
    tried: list[str] = []

    def work(place: str) -> str:
        tried.append(place)
        if place == "npu:0":
            raise RuntimeError("NPU out of memory. Tried to allocate 2.00 GiB\nmore words")
        return place

    done = first_with_room("auto", NPU, NEED, work, "remedy")
    assert (done.place, tried) == ("cpu", ["npu:0", "cpu"])
    assert "12.1 GiB on npu:0, 20.0 GiB are free, and it ran out of memory: NPU out of memory" in done.remarks[0]
    assert "more words" not in done.remarks[0]


@pytest.mark.parametrize("error", [RuntimeError("NPU out of memory. Tried"), MemoryError()])
def test_a_device_that_was_asked_for_is_named_when_it_is_full(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    free(monkeypatch, 11 * GIB, 20 * GIB)  # less than the estimate: tried all the same

    def work(place: str) -> str:
        raise error

    with pytest.raises(WorkerError) as caught:
        first_with_room("npu", NPU, NEED, work, "Set the variable.")
    assert "needs about 12.1 GiB on npu:0, 11.0 GiB are free" in caught.value.message
    assert caught.value.remedy == "Set the variable."


def test_other_errors_are_not_about_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 20 * GIB, 20 * GIB)

    def work(place: str) -> str:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        first_with_room("auto", NPU, NEED, work, "remedy")


def test_the_need_of_the_tiny_model(golden: Path) -> None:
    config: Any = types.SimpleNamespace(torch_dtype=torch.bfloat16)
    need = model_need(golden / "tiny_hf", config, 4, 128)
    largest = max(path.stat().st_size for path in (golden / "tiny_hf").glob("*.safetensors"))
    assert need == Need(1001600 * 4, 0, 1001600 * 4 + largest)
    assert model_need(golden / "tiny_hf", config, None, 128).weights == 1001600 * 2


def test_a_long_text_takes_slices_of_scores_and_not_their_square(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(bytes(2000))
    need = model_need(tmp_path, QWEN_14B, 4, 32768)
    assert need.weights == 4000
    scores, kept = 3 * 4 * 40 * 512 * 32768, 2 * 48 * 8 * 128 * 32768 * 4
    assert scores + kept < need.work < 2 * (scores + kept)
    assert need.work < 40 * 32768**2 * 4 / 5


def test_free_memory_of_an_npu(monkeypatch: pytest.MonkeyPatch) -> None:
    npu: Any = types.SimpleNamespace(mem_get_info=lambda: (7, 9))
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    assert free_on("npu:0") == 7
    npu = types.SimpleNamespace(
        get_device_properties=lambda _: types.SimpleNamespace(total_memory=9), memory_reserved=lambda _: 4
    )
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    assert free_on("npu:0") == 5
    monkeypatch.setattr(torch, "npu", types.SimpleNamespace(), raising=False)
    assert free_on("npu:0") is None


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        ({"memory.max": "max\n", "memory.current": "5\n"}, 8 * 1024),
        ({"memory.max": "4000\n", "memory.current": "3000\n", "memory.stat": "active_file 5\ninactive_file 7\n"}, 1012),
        ({"memory/memory.limit_in_bytes": "4000", "memory/memory.usage_in_bytes": "5000"}, 0),
        ({}, 8 * 1024),
    ],
)
def test_a_limit_of_the_container_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: dict[str, str], wanted: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:    8 kB\nHugePages_Total: 0\n")
    for name, text in limit.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "CGROUP", tmp_path)
    assert available_memory() == wanted
