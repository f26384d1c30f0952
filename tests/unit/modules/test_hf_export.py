# SPDX-License-Identifier: GPL-3.0-or-later
"""hf_export: exports once, proves the model before it is put in place, predicts, and says what stands against it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Container, Host
from ansible.module_utils.ascend_fleet.receipt import Store, converge, fingerprint

from tests.conftest import RunModule, ScriptedHost

MODULE = "hf_export"
RUN = "e921d07211d1f010"
FILES = ("model-1.safetensors", "config.json")
CONFIG = {"architectures": ["Qwen2ForCausalLM"], "vocab_size": 1024}


def make_weights(root: Path, config: dict[str, Any]) -> str:
    """Leave the model that was trained from, as the weights stage does; return its fingerprint."""

    def build(directory: str, verdict: object) -> dict[str, str]:
        (Path(directory) / "model-1.safetensors").write_bytes(b"weights")
        (Path(directory) / "config.json").write_text(json.dumps(config))
        return {}

    inputs = {"contents": json.dumps(config)}
    converge(Store(Host(), str(root), "weights"), inputs, build)
    return fingerprint(inputs)


def make_shard(root: Path, name: str, host: str = "") -> str:
    """Leave a shard: trained here, or gathered from another host, there with its receipt. Return its directory."""
    if not host:
        place = root / "run" / RUN / "checkpoints" / "iter_0000020" / name
        place.mkdir(parents=True)
        (place / "model_optim_rng.pt").write_text(name)
        return str(place)

    def build(directory: str, verdict: object) -> dict[str, str]:
        (Path(directory) / name).mkdir()
        (Path(directory) / name / "model_optim_rng.pt").write_text(name)
        return {}

    store = Store(Host(), str(root), f"trained/{host}")
    converge(store, {"from": host}, build)
    return f"{store.root}/current/{name}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_weights(tmp_path, CONFIG)
    return tmp_path


@pytest.fixture
def params(root: Path) -> dict[str, Any]:
    shards = {
        "mp_rank_00_000": make_shard(root, "mp_rank_00_000"),
        "mp_rank_00_001": make_shard(root, "mp_rank_00_001", "npu-2"),
    }
    return {
        "work_root": str(root),
        "container": "train",
        "run": RUN,
        "iteration": 20,
        "shards": shards,
        "tp": 1,
        "pp": 2,
        "visible_devices": "4,5",
    }


def expected_inputs(root: Path, params: dict[str, Any]) -> dict[str, Any]:
    digests = {name: Host().sha256(f"{place}/model_optim_rng.pt") for name, place in params["shards"].items()}
    weights = Store(Host(), str(root), "weights").current()
    return {"run": RUN, "iteration": 20, "shards": digests, "weights": weights, "layout": "hf-1"}


class Script:
    """The three programs that an export runs, with what the real ones leave and answer."""

    def __init__(self, host: ScriptedHost, root: Path, params: dict[str, Any]) -> None:
        self.host, self.root, self.params = host, root, params
        name = fingerprint(expected_inputs(root, params))
        self.out = root / "export" / f".{name}.partial"
        self.links = root / "export" / f".{name}.shards"
        self.seen: dict[str, str] = {}

    def worker(
        self, program: str, *line: str, answer: dict[str, Any], effect: Any = None, env: dict[str, str] | None = None
    ) -> None:
        argv = ["python", f"{self.root}/workers/{program}", *line, "--json"]
        env = {"FLEET_PROGRESS": f"{self.root}/export/.progress"} if env is None else env
        command = Container(self.host, "train").command(argv, env)
        self.host.expect(command, json.dumps(answer) + "\n", rc=1 if "error" in answer else 0, effect=effect)

    def convert(self, files: tuple[str, ...] = FILES, **answer: Any) -> None:
        weights = Store(Host(), str(self.root), "weights")
        line = ["mcore2hf", "--mcore", str(self.links), "--reference-hf", weights.path(weights.current() or "")]

        def effect() -> None:
            tracker = (self.links / "latest_checkpointed_iteration.txt").read_text()
            for shard in (self.links / f"iter_{int(tracker):07d}").iterdir():
                self.seen[shard.name] = (shard / "model_optim_rng.pt").read_text()
            for name in files:
                (self.out / name).write_text("trained")

        self.worker("convert_checkpoint.py", *line, "--out", str(self.out), answer=answer or {"tp": 1}, effect=effect)

    def compare(self, **answer: Any) -> None:
        line = [
            "verify",
            "--hf",
            str(self.out),
            "--mcore",
            str(self.links),
            "--tp",
            "1",
            "--pp",
            "2",
            "--dtype",
            "bf16",
        ]
        self.worker("convert_checkpoint.py", *line, "--vocab-divisible-by", "1", answer=answer or {"equal": True})

    def load(self, **answer: Any) -> None:
        line = ["--model", str(self.out), "--device", "auto"]
        answer = answer or {"architecture": "Qwen2ForCausalLM", "structure": ["a", "b"]}
        npus = self.params.get("visible_devices")
        env = {"ASCEND_RT_VISIBLE_DEVICES": npus} if npus else {}
        self.worker("verify_model.py", *line, answer=answer, env=env)


@pytest.fixture
def script(scripted_host: ScriptedHost, root: Path, params: dict[str, Any]) -> Script:
    return Script(scripted_host, root, params)


def test_the_first_run_exports_and_the_second_does_not(
    run_library: RunModule, script: Script, params: dict[str, Any]
) -> None:
    script.convert()
    script.compare()
    script.load()
    first = run_library(MODULE, params, script.host)
    assert first.changed, first.data
    assert script.seen == {name: name for name in params["shards"]}, "the worker sees one whole checkpoint"
    made = first["artifact"]["made_with"]
    assert (made["compared"], made["loaded"]) == ({"equal": True}, {"architecture": "Qwen2ForCausalLM"})
    assert first["parents"] == {"run": RUN, "weights": first["inputs"]["weights"]}
    assert sorted(os.listdir(first["directory"])) == sorted([*FILES, "receipt.json"])
    assert os.readlink(f"{params['work_root']}/export/current") == first["fingerprint"]
    assert not script.links.exists()
    second = run_library(MODULE, params, script.host)
    assert (second.changed, second["found"], second["artifact"]) == (False, "ok", first["artifact"])


def test_check_mode_predicts_and_the_diff_shows_the_inputs(
    run_library: RunModule, script: Script, root: Path, params: dict[str, Any]
) -> None:
    predicted = run_library(MODULE, params, script.host, check_mode=True)
    assert predicted.changed
    assert not (root / "export").exists()
    assert predicted["diff"]["after"]["inputs"] == expected_inputs(root, params)
    script.convert()
    script.compare()
    script.load()
    real = run_library(MODULE, params, script.host)
    assert (real["diff"], real["actions"], real["fingerprint"]) == tuple(
        predicted[key] for key in ("diff", "actions", "fingerprint")
    )
    assert not run_library(MODULE, params, script.host, check_mode=True).changed


def test_check_mode_before_the_shards_are_gathered(
    run_library: RunModule, scripted_host: ScriptedHost, root: Path, params: dict[str, Any]
) -> None:
    for changed in ({"shards": {}, "iteration": 0, "run": ""}, {"shards": {"mp_rank_00": f"{root}/nowhere"}}):
        predicted = run_library(MODULE, {**params, **changed}, scripted_host, check_mode=True)
        assert (predicted.changed, predicted["fingerprint"]) == (True, None)


def test_another_iteration_gets_another_directory(
    run_library: RunModule, script: Script, params: dict[str, Any]
) -> None:
    script.convert()
    script.compare()
    script.load()
    first = run_library(MODULE, params, script.host)
    Path(params["shards"]["mp_rank_00_000"], "model_optim_rng.pt").write_text("trained on")
    again = Script(script.host, script.root, params)
    again.convert()
    again.compare()
    again.load()
    second = run_library(MODULE, params, script.host)
    assert second["directory"] != first["directory"]
    assert Path(first["directory"], "config.json").is_file()


@pytest.mark.parametrize("step", ["convert", "compare", "load", "files"])
def test_nothing_is_put_in_place_where_a_proof_fails(
    run_library: RunModule, script: Script, root: Path, params: dict[str, Any], step: str
) -> None:
    wrong = {"error": f"{step} does not come out", "remedy": "look"}
    script.convert(**wrong) if step == "convert" else script.convert(FILES[1:] if step == "files" else FILES)
    if step in ("compare", "load"):
        script.compare(**(wrong if step == "compare" else {}))
    if step == "load":
        script.load(**wrong)
    result = run_library(MODULE, params, script.host)
    assert result.failed
    assert ("lacks model-1.safetensors" if step == "files" else wrong["error"]) in result["msg"]
    assert not os.path.lexists(root / "export" / "current")
    assert not script.links.exists()


@pytest.mark.parametrize(
    ("config", "why"), [({"vocab_size": 1023}, "padding rows"), ({"tie_word_embeddings": True}, "tied embedding")]
)
def test_shards_with_more_than_the_model_are_not_compared(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path, config: dict[str, Any], why: str
) -> None:
    make_weights(tmp_path, {**CONFIG, **config})
    shards = {name: make_shard(tmp_path, name) for name in ("mp_rank_00", "mp_rank_01")}
    params = {
        "work_root": str(tmp_path),
        "container": "train",
        "run": RUN,
        "iteration": 20,
        "shards": shards,
        "tp": 2,
        "pp": 1,
    }
    script = Script(scripted_host, tmp_path, params)
    script.convert()
    script.load()
    result = run_library(MODULE, params, scripted_host)
    assert result["artifact"]["made_with"]["compared"]["equal"] is None
    assert why in result["artifact"]["made_with"]["compared"]["why"]


def test_a_model_that_the_native_engine_does_not_know_is_refused(
    run_library: RunModule, scripted_host: ScriptedHost, tmp_path: Path, params: dict[str, Any]
) -> None:
    make_weights(tmp_path, {"architectures": ["MixtralForCausalLM"], "vocab_size": 8})
    result = run_library(MODULE, params, scripted_host)
    assert result.failed
    assert "MixtralForCausalLM" in result["problem"]
    assert "--save-model-type hf" in result["remedy"]


def test_a_shard_that_is_absent_is_named(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any]
) -> None:
    params["shards"]["mp_rank_00_000"] += "9"
    result = run_library(MODULE, params, scripted_host)
    assert result.failed
    assert "mp_rank_00_0009/model_optim_rng.pt is not there" in result["problem"]


def test_a_receipt_spares_the_hash_only_while_size_and_time_agree(
    run_library: RunModule, script: Script, root: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = Host.sha256
    monkeypatch.setattr(Host, "sha256", lambda self, path: hashed.append(path) or real(self, path))
    run_library(MODULE, params, script.host, check_mode=True)
    assert [Path(path).parent.name for path in hashed] == ["mp_rank_00_000"]
    gathered = Path(params["shards"]["mp_rank_00_001"], "model_optim_rng.pt")
    gathered.write_text("mp_rank_00_00X")
    hashed.clear()
    run_library(MODULE, params, script.host, check_mode=True)
    assert len(hashed) == 2
