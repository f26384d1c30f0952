# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is where: Megatron's rank order, shards and writers, the environment and the launch line of each host."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.plan import given


def test_the_labs_plan() -> None:
    made = given.make()
    assert (made["world_size"], made["nnodes"], made["nproc_per_node"]) == (4, 2, 2)
    assert (made["tp"], made["pp"], made["cp"], made["dp"]) == (2, 2, 1, 1)
    assert made["ranks"] == [
        {"rank": 0, "host": "npu-1", "local_rank": 0, "tp": 0, "pp": 0, "dp": 0, "cp": 0},
        {"rank": 1, "host": "npu-1", "local_rank": 1, "tp": 1, "pp": 0, "dp": 0, "cp": 0},
        {"rank": 2, "host": "npu-2", "local_rank": 0, "tp": 0, "pp": 1, "dp": 0, "cp": 0},
        {"rank": 3, "host": "npu-2", "local_rank": 1, "tp": 1, "pp": 1, "dp": 0, "cp": 0},
    ]
    assert made["shards"] == {
        "npu-1": ["mp_rank_00_000", "mp_rank_01_000"],
        "npu-2": ["mp_rank_00_001", "mp_rank_01_001"],
    }
    assert made["writers"] == made["shards"]
    assert made["hosts"][1] == {
        "name": "npu-2",
        "address": "192.0.2.12",
        "interface": "eth0",
        "node_rank": 1,
        "npus": [2, 3],
        "visible_devices": "0,1",
        "hbm_mb": 65536,
    }
    assert made["conversion"] == {
        "host": "npu-1",
        "tp": 2,
        "pp": 2,
        "dtype": "bf16",
        "layers_per_stage": [2, 2],
        "vocab_divisible_by": 1,
    }
    assert made["dataset"] == {
        "name": "lab",
        "keys": ["output"],
        "train_key": "output",
        "append_eod": False,
        "template": "",
        "validation": 0.0,
    }
    assert made["problems"] == []


def test_rank_order_is_tp_cp_dp_pp() -> None:
    made = given.make(overrides={"cp": 2}, fleet=given.hosts(4, (0, 1, 2, 3)))
    order = [(pp, dp, cp, tp) for pp in range(2) for dp in range(2) for cp in range(2) for tp in range(2)]
    assert [(rank["pp"], rank["dp"], rank["cp"], rank["tp"]) for rank in made["ranks"]] == order
    assert [rank["host"] for rank in made["ranks"]] == [f"npu-{1 + number // 4}" for number in range(16)]


def test_only_the_first_of_a_data_parallel_group_writes() -> None:
    made = given.make(fleet=given.hosts(4))
    assert made["dp"] == 2
    assert made["shards"]["npu-2"] == made["shards"]["npu-1"] == ["mp_rank_00_000", "mp_rank_01_000"]
    assert made["writers"] == {
        "npu-1": ["mp_rank_00_000", "mp_rank_01_000"],
        "npu-2": [],
        "npu-3": ["mp_rank_00_001", "mp_rank_01_001"],
        "npu-4": [],
    }


def test_context_parallel_ranks_share_a_shard_and_one_writes_it() -> None:
    made = given.make(overrides={"tp": 1, "pp": 2, "cp": 2})
    assert made["shards"] == {"npu-1": ["mp_rank_00_000"], "npu-2": ["mp_rank_00_001"]}
    assert made["writers"] == made["shards"]


def test_shards_without_a_pipeline_have_no_stage_in_their_name() -> None:
    made = given.make(overrides={"pp": 1})
    assert made["shards"] == {"npu-1": ["mp_rank_00", "mp_rank_01"], "npu-2": ["mp_rank_00", "mp_rank_01"]}
    assert made["writers"]["npu-2"] == []


def test_environment_of_a_host() -> None:
    assert given.make()["environment"]["npu-2"] == {
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "ASCEND_RT_VISIBLE_DEVICES": "0,1",
        "HCCL_CONNECT_TIMEOUT": "1800",
        "HCCL_EXEC_TIMEOUT": "1836",
        "HCCL_IF_IP": "192.0.2.12",
        "HCCL_SOCKET_IFNAME": "=eth0",
        "GLOO_SOCKET_IFNAME": "eth0",
        "MASTER_ADDR": "192.0.2.11",
        "MASTER_PORT": "6000",
        "NNODES": "2",
        "NODE_RANK": "1",
        "NPUS_PER_NODE": "2",
    }


