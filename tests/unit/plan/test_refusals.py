# SPDX-License-Identifier: GPL-3.0-or-later
"""Every refusal: what is wrong with its value, the nearest that works, and nothing else refused beside it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.plan import Choice

from tests.unit.plan import given

EIGHT = given.hosts(1, tuple(range(8)))


def swapped(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a copy with some keys replaced; None takes a key out."""
    return {key: value for key, value in {**data, **changes}.items() if value is not None}


def one_host(**changes: Any) -> list[dict[str, Any]]:
    return [{**given.hosts(1, (0, 1, 2, 3))[0], **changes}]


ENDED: dict[str, Any] = {"overrides": {"dataset": {"append_eod": True}}}
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: (what is changed, code, a part of what is said, nearest)
    "world size": ({"fleet": given.hosts(3)}, "world-size", "6 NPUs on 3 hosts", "4 or 8 NPUs"),
    "too few NPUs": ({"fleet": given.hosts(1)}, "world-size", "groups of TP 2 x PP 2 x CP 1 = 4", "4 NPUs"),
    "data parallel": ({"overrides": {"dp": 2}}, "world-size", "8 ranks, and there are 4", "DP 1"),
    "heads": (
        {"model": given.config(num_attention_heads=4), "overrides": {"tp": 8, "pp": 1}, "fleet": EIGHT},
        "tensor-parallel",
        "TP 8 does not divide the model's 4 attention heads and 4 key/value groups",
        "TP 4",
    ),
    "kv groups": (
        {"model": given.config(num_key_value_heads=2), "overrides": {"tp": 4, "pp": 1}},
        "tensor-parallel",
        "TP 4 does not divide the model's 2 key/value groups",
        "TP 2",
    ),
    "kv groups, both sides": (
        {"overrides": {"tp": 3, "pp": 1, "seq_length": 129}, "fleet": given.hosts(1, (0, 1, 2))},
        "tensor-parallel",
        "8 attention heads and 4 key/value groups and 352 feed-forward columns",
        "TP 2 or 4",
    ),
    "feed-forward": (
        {"model": given.config(intermediate_size=351)},
        "tensor-parallel",
        "351 feed-forward columns",
        "TP 1",
    ),
    "layers": (
        {"model": given.config(num_hidden_layers=5)},
        "pipeline",
        "5 layers cannot be divided evenly into PP 2",
        "PP 1 or PP 5, or layers_per_stage 3,2",
    ),
    "more stages than layers": (
        {"overrides": {"tp": 1, "pp": 8}, "fleet": EIGHT},
        "pipeline",
        "4 layers cannot be divided evenly into PP 8",
        "PP 4",
    ),
    "stages do not add up": (
        {"overrides": {"layers_per_stage": [1, 2]}},
        "layers-per-stage",
        "2 stages with 3 layers; PP is 2 and the model has 4",
        "2,2",
    ),
    "too many stages": ({"overrides": {"layers_per_stage": [1, 1, 2]}}, "layers-per-stage", "3 stages", "2,2"),
    "stages without a pipeline": (
        {"overrides": {"layers_per_stage": [4], "pp": 1}},
        "layers-per-stage",
        "PP is 1",
        "no list",
    ),
    "padded vocabulary too small": (
        {"overrides": {"padded_vocab_size": 1000}},
        "vocabulary",
        "padded_vocab_size 1000 is not what the converter makes of a vocabulary of 1024",
        "1024",
    ),
    "padded vocabulary not a multiple": (
        {"overrides": {"padded_vocab_size": 1025, "vocab_divisible_by": 100}},
        "vocabulary",
        "100 x TP 2 = 200",
        "1200",
    ),
    "global batch": ({"overrides": {"global_batch_size": 15}}, "global-batch", "micro batch 2 x DP 1", "14 or 16"),
    "global batch below a step": (
        {"overrides": {"global_batch_size": 3, "micro_batch_size": 4}},
        "global-batch",
        "Global batch 3",
        "4",
    ),
    "sequence": ({"overrides": {"seq_length": 1024}}, "sequence", "longer than the model's 512 positions", "512"),
    "sliding window": (
        {"model": given.config(use_sliding_window=True, sliding_window=64)},
        "sequence",
        "attends to 64 tokens",
        "64",
    ),
    "sequence parallel": ({"overrides": {"seq_length": 127}}, "sequence", "127 cannot be divided", "126 or 128"),
    "context parallel": (
        {"overrides": {"cp": 2, "seq_length": 126}, "fleet": EIGHT},
        "context-parallel",
        "126 is not a multiple of 2 x CP 2 = 4",
        "124 or 128",
    ),
    "ulysses": (
        {"overrides": {"cp": 8}, "fleet": given.hosts(4, tuple(range(8)))},
        "context-parallel",
        "8 attention heads cannot be divided over TP 2 x 8 parts of ulysses_cp_algo",
        "",
    ),
    "ring update without a ring": (
        {"arguments": {"use-fused-ring-attention-update": True}},
        "context-parallel",
        "CP is 1",
        "",
    ),
    "a typed size": ({"arguments": {"rotary-base": 10000}}, "argument-derived", "rotary-base = 10000", "1000000"),
    "a typed size of the recipe": (
        {"arguments": {"seed": 7}},
        "argument-derived",
        "seed = 7, which comes from train.seed",
        "1234",
    ),
    "other positions than the model's": (
        {"arguments": {"rotary-percent": 0.5}},
        "argument-foreign",
        "rotary-percent = 0.5 asks for another model than its config.json describes",
        "",
    ),
    "another norm than the model's": (
        {"arguments": {"apply-layernorm-1p": True}},
        "argument-foreign",
        "another model than its config.json describes",
        "",
    ),
    "digits of another script": ({"overrides": {"tp": "\u00b2"}}, "recipe-value", "parallel.tp is '\u00b2'", ""),
    "a number that is no size": (
        {"overrides": {"global_batch_size": 10**30}},
        "recipe-value",
        "not a whole number from 1 to 4294967295",
        "",
    ),
    "a text in place of a section": (
        {"overrides": {"dataset": "alpaca"}},
        "recipe-section",
        "Section dataset of recipe 'qwen2-lab' is 'alpaca'",
        "",
    ),
    "a text in place of the environment": (
        {"overrides": {"environment": "A=1"}},
        "recipe-section",
        "Section environment of recipe 'qwen2-lab' is 'A=1'",
        "",
    ),
    "a mistyped key of a section": (
        {"overrides": {"dataset": {"train_keys": "output"}}},
        "recipe-key",
        "Section dataset of a recipe has no key 'train_keys'",
        "train_key",
    ),
    "one key as a text": (
        {"overrides": {"dataset": {"keys": "ab", "train_key": "a"}}},
        "recipe-value",
        "dataset.keys is 'ab', not a list",
        "",
    ),
    "a text for a switch": (
        {"overrides": {"dataset": {"append_eod": "false"}}},
        "recipe-value",
        "dataset.append_eod is 'false', not true or false",
        "",
    ),
    "a typed path, with dashes": ({"arguments": {"--load": "/mnt"}}, "argument-derived", "load = '/mnt'", ""),
    "a comment behind a backslash": (
        {"arguments": {"lr": "1.25e-6 \\ # as on the page"}},
        "argument-shell",
        "a comment",
        "",
    ),
    "a backslash": ({"arguments": {"lr": "1.25e-6 \\"}}, "argument-shell", "a backslash at its end", ""),
    "a shell variable": ({"arguments": {"lr": "${LR}"}}, "argument-shell", "a variable of the shell", ""),
    "a flag with its value": ({"arguments": {"lr 1e-5": True}}, "argument-shell", "more than a flag", ""),
    "legacy mode": ({"arguments": {"use-legacy-models": True}}, "argument-derived", "legacy mode", ""),
    "virtual stages": (
        {"arguments": {"num-layers-per-virtual-pipeline-stage": 1}},
        "virtual-stages",
        "the weights would not load",
        "",
    ),
    "index cache": (
        {"overrides": {"tp": 4, "pp": 1, "global_batch_size": 24}, "fleet": given.hosts(2, tuple(range(6)))},
        "index-cache",
        "On npu-2 no rank builds the dataset index: 6 NPUs per host are not a multiple of TP 4",
        "TP 3 or 6",
    ),
    "no end of document": (
        {"tokenizer": {"eos_token": None}, "arguments": {"reset-position-ids": True}, **ENDED},
        "tokenizer-eod",
        "dataset.append_eod and reset-position-ids need an end of document",
        "",
    ),
    "an end of document that is padding, too": (
        {"tokenizer": {"eos_token": {"content": "<|end|>"}, "pad_token": "<|end|>"}, **ENDED},
        "eod-as-pad",
        "ends each document with '<|end|>', which is the tokenizer's pad_token, too",
        "dataset.append_eod false, or reset-position-ids",
    ),
    "an end of document in place of padding": (
        {"tokenizer": {"eos_token": "<|end|>", "pad_token": None}, **ENDED},
        "eod-as-pad",
        "which upstream pads with, as the tokenizer has no pad_token",
        "dataset.append_eod false, or reset-position-ids",
    ),
    "documents for validation, which the release cannot use": (
        {"overrides": {"dataset": {"validation": 0.01}}},
        "validation",
        "release 2.0.0 cannot start with it",
        "train.split 99,1,0",
    ),
    "documents for validation, twice": (
        {
            "overrides": {"dataset": {"validation": 0.01}, "split": "90,10"},
            "row": given.release("26.0.0"),
        },
        "validation",
        "dataset.validation 0.01 and train.split 90,10 both set documents aside",
        "train.split 100,0,0",
    ),
    "not a share": (
        {"overrides": {"dataset": {"validation": 5}}},
        "recipe-value",
        "dataset.validation is 5, not a share below 1",
        "",
    ),
    "unequal hosts": (
        {"fleet": [*given.hosts(1), {**given.hosts(2)[1], "npus": [1, 2, 3]}]},
        "hosts-unequal",
        "npu-1 2, npu-2 3",
        "2 on each",
    ),
    "no hosts": ({"fleet": []}, "hosts-none", "no host to train on", ""),
    "no NPUs": ({"fleet": one_host(npus=[])}, "host-npus", "npu-1 declares no NPUs", ""),
    "bad NPU ids": ({"fleet": one_host(npus=[-1, 0, 1, 2, 3])}, "host-npus", "[-1, 0, 1, 2, 3]", ""),
    "no address": ({"fleet": one_host(address="")}, "host-address", "npu-1 has no address", ""),
    "an NPU twice": ({"fleet": one_host(npus=[0, 1, 2, 2])}, "duplicate", "Host npu-1: NPU 2 is listed 2", ""),
    "a host twice": (
        {"fleet": [{**host, "name": "npu-1"} for host in given.hosts()]},
        "duplicate",
        "Host npu-1 is listed 2",
        "",
    ),
    "an address twice": (
        {"fleet": [{**host, "address": "192.0.2.1"} for host in given.hosts()]},
        "duplicate",
        "Address 192.0.2.1 is listed 2",
        "",
    ),
    "every address": (
        {"fleet": [{**given.hosts()[0], "address": "0.0.0.0"}, given.hosts()[1]]},
        "host-loopback",
        "npu-1 has address 0.0.0.0",
        "",
    ),
    "an interface with HCCL's sign": (
        {"fleet": one_host(interface="=eth0")},
        "host-interface",
        "Interface '=eth0' of host npu-1",
        "eth0",
    ),
    "two interfaces": ({"fleet": one_host(interface=["eth0", "eth1"])}, "host-interface", "['eth0', 'eth1']", ""),
    "no time to meet": ({"connect_timeout": 0}, "timeout", "connect timeout is 0 seconds", "1800"),
    "no time to answer": ({"execution_timeout": -1}, "timeout", "execution timeout is -1 seconds", "1800"),
    "a mistyped key of the release": (
        {"release_overrides": {"env_script": []}},
        "release-override",
        "no 'env_script' to override",
        "env_scripts",
    ),
    "a text in place of an image": (
        {"release_overrides": {"image": "mindspeed-llm:mine"}},
        "release-override",
        "The override image is 'mindspeed-llm:mine', not keys with values",
        "",
    ),
    "a text in place of scripts": (
        {"release_overrides": {"env_scripts": "/set_env.sh"}},
        "release-override",
        "env_scripts is '/set_env.sh', not a list",
        "",
    ),
    "a text in place of commits": (
        {"release_overrides": {"commits": "a" * 40}},
        "release-override",
        "not keys with values",
        "",
    ),
    "a commit in place of a source": (
        {"release_overrides": {"sources": {"MindSpeed": "a" * 40}}},
        "release-override",
        "The override sources.MindSpeed is",
        "",
    ),
    "loopback": (
        {"fleet": [{**given.hosts()[0], "address": "127.0.0.1"}, given.hosts()[1]]},
        "host-loopback",
        "npu-1 has address 127.0.0.1",
        "",
    ),
    "model type": ({"model": given.config(model_type="qwen3")}, "model-type", "'qwen3'", "qwen2"),
    "no model type": ({"model": {}}, "model-type", "''", "llama, qwen2"),
    "a missing key": ({"model": given.config(num_hidden_layers=None)}, "config-key", "no num_hidden_layers", ""),
    "no rope theta": ({"model": given.config(rope_theta=None)}, "config-key", "no rope_theta", ""),
    "a bad size": (
        {"model": given.config(vocab_size="many")},
        "config-value",
        "vocab_size in config.json is 'many'",
        "",
    ),
    "a bad epsilon": ({"model": given.config(rms_norm_eps="1e-6")}, "config-value", "rms_norm_eps", ""),
    "layers without end": (
        {"model": given.config(num_hidden_layers=10**30)},
        "config-value",
        "not a whole number from 1 to 100000",
        "",
    ),
    "a rope theta that is no number": (
        {"model": given.config(rope_theta=float("nan"))},
        "config-value",
        "rope_theta in config.json is nan",
        "",
    ),
    "an epsilon without end": (
        {"model": given.config(rms_norm_eps=float("inf"))},
        "config-value",
        "rms_norm_eps in config.json is inf",
        "",
    ),
    "tied by a text": (
        {"model": given.config(tie_word_embeddings="false")},
        "config-value",
        "tie_word_embeddings in config.json is 'false', not true or false",
        "",
    ),
    "architectures that are no list": ({"model": given.config(architectures=7)}, "config-architecture", "is 7", ""),
    "a fractional rope theta": ({"model": given.config(rope_theta=0.5)}, "config-value", "rope_theta", ""),
    "scaled rope": (
        {"model": given.config(rope_scaling={"type": "yarn", "factor": 4.0})},
        "config-foreign",
        "scaled rotary positions",
        "",
    ),
    "scaled rope, new form": (
        {"model": given.config(rope_parameters={"rope_type": "yarn", "rope_theta": 1e6})},
        "config-foreign",
        "scaled rotary positions",
        "",
    ),
    "activation": ({"model": given.config(hidden_act="gelu")}, "config-foreign", "hidden_act = 'gelu'", ""),
    "llama biases": (
        {"model": given.config(model_type="llama", attention_bias=True)},
        "config-foreign",
        "biases on all four attention projections",
        "",
    ),
    "heads and width": ({"model": given.config(hidden_size=130)}, "config-heads", "hidden_size 130", ""),
    "heads and groups": (
        {"model": given.config(num_key_value_heads=6)},
        "config-heads",
        "8 is not a multiple of num_key_value_heads 6",
        "",
    ),
    "wide heads": ({"model": given.config(head_dim=64)}, "config-heads", "head_dim 64", ""),
    "unknown release": (
        {"row": {}, "choice": Choice(release="2.0.1", releases=["2.0.0", "1.0.0"])},
        "release-unknown",
        "no release '2.0.1'",
        "2.0.0",
    ),
    "half a release": (
        {"row": {}, "choice": Choice(release="2.0", releases=["2.0.0", "2.3.0"])},
        "release-unknown",
        "no release '2.0'",
        "2.0.0",
    ),
    "unknown recipe": (
        {"wanted": {}, "choice": Choice(recipe="qwen2-labs", recipes=["qwen2-lab", "qwen2.5-coder-7b-4k"])},
        "recipe-unknown",
        "no recipe 'qwen2-labs'",
        "qwen2-lab",
    ),
    "incomplete release": ({"row": swapped(given.release(), python=None)}, "release-row", "no python", ""),
    "short commit": (
        {"release_overrides": {"sources": {"MindSpeed": {"commit": "c721ce33"}}}},
        "release-commit",
        "Commit 'c721ce33' of MindSpeed is not a full one",
        "",
    ),
    "unknown source": (
        {"release_overrides": {"sources": {"Megatron": {"commit": "0" * 40}}}},
        "release-source",
        "'Megatron'",
        "Megatron-LM",
    ),
    "architecture": ({"architecture": "riscv64"}, "release-image", "'riscv64'", "aarch64, x86_64"),
    "fine-tuning": (
        {"wanted": swapped(given.recipe(), task="fine-tuning")},
        "recipe-task",
        "needs an instruction dataset",
        "pretraining",
    ),
    "a recipe's section": (
        {"wanted": swapped(given.recipe(), dataset=None)},
        "recipe-section",
        "no section dataset",
        "",
    ),
    "a recipe's key": ({"wanted": {**given.recipe(), "trian": {}}}, "recipe-key", "'trian'", "train"),
    "a recipe's number": ({"overrides": {"iterations": "twenty"}}, "recipe-value", "train.iterations is 'twenty'", ""),
    "a negative seed": ({"overrides": {"seed": -1}}, "recipe-value", "train.seed is -1", ""),
    "a recipe's stages": ({"overrides": {"layers_per_stage": "2,x"}}, "recipe-value", "'2,x'", ""),
    "a recipe's split": ({"overrides": {"split": "all"}}, "recipe-value", "train.split is 'all'", ""),
    "both precisions": ({"arguments": {"fp16": True}}, "recipe-value", "both bf16 and fp16", ""),
    "the trained key": (
        {"overrides": {"dataset": {"train_key": "text"}}},
        "recipe-value",
        "'text' is not among dataset.keys ['output']",
        "",
    ),
    "a key twice": ({"overrides": {"dataset": {"keys": ["output", "output"]}}}, "recipe-value", "different keys", ""),
    "a template for several keys": (
        {"overrides": {"dataset": {"template": "{a}{b}", "keys": ["a", "b"], "train_key": "a"}}},
        "recipe-value",
        "dataset.template makes one text",
        "",
    ),
    "a dataset's name": ({"overrides": {"dataset": {"name": "a/b"}}}, "recipe-value", "'a/b'", ""),
    "an override": ({"overrides": {"global_batch": 16}}, "override-unknown", "'global_batch'", "global_batch_size"),
    "instruction data": ({"arguments": {"is-instruction-dataset": True}}, "argument-foreign", "fine-tuning", ""),
    "a stage of tuning": ({"arguments": {"stage": "sft"}}, "argument-foreign", "stage = 'sft'", ""),
    "a prompt template": ({"arguments": {"prompt_type": "qwen"}}, "argument-foreign", "prompt-type = 'qwen'", ""),
    "LoRA": ({"arguments": {"lora-r": 16}}, "argument-foreign", "adapters", ""),
    "experts": ({"arguments": {"num-experts": 8}}, "argument-foreign", "mixture of experts", ""),
    "latent attention": ({"arguments": {"multi-latent-attention": True}}, "argument-foreign", "multi-latent", ""),
    "another layout": ({"arguments": {"tp-2d": True}}, "argument-foreign", "layout of the weights", ""),
    "an underscore": ({"arguments": {"tensor_model_parallel_size": 8}}, "argument-derived", "parallel.tp", "2"),
    "one stage's layers": ({"overrides": {"layers_per_stage": 28}}, "layers-per-stage", "28 gives 1 stages", "2,2"),
    "recomputed layers": ({"arguments": {"recompute-num-layers": "abc"}}, "recompute", "'abc'", ""),
    "recomputation without a method": (
        {"arguments": {"recompute-granularity": "full"}},
        "recompute",
        "recompute-method None",
        "block or uniform",
    ),
    "quantized": (
        {"model": given.config(quantization_config={"quant_method": "gptq"})},
        "config-quantized",
        "quantization_config (gptq)",
        "",
    ),
    "a classifier": (
        {"model": given.config(architectures=["Qwen2ForSequenceClassification"])},
        "config-architecture",
        "Qwen2ForSequenceClassification",
        "",
    ),
    "biases of a qwen2": ({"model": given.config(mlp_bias=True)}, "config-foreign", "mlp_bias", ""),
    "conversion host": ({"conversion_host": "npu-3"}, "conversion-host", "'npu-3'", "npu-2"),
    "master port": ({"master_port": 80}, "master-port", "80", "6000"),
    "work root": ({"work_root": "data"}, "work-root", "'data'", ""),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str) -> None:
    changes, code, says, nearest = CASES[name]
    found = given.refused(**changes)
    assert [item["code"] for item in found] == [code]
    assert says in found[0]["what"]
    assert found[0]["nearest"] == nearest


