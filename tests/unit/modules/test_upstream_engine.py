# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream engine: the script of the source tree really runs, under the real watchdog, and what it leaves is really compared.

The scripts are written here. A good one makes what upstream makes; the others fail in the ways upstream does, with status 0 wherever
upstream has it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.conversion_engine import NATIVE, VARIANTS, native_objection
from ansible.module_utils.ascend_fleet.conversion_upstream import Traffic, script_arguments, traffic
from ansible.module_utils.ascend_fleet.errors import FleetError
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.manifest import FileEntry, Manifest
from ansible.module_utils.ascend_fleet.receipt import Receipt, Store, converge

from tests.conftest import ROOT, RunModule
from tests.unit.modules.local_engine import LocalEngine
from tests.unit.workers.tiny import make_model

COMMIT = "c" * 40
GOLDEN = ROOT / "tests" / "data" / "golden"

# Takes upstream's options and leaves what upstream leaves: iter_0000001 and the tracker 1.
CONVERT = """
import argparse, os, subprocess, sys
options = argparse.ArgumentParser()
for name in ("--model-type", "--model-type-hf", "--load-model-type", "--save-model-type", "--params-dtype", "--load-dir", "--save-dir",
             "--target-tensor-parallel-size", "--target-pipeline-parallel-size", "--make-vocab-size-divisible-by",
             "--num-layer-list", "--tokenizer-model", "--max-queue-size"):
    options.add_argument(name)
options.add_argument("--use-mcore-models", action="store_true")
options.add_argument("--add-qkv-bias", action="store_true")
given = options.parse_args()
assert given.use_mcore_models and given.model_type_hf == "llama2", given
assert os.path.basename(os.getcwd()) == "MindSpeed-LLM"
assert os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] == "1"
line = [sys.executable, {worker!r}, "hf2mcore", "--hf", given.load_dir, "--out", given.save_dir + "/made", "--tracker", "iteration"]
line += ["--tp", given.target_tensor_parallel_size, "--pp", given.target_pipeline_parallel_size, "--dtype", given.params_dtype]
line += ["--layers-per-stage", given.num_layer_list] if given.num_layer_list else []
subprocess.run(line, check=True)
for name in os.listdir(given.save_dir + "/made"):
    os.rename(given.save_dir + "/made/" + name, given.save_dir + "/" + name)
os.rmdir(given.save_dir + "/made")
print("converted")
"""