def test_what_is_unknown_is_left_to_hccl() -> None:
    fleet = [{"name": host["name"], "address": f"{host['name']}.site", "npus": host["npus"]} for host in given.hosts()]
    values = given.make(fleet=fleet)["environment"]["npu-1"]
    assert values["MASTER_ADDR"] == "npu-1.site"
    assert not {"HCCL_IF_IP", "HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"} & set(values)


def test_the_site_wins_over_the_recipe_over_the_plan() -> None:
    changes: dict[str, Any] = {
        "overrides": {
            "environment": {"HCCL_CONNECT_TIMEOUT": 600, "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}
        },
        "environment": {"HCCL_CONNECT_TIMEOUT": 900},
    }
    values = given.make(**changes)["environment"]["npu-1"]
    assert values["HCCL_CONNECT_TIMEOUT"] == "900"
    assert values["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize(("physical", "expected"), [(False, "0,1"), (True, "2,3")])
def test_visible_devices(physical: bool, expected: str) -> None:
    made = given.make(fleet=given.hosts(npus=(3, 2)), physical_ids=physical)
    assert made["hosts"][0]["npus"] == [2, 3]
    assert made["hosts"][0]["visible_devices"] == expected
    assert made["environment"]["npu-1"]["ASCEND_RT_VISIBLE_DEVICES"] == expected


def test_only_the_node_rank_differs_between_launch_lines() -> None:
    launch = given.make(master_port=29500)["launch"]
    words = {name: list(argv) for name, argv in launch["arguments"].items()}
    assert words["npu-1"] == (
        [
            "--nproc_per_node",
            "2",
            "--nnodes",
            "2",
            "--node_rank",
            "0",
            "--master_addr",
            "192.0.2.11",
            "--master_port",
            "29500",
        ]
    )
    position = words["npu-1"].index("--node_rank") + 1
    assert words["npu-2"][position] == "1"
    words["npu-2"][position] = "0"
    assert words["npu-2"] == words["npu-1"]
    assert (launch["launcher"], launch["script"]) == ("torchrun", "pretrain_gpt.py")


def test_release_in_the_plan() -> None:
    row = given.make(architecture="x86_64")["release"]
    assert row["image"].endswith("/mindspeed-llm:2025.rc1-x86")
    assert row["mixed"] == []
    assert row["commits"]["Megatron-LM"] == "baf94af3c667248865f23df73b9fb8e2395e6fd0"
    assert row["branches"] == {
        "MindSpeed-LLM": "2.0.0",
        "MindSpeed": "2.0.0_core_r0.8.0",
        "Megatron-LM": "core_r0.8.0",
    }
    assert row["env_scripts"][1] == "/usr/local/Ascend/nnal/atb/set_env.sh"


def test_a_site_may_change_the_row_and_is_told_so() -> None:
    commit = "1" * 40
    made = given.make(
        release_overrides={"image": {"name": "own:1"}, "sources": {"MindSpeed": {"commit": commit}}, "python": "3.8"}
    )
    assert made["release"]["image"] == "own:1"
    assert made["release"]["commits"]["MindSpeed"] == commit
    assert made["release"]["branches"]["MindSpeed"] == "2.0.0_core_r0.8.0"
    assert made["release"]["mixed"] == ["image.name", "sources.MindSpeed.commit"]
    assert any("mixed: image.name, sources.MindSpeed.commit" in text for text in made["warnings"])


def test_commits_have_a_short_form() -> None:
    commits = {"MindSpeed": "1" * 40, "Megatron-LM": "2" * 40}
    short = given.make(release_overrides={"commits": commits, "cann": "8.0.RC3"})
    long = {"sources": {name: {"commit": commit} for name, commit in commits.items()}, "cann": "8.0.RC3"}
    assert short["release"]["commits"]["MindSpeed"] == "1" * 40
    assert short["release"] == given.make(release_overrides=long)["release"]
