# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of the export: the last whole checkpoint over all hosts, and where its shards are."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.conftest import load_plugin

PLUGIN = load_plugin("filter/model_export.py")
WRITERS = {"npu-1": ["mp_rank_00", "mp_rank_01"], "npu-2": ["mp_rank_02"], "npu-3": []}


def look(host: str, run: str = "r1", **saved: list[str]) -> dict[str, Any]:
    """A look at a host; iterations are given as i10=[...]."""
    return {"host": host, "fingerprint": run, "saved": {key[1:]: shards for key, shards in saved.items()}}


WHOLE = [
    look("npu-1", i10=["mp_rank_00", "mp_rank_01"], i20=["mp_rank_00", "mp_rank_01"], i30=["mp_rank_00"]),
    look("npu-2", i10=["mp_rank_02"], i20=["mp_rank_02"], i30=["mp_rank_02"]),
    look("npu-3"),
]


def test_the_last_iteration_of_which_every_shard_is_there() -> None:
    chosen = PLUGIN.export_choice(WHOLE, WRITERS)
    assert chosen == {"fingerprint": "r1", "iteration": 20, "hosts": {key: WRITERS[key] for key in ("npu-1", "npu-2")}}
    assert PLUGIN.export_choice(WHOLE, WRITERS, 10)["iteration"] == 10


def test_an_iteration_that_is_not_whole_is_refused_with_what_is_there() -> None:
    with pytest.raises(
        AnsibleFilterError, match=r"no whole checkpoint of iteration 30 .*npu-1: .*1 shards of 30.*Whole are: 10, 20\."
    ):
        PLUGIN.export_choice(WHOLE, WRITERS, 30)
    with pytest.raises(AnsibleFilterError, match="no checkpoint of which every shard is there .*npu-2: none"):
        PLUGIN.export_choice([WHOLE[0], look("npu-2")], WRITERS)


def test_hosts_in_different_runs_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="different runs .r1, r2."):
        PLUGIN.export_choice([WHOLE[0], look("npu-2", run="r2")], WRITERS)


def test_before_anything_is_trained_there_is_nothing_to_choose() -> None:
    assert PLUGIN.export_choice([None, WHOLE[1]], WRITERS)["iteration"] == 0


def test_places_here_and_gathered() -> None:
    hosts = {"npu-1": ["a", "b"], "npu-2": ["c"]}
    assert PLUGIN.export_places(hosts, "npu-1", "/w/run/r/checkpoints/iter_1", "/w/trained") == {
        "a": "/w/run/r/checkpoints/iter_1/a",
        "b": "/w/run/r/checkpoints/iter_1/b",
        "c": "/w/trained/npu-2/current/c",
    }


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        ({"equal": True, "tensors": 62, "ranks": 4}, "all 62 tensors of 4 ranks"),
        ({"equal": None, "why": "padding"}, "padding"),
    ],
)
def test_what_is_told(compared: dict[str, Any], said: str) -> None:
    loaded = {"architecture": "Qwen2ForCausalLM", "device": "cpu", "parameters": 7}
    result = {
        "directory": "/w/export/f",
        "inputs": {"iteration": 20},
        "artifact": {"made_with": {"loaded": loaded, "compared": compared}},
    }
    lines = PLUGIN.export_lines(result, "npu-1")
    assert lines[0] == "Iteration 20 as a Hugging Face model: npu-1:/w/export/f"
    assert said in lines[-1]
