# SPDX-License-Identifier: GPL-3.0-or-later
"""release_info: the row with a site's overrides, and where its parts are to be had."""

from __future__ import annotations

from tests.conftest import RunModule
from tests.unit.plan import given

MODULE = "release_info"


def test_the_row_as_it_is(run_library: RunModule) -> None:
    told = run_library(MODULE, {"release": given.release()})
    assert not told.changed
    assert told["image"].endswith("/ascendhub/mindspeed-llm:2025.rc1-arm")
    assert (told["python"], told["mixed"]) == ("3.8", [])
    assert told["sources"]["Megatron-LM"] == {
        "url": "https://github.com/NVIDIA/Megatron-LM.git",
        "branch": "core_r0.8.0",
        "commit": "baf94af3c667248865f23df73b9fb8e2395e6fd0",
    }
    assert run_library(MODULE, {"release": given.release()}, check_mode=True).data == told.data


def test_overrides_of_a_site(run_library: RunModule) -> None:
    overrides = {
        "commits": {"MindSpeed": "a" * 40},
        "sources": {"MindSpeed": {"url": "https://git.example/MindSpeed.git"}},
    }
    told = run_library(MODULE, {"release": given.release(), "overrides": overrides, "architecture": "x86_64"})
    assert told["sources"]["MindSpeed"]["url"] == "https://git.example/MindSpeed.git"
    assert told["sources"]["MindSpeed"]["commit"] == "a" * 40
    assert told["image"].endswith(":2025.rc1-x86")
    assert "sources.MindSpeed.commit" in told["mixed"]


def test_all_that_is_wrong_at_once(run_library: RunModule) -> None:
    wrong = {"release": given.release(), "overrides": {"commits": {"MindSpeed": "2.0.0"}}, "architecture": "sparc"}
    told = run_library(MODULE, wrong)
    assert told.failed
    assert len(told["problems"]) == 2