PREPROCESS = """
import argparse, subprocess, sys
options = argparse.ArgumentParser()
for name in ("--input", "--tokenizer-type", "--tokenizer-name-or-path", "--output-prefix", "--workers", "--log-interval", "--cache-dir"):
    options.add_argument(name)
options.add_argument("--json-keys", nargs="+")
options.add_argument("--append-eod", action="store_true")
given = options.parse_args()
assert given.tokenizer_type == "PretrainedFromHF"
open(given.cache_dir + "/cached", "w").close()
line = [sys.executable, {worker!r}, "--input", given.input, "--tokenizer", given.tokenizer_name_or_path, "--output-prefix",
        given.output_prefix, "--json-keys", *given.json_keys]
subprocess.run(line + ["--append-eod"] * given.append_eod, check=True)
"""
WORKERS = ROOT / "workers"
GOOD_CONVERT = CONVERT.format(worker=str(WORKERS / "convert_checkpoint.py"))
GOOD_PREPROCESS = PREPROCESS.format(worker=str(WORKERS / "build_dataset.py"))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalEngine]:
    """A container that is this machine, with this interpreter as its `python`."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield LocalEngine(tmp_path / "engine")


def put(root: Path, stage: str, fill: Any) -> Path:
    def build(directory: str, verdict: object) -> dict[str, str]:
        fill(Path(directory))
        return {}

    store = Store(Host(), str(root), stage)
    return Path(converge(store, {"contents": stage}, build).values["directory"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    put(root, "weights", lambda directory: make_model(directory))
    tree = root / "source" / "MindSpeed-LLM"
    tree.mkdir(parents=True)
    (root / "workers").symlink_to(WORKERS)
    receipt = Receipt("source", {"commits": {"MindSpeed-LLM": COMMIT}}, Manifest({}))
    (root / "source" / "receipt.json").write_text(json.dumps(receipt.as_dict()))
    return root


def script(root: Path, name: str, text: str) -> None:
    (root / "source" / "MindSpeed-LLM" / name).write_text(text)


def conversion(root: Path, local: LocalEngine, **more: Any) -> dict[str, Any]:
    given = {"work_root": str(root), "container": local.name, "docker_cli": local.cli, "tp": 2, "pp": 2}
    return {**given, "engine": "upstream", "model_type_hf": "llama2", "stall_seconds": 3, **more}


def test_a_good_conversion_is_compared_and_released(run_library: RunModule, root: Path, engine: LocalEngine) -> None:
    script(root, "convert_ckpt.py", GOOD_CONVERT)
    params = conversion(root, engine, layers_per_stage=[1, 3])
    first = run_library("mcore_checkpoint", params)
    assert not first.failed, first.data
    directory = Path(first["directory"])
    assert sorted(path.name for path in directory.iterdir()) == [
        "latest_checkpointed_iteration.txt",
        "receipt.json",
        "release",
    ]
    assert (directory / "latest_checkpointed_iteration.txt").read_text() == "release"
    worker = first["artifact"]["made_with"]["worker"]
    assert worker["verified"]["equal"] is True
    assert worker["verified"]["ranks"] == 4
    assert "--add-qkv-bias" in worker["arguments"]
    assert worker["arguments"][worker["arguments"].index("--num-layer-list") + 1] == "1,3"
    assert (first["inputs"]["engine"], first["inputs"]["scripts"]) == ("upstream", COMMIT)
    assert set(first["parents"]) == {"weights", "source"}
    assert not run_library("mcore_checkpoint", params).changed
    assert run_library("mcore_checkpoint", {**params, "engine": "native"}, check_mode=True).changed


def test_auto_takes_upstream_for_a_release_that_was_not_compared(
    run_library: RunModule, root: Path, engine: LocalEngine
) -> None:
    script(root, "convert_ckpt.py", GOOD_CONVERT)
    given = conversion(root, engine, engine="auto", native_families=["llama"])
    other = run_library("mcore_checkpoint", {**given, "converter_dialect": "convert_ckpt_v2"})
    assert "command line is convert_ckpt_v2" in other["msg"]
    predicted = run_library("mcore_checkpoint", given, check_mode=True)
    assert predicted["engine"] == "upstream"
    assert (
        run_library("mcore_checkpoint", {**given, "native_families": ["qwen2"]}, check_mode=True)["engine"] == "native"
    )


WRONG_VALUE = """
import glob, torch
path = sorted(glob.glob(given.save_dir + "/iter_0000001/mp_rank_01_001/*.pt"))[0]
state = torch.load(path, weights_only=False)
key = "decoder.layers.0.mlp.linear_fc1.weight"
state["model"][key][3, 5] += 1
torch.save(state, path)
"""
LOST_BIAS = """
import glob, torch
for path in glob.glob(given.save_dir + "/iter_0000001/*/*.pt"):
    state = torch.load(path, weights_only=False)
    state["model"] = {{key: value for key, value in state["model"].items() if not key.endswith("linear_qkv.bias")}}
    torch.save(state, path)
"""
LOST_RANK = 'import shutil; shutil.rmtree(given.save_dir + "/iter_0000001/mp_rank_01_001")'
SAVER_LEFT = "\nprint('ERROR:root:another layer came')"
# As upstream: the trace is the saving process's, and the loading one goes on to a status of 0.
NO_FILES = "print('  File x\\n    raise ValueError(\\nValueError: 4 groups for TP 8\\nINFO:root:sending embeddings')"
HANG = """
import multiprocessing, os
def saver(queue):
    os._exit(1)
queue = multiprocessing.Queue(2)
child = multiprocessing.Process(target=saver, args=(queue,))
child.start()
print("saver: no space left on device", flush=True)
for number in range(100):
    queue.put(bytes(1 << 20))
child.join()
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD_CONVERT + WRONG_VALUE, "decoder.layers.0.mlp.linear_fc1.weight of rank 1_1 differs from the source"),
        (GOOD_CONVERT + LOST_BIAS.replace("{{", "{").replace("}}", "}"), "linear_qkv.bias of rank 0_0 is missing"),
        (GOOD_CONVERT + LOST_RANK, "left 3 of 4 shards. Its log says: nothing of an error"),
        (GOOD_CONVERT + LOST_RANK + SAVER_LEFT, "left 3 of 4 shards. Its log says: ERROR:root:another layer came"),
        (NO_FILES, "left 0 of 4 shards. Its log says: ValueError: 4 groups for TP 8"),
        ("raise SystemExit('kv heads 2 % 4')", "ended with status 1: kv heads 2 % 4"),
        (HANG, "did nothing for 3 s and was ended: saver: no space left on device"),
    ],
    ids=["wrong value", "lost bias", "lost rank", "saver left", "no files", "status 1", "dead saver"],
)
def test_no_exit_status_is_believed(
    run_library: RunModule, root: Path, engine: LocalEngine, text: str, says: str
) -> None:
    script(root, "convert_ckpt.py", text)
    result = run_library("mcore_checkpoint", conversion(root, engine))
    assert result.failed
    assert says in result["msg"], result["msg"]
    assert not (root / "checkpoint" / "current").exists()