def test_every_refusal_says_what_to_do() -> None:
    for changes, code, _, _ in CASES.values():
        for item in given.refused(**changes):
            assert item["nearest"] or item["remedy"], f"{code} leaves the person alone"


def test_everything_is_reported_at_once() -> None:
    found = given.refused(
        overrides={"tp": 3, "seq_length": 1000, "global_batch_size": 17},
        fleet=[{**host, "npus": [0, 0, 1, 2, 3, 4]} for host in given.hosts()],
        row={},
        choice=Choice(release="9", releases=["2.0.0"]),
    )
    assert [item["code"] for item in found] == [
        "release-unknown",
        "duplicate",
        "duplicate",
        "tensor-parallel",
        "sequence",
        "sequence",
        "global-batch",
    ]


def test_what_is_refused_changes_with_the_remedy() -> None:
    """The nearest that a refusal names is accepted."""
    five_layers = given.config(num_hidden_layers=5)
    assert given.make(model=five_layers, overrides={"layers_per_stage": "3,2"})["conversion"]["layers_per_stage"] == [
        3,
        2,
    ]
    assert given.make(overrides={"global_batch_size": 14})["train"]["global_batch_size"] == 14
    six = {"overrides": {"tp": 3, "pp": 1, "seq_length": 129, "global_batch_size": 24}}
    model = given.config(
        num_attention_heads=6, num_key_value_heads=3, hidden_size=96, intermediate_size=351, vocab_size=1023
    )
    assert given.make(model=model, fleet=given.hosts(2, tuple(range(6))), **six)["dp"] == 4


