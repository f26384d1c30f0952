# SPDX-License-Identifier: GPL-3.0-or-later
"""inventory/prod without a server: the common recipe, value by value, as the roles hand it to their modules."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.container_spec import resolve
from ansible.module_utils.ascend_fleet.host import Host

from tests.conftest import ROOT, load_library
from tests.unit.inventory.recorder import Recorded, record
from tests.unit.plan import given

PROD = ROOT / "inventory" / "prod"
STAGES = ("create-containers", "install-sources", "fetch-weights", "convert-weights", "preprocess-dataset")
IMAGE = "swr.cn-south-1.myhuaweicloud.com/ascendhub/mindspeed-llm:2025.rc1-arm"
COMMITS = {
    "MindSpeed-LLM": "b626d239cd49b7e681a170ba8c3472f713596476",
    "MindSpeed": "c721ce33e5995c2f2f8f91a433d726f2571053b7",
    "Megatron-LM": "baf94af3c667248865f23df73b9fb8e2395e6fd0",
}
BRANCHES = {"MindSpeed-LLM": "2.0.0", "MindSpeed": "2.0.0_core_r0.8.0", "Megatron-LM": "core_r0.8.0"}


class AtlasServer(Host):
    """A server as the recipe finds it: all devices, the driver's directories and files; npu-smi in /usr/local/sbin."""

    FILES = ("/usr/local/sbin/npu-smi", "/etc/hccn.conf", "/etc/ascend_install.info")

    def stat(self, path: str) -> os.stat_result | None:
        if path == "/usr/local/bin/npu-smi":
            return None
        kind = stat.S_IFCHR if path.startswith("/dev/") else stat.S_IFREG if path in self.FILES else stat.S_IFDIR
        return os.stat_result((kind | 0o755, *(0,) * 9))

    def list_dir(self, path: str) -> list[str]:
        return [f"davinci{number}" for number in range(8)] if path == "/dev" else []


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's config.json, as the plan is given it before any server is there."""
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(given.CODER_7B))
    return path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Recorded:
    place = tmp_path_factory.mktemp("recorded")
    variables = {"plan_hf_config": str(config), "plan_output": str(config.with_name("plan.json"))}
    done = record(place, PROD, ["plan-run", *STAGES], **variables)
    assert done.rc == 0, done.output
    return done


@pytest.fixture(scope="module")
def plan(recorded: Recorded, config: Path) -> dict[str, Any]:
    made = json.loads(config.with_name("plan.json").read_text())
    assert isinstance(made, dict)
    return made


def playbook(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(PROD), *arguments]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_every_playbook_is_understood_without_a_server() -> None:
    names = ["site.yml", *sorted(f"playbooks/{path.name}" for path in (ROOT / "playbooks").iterdir())]
    done = playbook("--syntax-check", *names)
    assert done.returncode == 0, done.stderr
    listed = playbook("--list-tasks", *names)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("playbook: ") == len(names)


@pytest.mark.parametrize("arguments", [["playbooks/plan-run.yml"], ["site.yml", "--tags", "plan"]])
def test_the_plan_needs_no_server(arguments: list[str], config: Path, tmp_path: Path) -> None:
    """The addresses of the example lead nowhere: whatever touched one would wait, and then fail."""
    output = tmp_path / "plan.json"
    done = playbook(*arguments, "-e", f"plan_hf_config={config}", "-e", f"plan_output={output}")
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(output.read_text())
    assert (made["problems"], made["release"]["mixed"]) == ([], [])


def test_the_plan_refuses_the_sequence_of_the_example_script(config: Path, tmp_path: Path) -> None:
    output = tmp_path / "plan.json"
    changed = json.dumps(
        {"run_plan_overrides": {"seq_length": 32768}, "plan_hf_config": str(config), "plan_output": str(output)}
    )
    assert playbook("playbooks/plan-run.yml", "-e", changed).returncode != 0
    refused = json.loads(output.read_text())
    assert len(refused["problems"]) == 1
    assert refused["suggestions"][0]["kind"] == "sequence", "what would fit is said, too"