def test_the_converter_is_never_the_pretraining_script(run_library: RunModule, root: Path, engine: LocalEngine) -> None:
    """The page's trap: its conversion step is given the pretraining script. Here the program is not a parameter, and what a tree
    has in the converter's place is not believed."""
    trained = root / "trained"
    pretraining = f"import pathlib\npathlib.Path({str(trained)!r}).mkdir()\nprint('iteration 1/20')\n"
    for name in ("pretrain_gpt.py", "pretrain_qwen25_coder_7b_32k_ptd.sh"):
        script(root, name, pretraining)
    script(root, "convert_ckpt.py", GOOD_CONVERT)
    converted = run_library("mcore_checkpoint", conversion(root, engine))
    assert not converted.failed, converted.data
    assert not trained.exists(), "nothing but the converter has run"
    script(root, "convert_ckpt.py", pretraining)
    refused = run_library("mcore_checkpoint", conversion(root, engine, tp=1))
    assert trained.exists()
    assert refused.failed
    assert Store(Host(), str(root), "checkpoint").current() == converted["fingerprint"], (
        "what was converted stays in use"
    )
    assert not list((root / "checkpoint").glob("*.partial"))


def test_upstream_needs_the_source_and_the_models_name(run_library: RunModule, root: Path, engine: LocalEngine) -> None:
    nameless = run_library("mcore_checkpoint", conversion(root, engine, model_type_hf=""))
    assert "does not say what its converter calls a qwen2 model" in nameless["msg"]
    (root / "source" / "receipt.json").unlink()
    result = run_library("mcore_checkpoint", conversion(root, engine))
    assert result.failed
    assert "--tags source" in result["remedy"]


def test_auto_takes_upstream_for_what_is_not_native(run_library: RunModule, root: Path, engine: LocalEngine) -> None:
    """Also then the result is compared, value by value: no layout of such a model is known here."""
    weights = (root / "weights" / "current").resolve()
    settings = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**settings, "hidden_act": "gelu"}))
    script(root, "convert_ckpt.py", _as_if_known(GOOD_CONVERT))
    refused = run_library("mcore_checkpoint", conversion(root, engine, engine="native"))
    assert "native engine does not do this model: Qwen2ForCausalLM with hidden_act gelu" in refused["msg"]
    result = run_library("mcore_checkpoint", conversion(root, engine, engine="auto"))
    assert not result.failed, result.data
    assert result["engine"] == "upstream"
    verified = result["artifact"]["made_with"]["worker"]["verified"]
    assert verified["layout_known"] is False
    assert verified["values"] == 8944  # all parameters of the model


@pytest.mark.parametrize("damage", [WRONG_VALUE, LOST_BIAS.replace("{{", "{").replace("}}", "}")])
def test_values_of_an_unknown_layout_are_counted(
    run_library: RunModule, root: Path, engine: LocalEngine, damage: str
) -> None:
    weights = (root / "weights" / "current").resolve()
    settings = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps({**settings, "hidden_act": "gelu"}))
    script(root, "convert_ckpt.py", _as_if_known(GOOD_CONVERT) + damage)
    result = run_library("mcore_checkpoint", conversion(root, engine))
    assert result.failed
    assert "values" in result["msg"]


def _as_if_known(text: str) -> str:
    """The good script converts a copy of the model whose activation is one that our worker knows."""
    return text.replace(
        "line = [",
        """import json, shutil
shutil.copytree(given.load_dir, given.save_dir + "/copy")
config = json.load(open(given.save_dir + "/copy/config.json"))
json.dump({**config, "hidden_act": "silu"}, open(given.save_dir + "/copy/config.json", "w"))
given.load_dir = given.save_dir + "/copy"
line = [""",
        1,
    ).replace('print("converted")', 'shutil.rmtree(given.save_dir + "/copy")')


@pytest.fixture
def corpus(root: Path, tmp_path: Path) -> Path:
    """Model and documents for which upstream's own bytes are known."""

    def model(directory: Path) -> None:
        for path in (GOLDEN / "tiny_hf").iterdir():
            (directory / path.name).write_bytes(path.read_bytes())

    other = tmp_path / "other"
    put(other, "weights", model)
    put(other, "corpus", lambda place: (place / "x.jsonl").write_bytes((GOLDEN / "sample_900.jsonl").read_bytes()))
    (other / "source").symlink_to(root / "source")
    (other / "workers").symlink_to(WORKERS)
    return other


