# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: equal to upstream's example apart from the site's paths, and made of the model's own sizes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.plan_arguments import render, value_of

from benchmarks._upstream import find_clone
from tests import upstream_clones
from tests.unit.plan import given

EXPECTED = Path(__file__).parent / "expected"
PATHS = ("data-path", "load", "save", "tokenizer-name-or-path")


def parsed(argv: list[str]) -> dict[str, Any]:
    """Return flag -> value, numbers as numbers so that 1e-06 equals 0.000001, True for a switch."""
    flags: dict[str, Any] = {}
    for word in argv:
        if word.startswith("--"):
            name = word[2:]
            assert name not in flags, f"{word} is given twice"
            flags[name] = True
        else:
            assert flags[name] is True, f"{name} has more than one value"
            flags[name] = number_or_text(word)
    return flags


def number_or_text(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word


# Flag -> why the plan's value or absence is not the example's.
NO_VIRTUAL = {"num-layers-per-virtual-pipeline-stage": "the conversion lays out plain stages; they compute the same"}
DIFFERENT: dict[str, dict[str, str]] = {
    "qwen2.5-72b-4k-pack": NO_VIRTUAL,
    "qwen2.5-72b-4k-pack-a3": NO_VIRTUAL,
    "qwen2.5-72b-8k-pack": NO_VIRTUAL,
    "qwen2.5-math-72b-4k": NO_VIRTUAL,
    "llama-3-8b-8k": {
        "padded-vocab-size": "always given, so that checkpoint and training agree; the example lets Megatron compute the same",
        "seed": "always given; the example leaves Megatron's default, which is the same",
    },
}


def planned(name: str, expected: dict[str, Any]) -> dict[str, Any]:
    return given.make(
        wanted=given.recipe(name),
        model=given.model(expected["model"]),
        fleet=given.hosts(expected["hosts"], npus=tuple(range(expected["npus"]))),
        shared_storage="no-shared-storage" not in expected["arguments"],
        memory_check="warn",
    )


@pytest.mark.parametrize("path", sorted(EXPECTED.glob("*.yml")), ids=lambda path: path.stem)
def test_equals_upstreams_example(path: Path) -> None:
    expected = given.load(path)
    wanted = {
        flag: value if isinstance(value, bool) else number_or_text(str(value))
        for flag, value in expected["arguments"].items()
    }
    made = parsed(planned(path.stem, expected)["training_arguments"])
    of_the_site = {flag: made.pop(flag) for flag in PATHS}
    assert all(value.startswith("/data/ascend-fleet/") for value in of_the_site.values())
    different = {flag for flag in made.keys() | wanted.keys() if made.get(flag) != wanted.get(flag)}
    assert different == set(DIFFERENT.get(path.stem, {}))


def test_every_example_has_a_recipe() -> None:
    sources = {given.load(path)["source"] for path in given.RECIPES.glob("*.yml")}
    assert len(list(EXPECTED.glob("qwen2.5-*.yml"))) == 16  # examples/mcore/qwen25*/pretrain*
    assert {given.recipe(path.stem)["source"] for path in EXPECTED.glob("*.yml")} <= sources


@upstream_clones.needed
@pytest.mark.parametrize("path", sorted(EXPECTED.glob("*.yml")), ids=lambda path: path.stem)
def test_what_is_expected_is_what_the_example_starts(path: Path, tmp_path: Path) -> None:
    """The example itself, run with a torchrun that only writes down what it is given (docs/releases.md)."""
    source = given.recipe(path.stem)["source"]
    commit = given.release()["sources"]["MindSpeed-LLM"]["commit"]
    clone = find_clone(upstream_clones.clones(), "MindSpeed-LLM")
    show = ["git", "-C", str(clone), "show", f"{commit}:{source}"]
    text = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    (tmp_path / "logs").mkdir()
    (tmp_path / "example.sh").write_text(text.replace("\r", ""))
    (tmp_path / "torchrun").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > given.txt\n')
    (tmp_path / "torchrun").chmod(0o755)
    around = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "example.sh"], cwd=tmp_path, env=around, capture_output=True, check=True)
    words = (tmp_path / "given.txt").read_text().splitlines()
    placeholders = {"your", "model", "ckpt", "path", "save", "data", "tokenizer"}
    argv = [word for word in words[words.index("pretrain_gpt.py") + 1 :] if word not in placeholders]
    found = {flag: value for flag, value in parsed(argv).items() if flag not in PATHS}
    expected = given.load(path)["arguments"]
    assert found == {
        flag: value if isinstance(value, bool) else number_or_text(str(value)) for flag, value in expected.items()
    }


def test_the_lab_has_the_switches_of_the_example() -> None:
    def switches(name: str, **changes: Any) -> set[str]:
        flags = parsed(given.make(wanted=given.recipe(name), **changes)["training_arguments"])
        return {flag for flag, value in flags.items() if value is True}

    example = switches("qwen2.5-coder-7b-32k", model=given.CODER_7B, fleet=given.hosts(1, npus=tuple(range(8))))
    assert switches("qwen2-lab") == example | {"no-shared-storage"}


