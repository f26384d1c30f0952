# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan's tests start from: a small model on two hosts, of which each test changes one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.ascend_fleet.errors import ProblemsError
from ansible.module_utils.ascend_fleet.plan import Choice, Model, Site, plan

ROOT = Path(__file__).resolve().parents[3]
RELEASES = ROOT / "releases"
RECIPES = ROOT / "recipes"
MODELS = Path(__file__).parent / "models.yml"

# Of config.json only what the plan reads.
CODER_7B: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "vocab_size": 152064,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 131072,
}


def load(path: Path) -> dict[str, Any]:
    """Return a file of releases/ or recipes/."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def release(name: str = "2.0.0") -> dict[str, Any]:
    return load(RELEASES / f"{name}.yml")


def model(name: str) -> dict[str, Any]:
    """Return the config.json of a published model, as far as the plan reads it."""
    found = load(MODELS)[name]
    assert isinstance(found, dict)
    return found


def recipe(name: str = "qwen2-lab") -> dict[str, Any]:
    return load(RECIPES / f"{name}.yml")


def config(**changes: Any) -> dict[str, Any]:
    """Return the config.json of a small Qwen2; a value of None takes the key out."""
    small: dict[str, Any] = {
        **CODER_7B,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "max_position_embeddings": 512,
        "vocab_size": 1024,
    }
    return {key: value for key, value in {**small, **changes}.items() if value is not None}


def hosts(count: int = 2, npus: tuple[int, ...] = (2, 3)) -> list[dict[str, Any]]:
    return [
        {"name": f"npu-{number}", "address": f"192.0.2.{10 + number}", "npus": list(npus), "interface": "eth0"}
        for number in range(1, count + 1)
    ]


def make(
    *,
    overrides: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    fleet: list[dict[str, Any]] | None = None,
    model: dict[str, Any] | None = None,
    row: dict[str, Any] | None = None,
    wanted: dict[str, Any] | None = None,
    choice: Choice | None = None,
    tokenizer: dict[str, Any] | None = None,
    **site: Any,
) -> dict[str, Any]:
    """Plan the lab's run with some things changed."""
    changes = {**(overrides or {}), **({"arguments": arguments} if arguments else {})}
    return plan(
        release() if row is None else row,
        recipe() if wanted is None else wanted,
        hosts() if fleet is None else fleet,
        Model(config() if model is None else model, tokenizer),
        changes,
        Site(**{"work_root": "/data/ascend-fleet", **site}),
        choice,
    )


def refused(**changes: Any) -> list[dict[str, str]]:
    """Plan and return the refusals; it is a failure when there are none."""
    with pytest.raises(ProblemsError) as caught:
        make(**changes)
    found: list[dict[str, str]] = caught.value.details["refusals"]
    assert len(found) == len(caught.value.details["problems"])
    return found


def refused_plan(**changes: Any) -> dict[str, Any]:
    """Plan something that is refused and return the plan as far as it went."""
    with pytest.raises(ProblemsError) as caught:
        make(**changes)
    found: dict[str, Any] = caught.value.details["plan"]
    return found
