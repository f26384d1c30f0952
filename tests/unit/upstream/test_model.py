# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's model and dataset: made from the standard library, the same each time, and refused when not trained enough."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lab.model import build, corpus

pytestmark = pytest.mark.xdist_group("upstream")


def test_dataset_has_900_rows_of_two_texts(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "x.jsonl", tmp_path / "b.jsonl"
    assert build.build_dataset(first) == build.build_dataset(second) == 900
    assert first.read_bytes() == second.read_bytes()
    rows = [json.loads(line) for line in first.read_text(encoding="utf-8").split("\n")[:-1]]
    assert len(rows) == 900
    assert all(set(row) == {"instruction", "output"} and row["instruction"] and row["output"] for row in rows)
    assert sum(not row["output"].isascii() for row in rows) >= 90
    assert sum(not row["instruction"].isascii() for row in rows) >= 100
    assert all(row["output"].startswith(("def ", "async def ")) for row in rows)


def test_shares_have_no_module_in_common() -> None:
    ours, others = set(corpus.modules(for_dataset=True)), set(corpus.modules(for_dataset=False))
    assert not ours & others
    assert len(ours) > 100
    assert len(others) > len(ours)


def test_too_little_training_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_imports: None
) -> None:
    monkeypatch.setattr(build, "STEPS", 2)
    monkeypatch.setattr(build, "TOKENIZER_MODULES", 30)
    monkeypatch.setattr(build, "MEASURED", 16)
    with pytest.raises(ValueError, match="it must be at most 5.431"):
        build.build_model(tmp_path / "model", lambda message: None)
    assert list(tmp_path.iterdir()) == []


def test_saved_model_is_the_trained_one_in_shards_with_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_imports: None
) -> None:
    monkeypatch.setattr(build, "STEPS", 12)
    monkeypatch.setattr(build, "TOKENIZER_MODULES", 30)
    monkeypatch.setattr(build, "MEASURED", 16)
    monkeypatch.setattr(build, "REQUIRED_MARGIN", 0.2)
    said: list[str] = []
    target = tmp_path / "models" / "qwen2"
    loss = build.build_model(target, said.append)
    assert loss < math.log(build.VOCABULARY) - 0.2
    assert len(list(target.glob("model-0000?-of-0000?.safetensors"))) > 2
    assert (target / "model.safetensors.index.json").exists()
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in target.iterdir())
    words = AutoTokenizer.from_pretrained(target)
    assert len(words) == build.VOCABULARY
    assert words.decode(words("def f(x):\n    return x  # 函数")["input_ids"]) == "def f(x):\n    return x  # 函数"
    model = AutoModelForCausalLM.from_pretrained(target, torch_dtype="auto")
    assert (model.dtype, model.config.rope_theta, model.config.eos_token_id) == (
        torch.bfloat16,
        1e6,
        words.eos_token_id,
    )
    assert build.mean_loss(model, build._token_stream(words.backend_tokenizer, for_dataset=True)) == pytest.approx(loss)
    assert said[-1].startswith(f"model: loss {loss:.3f}, ")