def test_a_tokenizer_with_an_end_or_without_a_need_is_no_matter() -> None:
    assert given.make(tokenizer={"eos_token": "<|endoftext|>", "pad_token": "<|pad|>"}, **ENDED) == given.make(**ENDED)
    assert given.make(tokenizer={})["dataset"]["append_eod"] is False


@pytest.mark.parametrize("flag", ["reset-position-ids", "reset-attention-mask", "eod-mask-loss"])
def test_an_end_that_is_padding_only_warns_where_masks_are_made_anew(flag: str) -> None:
    tokenizer = {"eos_token": "<|end|>", "pad_token": "<|end|>"}
    (warning,) = [
        text
        for text in given.make(tokenizer=tokenizer, arguments={flag: True}, **ENDED)["warnings"]
        if "<|end|>" in text
    ]
    assert "does not learn where documents end" in warning


def test_index_cache_is_no_matter_with_shared_storage() -> None:
    changes = CASES["index cache"][0]
    assert given.make(**changes, shared_storage=True)["world_size"] == 12


def test_an_empty_row_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="empty release or recipe"):
        given.make(row={})


@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_default_rotary_positions_are_plain_ones(key: str) -> None:
    assert given.make(model=given.config(rope_scaling={key: "default"}, architectures=["Qwen2ForCausalLM"]))


def test_arguments_of_plain_pretraining_are_not_foreign() -> None:
    plain = {"stage": "pt", "recompute_granularity": "full", "recompute-method": "block", "recompute-num-layers": 2}
    assert given.make(arguments=plain)
