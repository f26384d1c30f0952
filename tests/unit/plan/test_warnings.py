# SPDX-License-Identifier: GPL-3.0-or-later
"""What is accepted with a warning, and what is not warned about."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan import given

SAVES = {"no-save-optim": False, "no-save-rng": False}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "tensor parallel across hosts": (
        {"overrides": {"tp": 4, "pp": 1}},
        "A tensor-parallel group of 4 spans hosts of 2 NPUs",
    ),
    "sequence parallel alone": (
        {"overrides": {"tp": 1, "pp": 4}},
        "sequence-parallel is on with TP 1; Megatron turns it off.",
    ),
    "one save at the end": ({"overrides": {"save_interval": 20}}, "saved at iteration 20 of 20"),
    "no state": ({"arguments": {**SAVES, "no-save-optim": True}}, "no-save-optim: a resumed run"),
    "padding": ({"model": given.config(vocab_size=1021)}, "1021 is padded to 1022"),
    "another model": ({"model": given.config(model_type="llama")}, "written for qwen2; this model is a llama"),
    "no interface": (
        {"fleet": [{**given.hosts()[0], "interface": ""}, given.hosts()[1]]},
        "Host npu-1 names no interface",
    ),
    "a name for an address": (
        {"fleet": [given.hosts()[0], {**given.hosts()[1], "address": "npu-2.site"}]},
        "Address npu-2.site of host npu-2 is a name",
    ),
    "bubble": ({"overrides": {"global_batch_size": 2}}, "1 micro batches a step are fewer than PP 2"),
    "questions alone": (
        {"overrides": {"dataset": {"keys": ["instruction", "output"], "train_key": "instruction"}}},
        "Training reads instruction alone",
    ),
    "packed": ({"arguments": {**SAVES, "reset-position-ids": True}}, "cuts documents at wrong places"),
    "mixed": ({"release_overrides": {"cann": "8.0.RC3"}}, "Release 2.0.0 is mixed: cann"),
}


@pytest.mark.parametrize("name", CASES)
def test_warned(name: str) -> None:
    changes, says = CASES[name]
    made = given.make(**{"arguments": SAVES, **changes})
    assert [says in text for text in made["warnings"]] == [True]


def test_nothing_to_warn_about() -> None:
    assert given.make(arguments=SAVES)["warnings"] == []


def test_a_template_trains_on_questions_and_answers() -> None:
    joined = {"keys": ["instruction"], "train_key": "instruction", "template": "{instruction}\n{output}"}
    assert given.make(arguments=SAVES, overrides={"dataset": joined})["warnings"] == []


def test_one_host_needs_neither_interface_nor_ip() -> None:
    fleet = [{"name": "npu-1", "address": "localhost", "npus": [0, 1, 2, 3]}]
    assert given.make(arguments=SAVES, fleet=fleet)["warnings"] == []
