# SPDX-License-Identifier: GPL-3.0-or-later
"""The traps of the page that people followed by hand, each met at the interface that a site uses now.

Those of the source trees (`megatron` copied before the checkout, CRLF scripts, a zip in place of a clone) are in
tests/e2e/test_source_traps.py, where the trees are; a checkpoint of other sizes than the training's also in
tests/e2e/test_site_refusals.py; a conversion that runs another program than the converter in tests/unit/modules/test_upstream_engine.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ModuleResult, RunModule
from tests.unit.plan import given


def planned(run_library: RunModule, **changes: Any) -> ModuleResult:
    """Run the module run_plan for the lab's run with some parameters changed."""
    params = {
        "release": given.release(),
        "recipe": given.recipe(),
        "hosts": given.hosts(),
        "model_config": given.config(),
        "work_root": "/data/ascend-fleet",
        **changes,
    }
    return run_library("run_plan", params)


def codes(result: ModuleResult) -> list[str]:
    return [item["code"] for item in result["refusals"]] if result.failed else []


def following(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


def manifest(run_library: RunModule, path: str, **more: Any) -> ModuleResult:
    return run_library("artifact_manifest", {"path": path, "cache_dir": "", **more})


@pytest.mark.parametrize("path", ["/dataset/enc_output_document", "./dataset/enc_output_document"])
def test_a_data_path_is_derived_and_never_typed(run_library: RunModule, path: str) -> None:
    # The page writes DATA_PATH="/dataset/...": a leading slash too many, and training looks at the root of the container.
    result = planned(run_library, overrides={"arguments": {"data-path": path}})
    assert codes(result) == ["argument-derived"]
    assert path in result["problems"][0]
    for root in ("/data/ascend-fleet", "/mnt/nvme/run"):
        arguments = planned(run_library, work_root=root)["plan"]["training_arguments"]
        assert following(arguments, "--data-path") == f"{root}/dataset/current/lab_output_document"


def test_a_corpus_at_the_root_by_mistake_is_not_there(run_library: RunModule) -> None:
    # The same slash before the corpus: preprocessing falls through to the model hub and waits for a network.
    result = manifest(run_library, "/EvolInstruct-900.jsonl")
    assert result.failed
    assert result["problem"] == "/EvolInstruct-900.jsonl is not there."
    assert result["remedy"]


def test_a_comment_behind_a_backslash_does_not_end_the_arguments(run_library: RunModule) -> None:
    # The page explains flags behind the backslash that ends their line; the shell then drops every flag that follows.
    text = (given.RECIPES / "qwen2-lab.yml").read_text(encoding="utf-8")
    line = '  lr: "1e-3"\n'
    assert line in text
    pasted = text.replace(line, "  lr: 1e-3 \\  # the learning rate\n")
    result = planned(run_library, recipe=yaml.safe_load(pasted))
    assert codes(result) == ["argument-shell"]
    assert "lr = '1e-3 \\\\'" in result["problems"][0]
    quoted = text.replace(line, '  lr: "1e-3 \\\\ # the learning rate"\n')
    assert codes(planned(run_library, recipe=yaml.safe_load(quoted))) == ["argument-shell"]
    # Where a comment of a recipe belongs it costs nothing, least of all the flags after it.
    commented = text.replace(line, '  lr: "1e-3"  # the learning rate\n')
    arguments = planned(run_library, recipe=yaml.safe_load(commented))["plan"]["training_arguments"]
    assert arguments == planned(run_library)["plan"]["training_arguments"]


def test_a_sequence_that_does_not_fit_is_refused_with_one_that_does(run_library: RunModule) -> None:
    # The page's script trains 32768 tokens on TP 2 and PP 2, which ends out of memory some minutes after the start.
    page = {"recipe": given.recipe("qwen2.5-coder-7b-32k"), "model_config": given.CODER_7B}
    sizes = {"tp": 2, "pp": 2}
    result = planned(run_library, **page, overrides=sizes)
    assert codes(result) == ["memory"]
    (shorter,) = [item for item in result["suggestions"] if item["kind"] == "sequence"]
    assert shorter["seq_length"] < 32768
    tried = {**sizes, "seq_length": shorter["seq_length"], "arguments": shorter["recompute"]}
    assert not planned(run_library, **page, overrides=tried).failed


@pytest.mark.parametrize(("tp", "pp"), [(1, 4), (2, 2), (4, 1)])
def test_tp_and_pp_are_said_once(run_library: RunModule, tp: int, pp: int) -> None:
    # The page has TP and PP in the conversion script and again in the training script, and nothing compares them.
    plan = planned(run_library, overrides={"tp": tp, "pp": pp})["plan"]
    assert (plan["conversion"]["tp"], plan["conversion"]["pp"]) == (tp, pp)
    assert following(plan["training_arguments"], "--tensor-model-parallel-size") == str(tp)
    assert following(plan["training_arguments"], "--pipeline-model-parallel-size") == str(pp)
    typed = {"arguments": {"tensor-model-parallel-size": tp, "pipeline-model-parallel-size": pp}}
    assert codes(planned(run_library, overrides=typed)) == ["argument-derived"] * 2


def test_training_on_the_instructions_alone_is_warned_about(run_library: RunModule) -> None:
    # The page preprocesses instruction and output and trains on ..._instruction_document: the model never sees an answer.
    alone = {"dataset": {"keys": ["instruction", "output"], "train_key": "instruction"}}
    warnings = planned(run_library, overrides=alone)["plan"]["warnings"]
    (told,) = [text for text in warnings if "Training reads instruction alone" in text]
    assert "dataset.template" in told
    both = {"dataset": {"keys": ["instruction"], "train_key": "instruction", "template": "{instruction}\n{output}"}}
    assert not [text for text in planned(run_library, overrides=both)["plan"]["warnings"] if "alone" in text]


def test_a_script_is_no_model(run_library: RunModule, tmp_path: Path) -> None:
    # The page's conversion step names the pretraining script: it would train on what was never converted.
    script = tmp_path / "pretrain_qwen25_coder_7b_32k_ptd.sh"
    script.write_text("torchrun pretrain_gpt.py\n", encoding="utf-8")
    result = manifest(run_library, str(script), expect="model")
    assert result.failed
    assert "has no config.json" in result["problem"]
    assert "has no weights" in result["problem"]