def test_hosts_cards_and_sizes(plan: dict[str, Any]) -> None:
    (host,) = plan["hosts"]
    assert (host["name"], host["npus"], host["visible_devices"]) == ("atlas-01", [4, 5, 6, 7], "0,1,2,3")
    assert [plan[key] for key in ("world_size", "tp", "pp", "dp", "nproc_per_node")] == [4, 2, 2, 1, 4]
    assert plan["environment"]["atlas-01"]["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"
    assert plan["shards"] == {"atlas-01": ["mp_rank_00_000", "mp_rank_00_001", "mp_rank_01_000", "mp_rank_01_001"]}


def test_what_belongs_together(plan: dict[str, Any], recorded: Recorded) -> None:
    assert plan["release"]["image"] == IMAGE
    for host in ("atlas-01", "atlas-02"):
        assert recorded.asked("container_image", host)["reference"] == IMAGE
        checkout = recorded.asked("pinned_checkout", host)
        assert (checkout["commits"], checkout["branches"]) == (COMMITS, BRANCHES)
        assert recorded.asked("source_install", host)["commits"] == COMMITS


def test_the_sequence_fits(plan: dict[str, Any]) -> None:
    assert plan["train"]["seq_length"] == 4096
    assert "--seq-length 4096 --micro-batch-size 1" in " ".join(plan["training_arguments"])
    assert all(need["capacity"] == 64 << 30 and need["total"] < 50 << 30 for need in plan["memory"])


def rendered(recorded: Recorded, host: str) -> list[str]:
    """Return what would follow `docker create` on such a server."""
    options = load_library("npu_container").ARGUMENTS
    arguments = recorded.asked("npu_container", host)
    defaults = {name: option.get("default") for name, option in options.items()}
    assert set(arguments) <= set(defaults)
    return resolve(AtlasServer(), {**defaults, **arguments}).spec.arguments()


def values(line: list[str], option: str) -> list[str]:
    return [line[at + 1] for at, word in enumerate(line) if word == option]


@pytest.mark.parametrize("host", ["atlas-01", "atlas-02"])
def test_the_container(recorded: Recorded, host: str) -> None:
    line = rendered(recorded, host)
    assert values(line, "--name") == ["LLM-2025-rc1"]
    assert values(line, "--network") == ["host"]
    assert (values(line, "--shm-size"), values(line, "--ipc")) == (["200g"], ["private"])
    assert values(line, "--device") == [
        *(f"/dev/davinci{number}" for number in (4, 5, 6, 7)),
        *("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"),
    ]
    assert "--privileged" not in line
    assert IMAGE in line
    mounts = {value.split(",target=")[1].split(",")[0]: value for value in values(line, "--mount")}
    assert set(mounts) == {
        *("/home/ascend-fleet", "/home/user", "/usr/local/sbin", "/usr/local/sbin/npu-smi", "/usr/local/dcmi"),
        *("/usr/local/Ascend/driver", "/usr/local/Ascend/firmware", "/etc/hccn.conf", "/etc/ascend_install.info"),
    }
    assert all(f"source={target},target={target}" in value for target, value in mounts.items())
    written = {target for target, value in mounts.items() if not value.endswith(",readonly")}
    assert written == {"/home/ascend-fleet", "/home/user", "/usr/local/Ascend/driver", "/usr/local/dcmi"}


def test_conversion_has_the_sizes_of_the_training(recorded: Recorded, plan: dict[str, Any]) -> None:
    asked = recorded.asked("mcore_checkpoint", "atlas-01")
    expected = {"tp": 2, "pp": 2, "dtype": "bf16", "model_type_hf": "llama2", "converter_dialect": "convert_ckpt"}
    assert {key: asked[key] for key in expected} == expected
    flags = plan["training_arguments"]
    assert {"--use-mcore-models", "--bf16", "--add-qkv-bias"} <= set(flags)
    assert (values(flags, "--tensor-model-parallel-size"), values(flags, "--pipeline-model-parallel-size")) == (
        ["2"],
        ["2"],
    )


def test_the_dataset(recorded: Recorded, plan: dict[str, Any]) -> None:
    asked = recorded.asked("megatron_dataset", "atlas-01")
    expected = {"name": "EvolInstruct-900", "json_keys": ["instruction", "output"], "workers": 4, "append_eod": False}
    assert {key: asked[key] for key in expected} == expected
    assert values(plan["training_arguments"], "--data-path") == [
        "/home/ascend-fleet/dataset/current/EvolInstruct-900_output_document"
    ]


def test_where_things_come_from_and_go(recorded: Recorded, plan: dict[str, Any]) -> None:
    sources = [asked["path"] for name, _, asked in recorded.calls if name == "artifact_manifest"]
    staged = "/data/staging"
    assert sources == [
        f"{staged}/git",
        f"{staged}/models/Qwen2.5-Coder-7B",
        f"{staged}/datasets/EvolInstruct-900.jsonl",
    ]
    archive = recorded.asked("image_archive_info", "atlas-01")
    assert archive == {"archive": f"{staged}/images/mindspeed-llm-2025.rc1-arm.tar", "reference": IMAGE}
    flags = plan["training_arguments"]
    assert values(flags, "--load") == ["/home/ascend-fleet/checkpoint/current"]
    assert values(flags, "--save") == ["/home/ascend-fleet/run/current/checkpoints"]
    assert values(flags, "--save-interval") == ["200"]