def dataset(root: Path, local: LocalEngine, **more: Any) -> dict[str, Any]:
    given = {"work_root": str(root), "container": local.name, "docker_cli": local.cli, "name": "sample", "workers": 1}
    return {**given, "json_keys": ["instruction", "output"], "engine": "upstream", "stall_seconds": 20, **more}


def test_a_good_dataset_is_read_back(run_library: RunModule, root: Path, corpus: Path, engine: LocalEngine) -> None:
    script(root, "preprocess_data.py", GOOD_PREPROCESS)
    first = run_library("megatron_dataset", dataset(corpus, engine))
    assert not first.failed, first.data
    assert first["artifact"]["files"] == 4
    assert first["artifact"]["made_with"]["worker"]["keys"]["output"]["documents"] == 900
    wanted = json.loads((GOLDEN / "dataset.json").read_text())
    assert {name: (Path(first["directory"]) / f"sample_{name}").stat().st_size for name in wanted} == {
        name: figures["bytes"] for name, figures in wanted.items()
    }
    assert not run_library("megatron_dataset", dataset(corpus, engine)).changed


OTHER_TOKEN = """
with open(given.output_prefix + "_output_document.bin", "r+b") as stream:
    stream.seek(4000)
    stream.write(b"\\1\\0\\0\\0")
"""
LAST_LOST = """
lines = open(given.input).read().splitlines()[:-1]
open(given.cache_dir + "/short.jsonl", "w").write("\\n".join(lines))
line[line.index("--input") + 1] = given.cache_dir + "/short.jsonl"
subprocess.run(line, check=True)
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD_PREPROCESS + OTHER_TOKEN, "are not those of its text"),
        (GOOD_PREPROCESS + LAST_LOST, "has 899 documents, the input has more"),
        ("print('nothing made')", "does not exist"),
    ],
    ids=["other token", "lost document", "no files"],
)
def test_a_wrong_dataset_is_refused(
    run_library: RunModule, root: Path, corpus: Path, engine: LocalEngine, text: str, says: str
) -> None:
    script(root, "preprocess_data.py", text)
    result = run_library("megatron_dataset", dataset(corpus, engine))
    assert result.failed
    assert says in result["msg"], result["msg"]
    assert not (corpus / "dataset" / "current").exists()


def test_what_upstream_has_no_option_for_is_refused(run_library: RunModule, corpus: Path, engine: LocalEngine) -> None:
    more = {"json_keys": ["text"], "template": "{instruction}", "validation": 0.1}
    result = run_library("megatron_dataset", dataset(corpus, engine, **more))
    assert "upstream engine cannot do this: a template, a validation part" in result["msg"]


def test_worker_and_module_agree_on_what_is_native() -> None:
    sys.path.insert(0, str(WORKERS))
    import _model_config

    assert _model_config.FAMILIES == NATIVE
    for changes in (
        {},
        {"architectures": ["MixtralForCausalLM"]},
        {"hidden_act": "gelu"},
        *({key: True} for key in VARIANTS),
    ):
        config = {
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": 8,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "intermediate_size": 8,
            "vocab_size": 8,
            **changes,
        }
        assert _model_config.is_native(config) == (native_objection(config) == ""), changes


def test_the_queue_fits_into_shared_memory() -> None:
    sizes = Traffic(embedding=1000, layer=100)
    assert sizes.queue_size(10**9) == 50
    assert sizes.queue_size(2000 + 1200) == 10
    assert sizes.queue_size(2300) == 1
    with pytest.raises(FleetError, match="would end with status 0 and no files"):
        sizes.queue_size(2299)


@pytest.mark.parametrize(
    ("dtype", "stored", "size"), [("bf16", "bfloat16", 2), ("fp32", "bfloat16", 4), ("bf16", "float32", 2)]
)
def test_the_messages_are_estimated_from_the_model(dtype: str, stored: str, size: int) -> None:
    values = 2 * 50 * 8 + 4 * 1000
    files = {"model.safetensors": FileEntry(values * (4 if stored == "float32" else 2), 0, "")}
    config = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 4, "torch_dtype": stored}
    found = traffic(config, Receipt("weights", {}, Manifest(files)), dtype)
    assert found == Traffic(50 * 8 * size, 1000 * size)


def test_arguments_of_a_llama() -> None:
    params = {
        "tp": 8,
        "pp": 1,
        "dtype": "bf16",
        "layers_per_stage": [32],
        "vocab_divisible_by": 1,
        "model_type_hf": "llama2",
    }
    line = script_arguments(params, {"model_type": "llama"}, "/w", "/o")
    assert "--add-qkv-bias" not in line
    assert "--num-layer-list" not in line
    assert line[line.index("--target-tensor-parallel-size") + 1] == "8"
