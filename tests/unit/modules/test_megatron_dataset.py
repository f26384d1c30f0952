# SPDX-License-Identifier: GPL-3.0-or-later
"""megatron_dataset: one pair a key, made anew when the corpus or the tokenizer changed and not when the weights did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.corpus import IDX_HEADER
from ansible.module_utils.ascend_fleet.host import Container, Host
from ansible.module_utils.ascend_fleet.receipt import Store, converge

from tests.conftest import RunModule, ScriptedHost

MODULE = "megatron_dataset"
CONFIG = {"config.json": '{"architectures": ["LlamaForCausalLM"]}'}


def put(root: Path, stage: str, files: dict[str, str]) -> None:
    def write(directory: str, verdict: object) -> dict[str, str]:
        for name, text in files.items():
            (Path(directory) / name).write_text(text)
        return {}

    converge(Store(Host(), str(root), stage), {"contents": files}, write)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "weights", {**CONFIG, "model.safetensors": "w", "tokenizer.json": "t"})
    put(tmp_path, "corpus", {"lab.jsonl": "{}"})
    return tmp_path


def params(root: Path) -> dict[str, object]:
    return {"work_root": str(root), "container": "train", "name": "lab", "json_keys": ["instruction", "output"]}


def expect_worker(
    host: ScriptedHost,
    root: Path,
    header: bytes = IDX_HEADER,
    keys: tuple[str, ...] = ("instruction", "output"),
    words: tuple[str, ...] = ("--json-keys", "instruction", "output", "--workers", "4"),
) -> None:
    here = Host()
    weights, corpus = Store(here, str(root), "weights"), Store(here, str(root), "corpus")
    partial = root / "dataset"

    def effect() -> None:
        (out,) = partial.glob(".*.partial")
        assert f"{out}/lab" in host.calls[-1]
        for key in keys:
            (out / f"lab_{key}_document.bin").write_bytes(b"\0" * 8)
            (out / f"lab_{key}_document.idx").write_bytes(header + b"\0" * 8)

    class AnyOut(list):  # the fingerprint depends on the hashes; everything else has to be exact
        def __eq__(self, other: object) -> bool:
            return [("OUT" if str(item).startswith(str(partial)) else item) for item in other] == list(self)  # type: ignore[attr-defined]

    argv = ["python", f"{root}/workers/build_dataset.py", "--input", f"{corpus.path(corpus.current() or '')}/lab.jsonl"]
    argv += ["--tokenizer", weights.path(weights.current() or ""), "--output-prefix", "OUT"]
    argv += [*words, "--json"]
    host.expect([], json.dumps({"documents": 1}), effect=effect)
    host.script[-1].argv = AnyOut(
        Container(host, "train").command(argv, {"FLEET_PROGRESS": f"{root}/dataset/.progress"})
    )


def test_four_ways(run_library: RunModule, scripted_host: ScriptedHost, root: Path) -> None:
    predicted = run_library(MODULE, params(root), scripted_host, check_mode=True)
    assert predicted.changed
    assert not (root / "dataset").exists()
    expect_worker(scripted_host, root)
    first = run_library(MODULE, params(root), scripted_host)
    assert first.changed
    assert first["diff"] == predicted["diff"]
    assert first["artifact"]["files"] == 4
    assert not run_library(MODULE, params(root), scripted_host).changed


def test_new_weights_do_not_preprocess_again_but_a_new_tokenizer_does(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path
) -> None:
    expect_worker(scripted_host, root)
    run_library(MODULE, params(root), scripted_host)
    put(root, "weights", {**CONFIG, "model.safetensors": "trained", "tokenizer.json": "t"})
    assert not run_library(MODULE, params(root), scripted_host).changed
    put(root, "weights", {**CONFIG, "model.safetensors": "trained", "tokenizer.json": "other"})
    expect_worker(scripted_host, root)
    assert run_library(MODULE, params(root), scripted_host).changed


def test_a_missing_pair_fails(run_library: RunModule, scripted_host: ScriptedHost, root: Path) -> None:
    expect_worker(scripted_host, root, keys=("instruction",))
    result = run_library(MODULE, params(root), scripted_host)
    assert result.failed
    assert "lab_output_document.bin is absent" in result["msg"]
    assert not (root / "dataset" / "current").exists()


def test_a_wrong_header_fails(run_library: RunModule, scripted_host: ScriptedHost, root: Path) -> None:
    expect_worker(scripted_host, root, header=b"NOTANIDX")
    assert "no MMIDIDX header" in run_library(MODULE, params(root), scripted_host)["msg"]


def test_without_corpus_the_tag_is_named(run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path) -> None:
    put(tmp_path, "weights", {**CONFIG, "tokenizer.json": "t"})
    assert "--tags preprocessing" in run_library(MODULE, params(tmp_path), scripted_host)["msg"]


def test_choices_reach_the_worker_and_the_receipt(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path
) -> None:
    template = "{instruction}\n{output}"
    chosen = {"json_keys": ["text"], "template": template, "validation": 0.25, "skip_bad": 3, "append_eod": True}
    words = ("--json-keys", "text", "--workers", "4", "--template", template, "--validation", "0.25")
    words += ("--skip-bad", "3", "--append-eod")
    expect_worker(scripted_host, root, keys=("text", "valid_text"), words=words)
    result = run_library(MODULE, {**params(root), **chosen}, scripted_host)
    assert not result.failed, result.data
    assert {key: result["inputs"][key] for key in chosen} == chosen
    assert result["artifact"]["files"] == 2 * 2


def test_a_missing_validation_part_fails(run_library: RunModule, scripted_host: ScriptedHost, root: Path) -> None:
    words = ("--json-keys", "text", "--workers", "4", "--validation", "0.25")
    expect_worker(scripted_host, root, keys=("text",), words=words)
    result = run_library(MODULE, {**params(root), "json_keys": ["text"], "validation": 0.25}, scripted_host)
    assert "lab_valid_text_document.bin is absent" in result["msg"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"task": "finetuning"}, "pretraining datasets only"),
        ({"template": "{instruction}"}, "json_keys has 2 entries"),
        ({"validation": 1.5}, "no share below 1"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_no_engine_does_is_refused(
    run_library: RunModule,
    scripted_host: ScriptedHost,
    root: Path,
    given: dict[str, object],
    says: str,
    check_mode: bool,
) -> None:
    result = run_library(MODULE, {**params(root), **given}, scripted_host, check_mode=check_mode)
    assert result.failed
    assert says in result["msg"]