@pytest.mark.parametrize(
    ("changes", "flag", "value"),
    [
        ({"num_hidden_layers": 6}, "num-layers", "6"),
        ({"hidden_size": 256}, "hidden-size", "256"),
        ({"intermediate_size": 704}, "ffn-hidden-size", "704"),
        ({"num_attention_heads": 16}, "num-attention-heads", "16"),
        ({"num_key_value_heads": 2}, "num-query-groups", "2"),
        ({"rope_theta": 500000}, "rotary-base", "500000"),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 77.0}}, "rotary-base", "77"),
        ({"rms_norm_eps": 1e-05}, "norm-epsilon", "1e-05"),
        ({"vocab_size": 1023}, "padded-vocab-size", "1024"),
    ],
)
def test_sizes_come_from_config_json(changes: dict[str, Any], flag: str, value: str) -> None:
    made = given.make(model=given.config(**changes))
    assert value_of(made["training_arguments"], flag) == value


@pytest.mark.parametrize(
    ("changes", "absent"),
    [
        ({"tie_word_embeddings": True}, ["--untie-embeddings-and-output-weights"]),
        ({"num_key_value_heads": 8}, ["--group-query-attention", "--num-query-groups"]),
        ({"model_type": "llama"}, ["--add-qkv-bias"]),
    ],
)
def test_switches_come_from_config_json(changes: dict[str, Any], absent: list[str]) -> None:
    assert set(absent) <= set(given.make()["training_arguments"])
    assert not set(absent) & set(given.make(model=given.config(**changes))["training_arguments"])


def test_old_llama_files_leave_out_what_transformers_fills_in() -> None:
    keys = ("num_key_value_heads", "rope_theta", "rms_norm_eps", "tie_word_embeddings")
    made = given.make(model=given.config(model_type="llama", **dict.fromkeys(keys)))
    model = made["model"]
    assert (model["kv_groups"], model["rope_theta"], model["norm_epsilon"], model["tied"]) == (8, 10000, 1e-6, False)


@pytest.mark.parametrize(
    ("count", "shared", "expected"), [(1, False, False), (2, False, True), (2, True, False), (1, True, False)]
)
def test_no_shared_storage_only_where_hosts_share_none(count: int, shared: bool, expected: bool) -> None:
    npus = (0, 1, 2, 3) if count == 1 else (2, 3)
    made = given.make(fleet=given.hosts(count, npus), shared_storage=shared)
    assert ("--no-shared-storage" in made["training_arguments"]) is expected


def test_uneven_stages_and_context_parallel_are_passed_on() -> None:
    made = given.make(overrides={"layers_per_stage": "1,3", "cp": 2}, fleet=given.hosts(2, (0, 1, 2, 3)))
    assert value_of(made["training_arguments"], "num-layer-list") == "1,3"
    assert value_of(made["training_arguments"], "context-parallel-size") == "2"
    assert made["conversion"]["layers_per_stage"] == [1, 3]
    even = given.make()
    assert value_of(even["training_arguments"], "num-layer-list") is None
    assert value_of(even["training_arguments"], "context-parallel-size") is None
    assert even["conversion"]["layers_per_stage"] == [2, 2]


def test_overrides_change_and_take_out_arguments() -> None:
    made = given.make(overrides={"iterations": 7}, arguments={"lr": 0.5, "bf16": False, "fp16": True})
    assert value_of(made["training_arguments"], "train-iters") == "7"
    assert value_of(made["training_arguments"], "lr") == "0.5"
    assert "--bf16" not in made["training_arguments"]
    assert (made["conversion"]["dtype"], made["model"]["dtype"]) == ("fp16", "fp16")


def test_numbers_may_arrive_as_text() -> None:
    assert given.make(overrides={"tp": "2", "pp": "2", "iterations": "20"}) == given.make()


def test_nothing_in_an_override_leaves_the_recipes_value() -> None:
    assert given.make(overrides={"tp": 0, "pp": None, "split": "", "layers_per_stage": []}) == given.make()
    assert given.make(overrides={"seed": 0})["train"]["seed"] == 0


def test_render() -> None:
    flags = [("switch", True), ("none", None), ("number", 1e-05), ("zero", 0), ("list", [1, "b"])]
    assert render(flags) == ["--switch", "--number", "1e-05", "--zero", "0", "--list", "1", "b"]
    assert value_of(["--a", "1", "--end"], "end") == ""


def test_documents_for_validation_are_a_dataset_of_their_own_where_the_release_can() -> None:
    wanted = {"overrides": {"dataset": {"validation": 0.01}}, "row": given.release("26.0.0")}
    made = given.make(**wanted)
    arguments, prefix = made["training_arguments"], "/data/ascend-fleet/dataset/current/lab"
    assert value_of(arguments, "train-data-path") == f"{prefix}_output_document"
    assert value_of(arguments, "valid-data-path") == f"{prefix}_valid_output_document"
    assert not {"--data-path", "--split"} & set(arguments)
    assert made["dataset"]["validation"] == 0.01
    assert any("eval-iters 0 never computes a loss" in text for text in made["warnings"])
    assert not any("eval-iters" in text for text in given.make(**wanted, arguments={"eval-iters": 2})["warnings"])
