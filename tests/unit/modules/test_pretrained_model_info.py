# SPDX-License-Identifier: GPL-3.0-or-later
"""pretrained_model_info: loads once, remembers, and names what is in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.host import Container, Host
from ansible.module_utils.ascend_fleet.receipt import Store, converge

from tests.conftest import RunModule, ScriptedHost

SCRIPTS = ["/opt/cann/set_env.sh"]
ANSWER = {
    "architecture": "Qwen2ForCausalLM",
    "structure": ["Qwen2ForCausalLM(", ")"],
    "model_type": "qwen2",
    "parameters": 1234,
    "dtype": "bfloat16",
    "device": "cpu",
    "logits": {"finite": True, "tokens": 9},
    "warnings": [],
}


def inspect(host: ScriptedHost, image: str = "sha256:aa") -> None:
    host.expect(["docker", "inspect", "--type", "container", "--format", "{{.Image}}", "train"], stdout=f"{image}\n")


def load(
    host: ScriptedHost, params: dict[str, Any], fingerprint: str, extra: list[str] | None = None, **answer: Any
) -> None:
    root = params["work_root"]
    argv = ["python", f"{root}/workers/verify_model.py", "--model", f"{root}/weights/{fingerprint}", "--device", "auto"]
    npus = params.get("visible_devices")
    env = {"ASCEND_RT_VISIBLE_DEVICES": npus} if npus else {}
    line = Container(Host(), "train", SCRIPTS).command([*argv, *(extra or []), "--json"], env)
    host.expect(line, **{"stdout": "a library chats\n" + json.dumps(ANSWER) + "\n", **answer})


@pytest.fixture
def params(tmp_path: Path) -> dict[str, Any]:
    return {"work_root": str(tmp_path), "container": "train", "env_scripts": SCRIPTS}


@pytest.fixture
def weights(tmp_path: Path) -> str:
    def build(directory: str, verdict: object) -> dict[str, str]:
        (Path(directory) / "config.json").write_text("{}")
        return {}

    outcome = converge(Store(Host(), str(tmp_path), "weights"), {"contents": {"config.json": "x"}}, build)
    return str(outcome.values["fingerprint"])


def test_a_second_run_does_not_load_again(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str
) -> None:
    inspect(scripted_host)
    load(scripted_host, params, weights)
    first = run_library("pretrained_model_info", params, host=scripted_host)
    assert not first.changed
    assert first["loaded"]
    assert (first["architecture"], first["parameters"], first["finite"]) == ("Qwen2ForCausalLM", 1234, True)
    assert first["structure"] == ANSWER["structure"]
    inspect(scripted_host)
    second = run_library("pretrained_model_info", params, host=scripted_host)
    assert not second["loaded"]
    assert {**second.data, "loaded": True} == first.data


def test_the_npus_of_the_run_alone_are_seen(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str
) -> None:
    params["visible_devices"] = "4,5"
    inspect(scripted_host)
    load(scripted_host, params, weights)
    assert run_library("pretrained_model_info", params, host=scripted_host)["loaded"]


def test_another_image_loads_again(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str
) -> None:
    for image in ("sha256:aa", "sha256:bb"):
        inspect(scripted_host, image)
        load(scripted_host, params, weights)
        assert run_library("pretrained_model_info", params, host=scripted_host)["loaded"]


def test_a_damaged_memory_loads_again(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str, tmp_path: Path
) -> None:
    (tmp_path / "weights" / f".verified-{weights}.json").write_text("[1]")
    inspect(scripted_host)
    load(scripted_host, params, weights)
    assert run_library("pretrained_model_info", params, host=scripted_host)["loaded"]


def test_switches_reach_the_worker(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str
) -> None:
    inspect(scripted_host)
    load(scripted_host, params, weights, ["--trust-remote-code", "--allow-pickle"])
    switches = {"trust_remote_code": True, "allow_pickle": True}
    assert run_library("pretrained_model_info", {**params, **switches}, host=scripted_host)["loaded"]


def test_check_mode_loads_nothing(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str, tmp_path: Path
) -> None:
    inspect(scripted_host)
    predicted = run_library("pretrained_model_info", params, host=scripted_host, check_mode=True)
    assert not predicted["loaded"]
    assert predicted["architecture"] is None
    assert not list((tmp_path / "weights").glob(".verified-*"))


def test_check_mode_on_a_bare_server_is_no_error(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], tmp_path: Path
) -> None:
    predicted = run_library("pretrained_model_info", params, host=scripted_host, check_mode=True)
    assert not predicted.failed
    assert predicted["fingerprint"] is None
    refused = run_library("pretrained_model_info", params, host=scripted_host)
    assert refused.failed
    assert "--tags weights" in refused["remedy"]


def test_the_workers_own_error_is_passed_on_and_not_remembered(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str, tmp_path: Path
) -> None:
    inspect(scripted_host)
    problem = {"error": "3 of 900 logits are NaN or Inf", "remedy": "Compare the checksums."}
    load(scripted_host, params, weights, stdout=json.dumps(problem), rc=1)
    refused = run_library("pretrained_model_info", params, host=scripted_host)
    assert refused.failed
    assert refused["problem"] == problem["error"]
    assert not list((tmp_path / "weights").glob(".verified-*"))


def test_an_absent_container_names_the_tag_to_run(
    run_library: RunModule, scripted_host: ScriptedHost, params: dict[str, Any], weights: str
) -> None:
    argv = ["docker", "inspect", "--type", "container", "--format", "{{.Image}}", "train"]
    scripted_host.expect(argv, rc=1, stderr="Error: No such container: train\n")
    refused = run_library("pretrained_model_info", params, host=scripted_host)
    assert refused.failed
    assert "train" in refused["problem"]
    assert "--tags container" in refused["remedy"]
