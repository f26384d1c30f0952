# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot come out right is refused by the plan of the real site.yml, on the lab's own inventory, before a server is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.runs import Run, run_playbook

# Qwen2-like: 8 heads, 4 key/value heads, 4 layers.
MODEL = ROOT / "tests" / "data" / "golden" / "tiny_hf" / "config.json"


def planned(tmp_path: Path, config: dict[str, Any] | None = None, **variables: Any) -> Run:
    """Run site.yml --tags plan where no server can be reached: their addresses lead nowhere."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(MODEL.read_text(encoding="utf-8")), **(config or {})}), encoding="utf-8")
    return run_playbook(
        tmp_path,
        "site.yml",
        ROOT / "inventory" / "lab",
        "--tags plan",
        ansible_host="{{ inventory_hostname }}.invalid",
        plan_hf_config=str(path),
        plan_output="",
        **variables,
    )


def refusals(run: Run) -> list[dict[str, str]]:
    """Return what the plan refused."""
    ((_, result),) = list(run.results("run_plan", ("runner_on_failed",)))
    found: list[dict[str, str]] = result["refusals"]
    return found


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = {
    "TP 3": (
        {"training_tp": 3, "training_pp": 1},
        {},
        [
            ("tensor-parallel", "TP 3 does not divide the model's 8 attention heads and 4 key/value groups"),
            ("sequence", "128 cannot be divided over TP 3"),
            ("world-size", "4 NPUs on 2 hosts"),
        ],
    ),
    "key/value heads": (
        {"training_tp": 2, "training_pp": 2},
        {"num_key_value_heads": 1},
        [("tensor-parallel", "TP 2 does not divide the model's 1 key/value groups")],
    ),
    "PP over the layers": (
        {"training_tp": 1, "training_pp": 4},
        {"num_hidden_layers": 6},
        [("pipeline", "6 layers cannot be divided evenly into PP 4 stages")],
    ),
    "an unknown release": ({"mindspeed_release": "2.0"}, {}, [("release-unknown", "There is no release '2.0'")]),
    "an unknown recipe": ({"training_recipe": "qwen2-lba"}, {}, [("recipe-unknown", "There is no recipe 'qwen2-lba'")]),
    # The example scripts ask for 32768 tokens, for which two cards a stage are too small: what fits is said.
    "a sequence that does not fit": (
        {"training_recipe": "qwen2.5-coder-7b-32k", "run_plan_hbm_mb": 32768},
        {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "num_hidden_layers": 28,
            "vocab_size": 152064,
            "max_position_embeddings": 32768,
        },
        [("memory", "GiB")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_before_a_server_is_touched(tmp_path: Path, name: str) -> None:
    variables, config, expected = CASES[name]
    run = planned(tmp_path, config, **variables)
    assert run.rc != 0
    assert run.changed() == {}
    assert run.stats.get("dark", {}) == {}, "no server was called"
    found = refusals(run)
    assert [item["code"] for item in found] == [code for code, _ in expected]
    for item, (_, words) in zip(found, expected):
        assert words in item["what"]
        assert item["nearest"] or item["remedy"]
    (problem,) = run.problems
    assert problem["hosts"] == ["localhost"]
    assert len(problem["parts"]) == len(expected)


def test_everything_that_is_wrong_is_in_one_report(tmp_path: Path) -> None:
    run = planned(tmp_path, {"num_key_value_heads": 2}, mindspeed_release="9.9", training_tp=3, training_pp=3)
    assert run.rc != 0
    (problem,) = run.problems
    codes = {item["code"] for item in refusals(run)}
    assert codes >= {"release-unknown", "tensor-parallel", "pipeline", "world-size"}
    assert len(problem["parts"]) == len(refusals(run))
    assert "Nothing was touched" in problem["remedy"]
