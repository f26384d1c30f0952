# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that follows conversion and preprocessing: looks first, works in the background, shows progress, bears lost connections."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from tests.conftest import load_plugin

follow = load_plugin("action/mcore_checkpoint.py")
LINE = {"progress": 0.42, "done": 42 * 2**20, "total": 100 * 2**20, "unit": "bytes", "rate": 7 * 2**20, "eta_s": 8.3}


class Action(follow.ActionModule):  # type: ignore[misc, name-defined]
    """The action with a host that answers from a list."""

    def __init__(self, answers: list[Any], check_mode: bool = False, module: str = "mcore_checkpoint") -> None:
        arguments = {"work_root": "/w", **({"stage": "checkpoint"} if module == "artifact_sync" else {})}
        self._task = SimpleNamespace(action=module, args=arguments, check_mode=check_mode, async_val=0)
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._display = SimpleNamespace(display=self.lines.append, warning=self.warnings.append)
        self.resets = 0
        self._connection = SimpleNamespace(reset=self._reset, _shell=SimpleNamespace(quote=lambda text: text))
        self.answers = answers
        self.asked: list[tuple[str, Any, bool, bool]] = []

    def _reset(self) -> None:
        self.resets += 1

    def _execute_module(self, module_name: str, module_args: Any, task_vars: Any, wrap_async: bool = False) -> Any:
        self.asked.append((module_name, module_args.get("mode"), self._task.check_mode, wrap_async))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _low_level_execute_command(self, command: str, **_: Any) -> dict[str, Any]:
        assert command == "cat /w/checkpoint/.progress"
        return {"rc": 0, "stdout": json.dumps(LINE)}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(follow.ActionBase, "run", lambda self, tmp, task_vars: {})


def run(action: Action) -> dict[str, Any]:
    result: dict[str, Any] = action.run(None, {"inventory_hostname": "npu-1"})
    assert not action.answers
    return result


def test_nothing_to_do_is_one_look() -> None:
    action = Action([{"changed": False, "found": "ok"}])
    assert run(action) == {"changed": False, "found": "ok"}
    assert action.asked == [("mcore_checkpoint", None, True, False)]
    assert action._task.check_mode is False


@pytest.mark.parametrize("look", [{"changed": True}, {"failed": True, "msg": "no weights"}])
def test_check_mode_and_failures_end_with_the_look(look: dict[str, Any]) -> None:
    assert run(Action([look], check_mode=True)) == look


def test_work_is_followed_and_its_result_is_the_modules() -> None:
    started = {"ansible_job_id": "j1", "started": 1, "finished": 0, "results_file": "/home/me/.ansible_async/j1"}
    done = {
        "changed": True,
        "found": "absent",
        "ansible_job_id": "j1",
        "finished": 1,
        "results_file": "x",
        "stdout": "",
    }
    action = Action([{"changed": True}, started, {"finished": 0}, {"finished": 0}, done, {}])
    assert run(action) == {"changed": True, "found": "absent"}
    assert action.lines == ["npu-1: converting, 42 %, 42 MiB at 7 MiB/s, 8 s left"]
    status = "ansible.legacy.async_status"
    assert action.asked[1:] == [
        ("mcore_checkpoint", None, False, True),
        *[(status, "status", False, False)] * 3,
        (status, "cleanup", False, False),
    ]


def test_a_short_transfer_is_not_followed() -> None:
    brought = {"changed": True, "method": "rsync"}
    action = Action([{"changed": True, "bytes_to_fetch": follow.SHORT}, brought], module="artifact_sync")
    assert run(action) == brought
    assert action.asked == [("artifact_sync", None, True, False), ("artifact_sync", None, False, False)]


def test_a_long_transfer_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LINE, "doing", "checking")
    look, done = {"changed": True, "bytes_to_fetch": follow.SHORT + 1}, {"changed": True, "finished": 1}
    action = Action(
        [look, {"ansible_job_id": "j1", "results_file": "/a/j1"}, {"finished": 0}, done, {}], module="artifact_sync"
    )
    assert run(action) == {"changed": True}
    assert action.lines == ["npu-1: checking checkpoint, 42 %, 42 MiB at 7 MiB/s, 8 s left"]


def test_a_lost_connection_is_waited_for() -> None:
    started, done = {"ansible_job_id": "j1", "results_file": "/a/j1"}, {"changed": True, "finished": 1}
    action = Action([{"changed": True}, started, AnsibleConnectionFailure("gone"), {"finished": 0}, done, {}])
    assert run(action) == {"changed": True}
    assert action.resets == 1
    assert "the work goes on" in action.warnings[0]


def test_a_connection_lost_for_good_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 400))
    monkeypatch.setattr(follow.time, "monotonic", lambda: float(next(clock)) + 1)
    gone = [AnsibleConnectionFailure("gone") for _ in range(2)]
    with pytest.raises(AnsibleConnectionFailure):
        run(Action([{"changed": True}, {"ansible_job_id": "j1", "results_file": "/a/j1"}, *gone, *gone]))


def test_a_job_that_does_not_start() -> None:
    assert run(Action([{"changed": True}, {"failed": True, "msg": "no room"}])) == {"failed": True, "msg": "no room"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (json.dumps({**LINE, "total": 0}), "preprocessing, 42 MiB at 7 MiB/s"),
        (json.dumps({**LINE, "total": 0, "done": 0, "doing": "pulling"}), "pulling preprocessing"),
        (json.dumps({**LINE, "eta_s": None}), "preprocessing, 42 %, 42 MiB at 7 MiB/s"),
        ("", ""),
        ("{}", ""),
        ("[1]", ""),
    ],
)
def test_progress_in_words(text: str, line: str) -> None:
    assert follow.ActionModule.words("preprocessing", text) == line
