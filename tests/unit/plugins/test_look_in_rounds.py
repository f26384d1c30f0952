# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that has artifact_manifest look in rounds: what is known goes back, and progress is shown in between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import load_plugin

looking = load_plugin("action/artifact_manifest.py")
KNOWN = {"a": {"size": 2**20, "mtime_ns": 1, "sha256": "0"}}
HALF = {"doing": "hashing", "progress": 0.25, "done": 2**20, "total": 4 * 2**20, "rate": 2**20, "eta_s": 3.0}
NOT_YET = {"bytes_left": 3 * 2**20, "hashed": 1, "known": KNOWN, "progress": HALF}


class Action(looking.ActionModule):  # type: ignore[misc, name-defined]
    """The action with a host that answers from a list."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self._task = SimpleNamespace(args={"path": "/srv/m"}, delegate_to="staging-1")
        self.lines: list[str] = []
        self._display = SimpleNamespace(display=self.lines.append)
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def _execute_module(self, module_name: str, module_args: Any, task_vars: Any) -> dict[str, Any]:
        assert module_name == "artifact_manifest"
        self.asked.append(module_args)
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def nothing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking.ActionBase, "run", lambda self, tmp, task_vars: {})


def test_what_is_hashed_at_once_is_one_call() -> None:
    action = Action({"bytes_left": 0, "hashed": 2, "manifest": KNOWN})
    assert action.run(None, {"inventory_hostname": "npu-1"})["hashed"] == 2
    assert action.lines == []


def test_a_long_look_tells_how_far_it_is() -> None:
    action = Action(NOT_YET, {"bytes_left": 0, "hashed": 3, "manifest": KNOWN})
    result = action.run(None, {"inventory_hostname": "npu-1"})
    assert (result["hashed"], result["manifest"]) == (4, KNOWN)
    assert [asked["known"] for asked in action.asked] == [{}, KNOWN]
    assert action.lines == ["staging-1: hashing /srv/m, 25 %, 1 MiB at 1 MiB/s, 3 s left"]


def test_a_refusal_on_the_way_ends_it() -> None:
    refusal = {"failed": True, "msg": "a.txt is gone"}
    assert Action(NOT_YET, refusal).run(None, {}) == refusal
