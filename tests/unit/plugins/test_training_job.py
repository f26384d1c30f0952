# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that follows a run: asks again, shows what changed, survives a lost connection, gives up on time."""

from __future__ import annotations

import importlib.util
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.errors import AnsibleConnectionFailure

from tests.conftest import ROOT


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_"), ROOT / "plugins" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLUGIN = load("action/training_job.py")


class Bench:
    """The action with a scripted module behind it."""

    def __init__(self, arguments: dict[str, Any], answers: list[Any], check_mode: bool = False) -> None:
        self.task = MagicMock(args=arguments, check_mode=check_mode, async_val=0, diff=False)
        self.connection, self.display = MagicMock(), MagicMock()
        self.action = PLUGIN.ActionModule(
            self.task, self.connection, MagicMock(), MagicMock(), MagicMock(), MagicMock()
        )
        self.action._display = self.display
        self.action._execute_module = self.execute
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        assert module_name == "training_job"
        self.asked.append(dict(module_args))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self) -> dict[str, Any]:
        result: dict[str, Any] = self.action.run(task_vars={"inventory_hostname": "npu-a"})
        return result

    def shown(self) -> list[str]:
        return [call.args[0] for call in self.display.display.call_args_list]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGIN, "RECONNECT_PAUSE", 0.0)


def going(progress: str, seen: str) -> dict[str, Any]:
    return {"changed": False, "final": False, "progress": progress, "seen": seen}


def test_it_asks_until_the_end_and_shows_what_changed() -> None:
    end = {"changed": True, "final": True, "progress": "finished"}
    bench = Bench(
        {"state": "finished"}, [going("starting", "1"), going("starting", "1"), going("running: 1", "2"), end]
    )
    assert bench.run()["changed"] is True
    assert [asked.get("seen") for asked in bench.asked] == [None, "1", "1", "2"]
    assert bench.shown() == ["npu-a: starting", "npu-a: running: 1"]


def test_a_failure_ends_it() -> None:
    bench = Bench({"state": "finished"}, [going("running", "1"), {"failed": True, "msg": "no"}])
    assert bench.run()["msg"] == "no"


def test_a_lost_connection_loses_nothing() -> None:
    lost = AnsibleConnectionFailure("gone")
    bench = Bench({"state": "finished"}, [going("running", "1"), lost, lost, {"final": True, "changed": True}])
    assert bench.run()["final"] is True
    assert bench.connection.reset.call_count == 2
    assert "the run goes on" in bench.display.warning.call_args.args[0]


def test_a_host_that_stays_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLUGIN, "RECONNECT_FOR", -1.0)
    with pytest.raises(AnsibleConnectionFailure):
        Bench({"state": "finished"}, [AnsibleConnectionFailure("gone")]).run()


def test_it_gives_up_on_time_and_says_that_the_run_goes_on() -> None:
    bench = Bench({"state": "finished", "timeout": 0.000001}, [going("running: iteration 3", "1")])
    result = bench.run()
    assert result["failed"] is True
    assert "It goes on" in result["msg"]


@pytest.mark.parametrize(("state", "check_mode"), [("started", False), ("stopped", False), ("finished", True)])
def test_everything_else_is_one_call(state: str, check_mode: bool) -> None:
    bench = Bench({"state": state}, [{"changed": True}], check_mode)
    assert bench.run()["changed"] is True
    assert len(bench.asked) == 1


def test_fast_iterations_are_not_shown_line_by_line() -> None:
    shown = PLUGIN.Shown("h")
    assert shown.next_line("running: 1", 0.0) == "h: running: 1"
    assert shown.next_line("running: 2", 1.0) == ""
    assert shown.next_line("running: 3", 6.0) == "h: running: 3"
    assert shown.next_line("running: 3", 60.0) == ""
    assert shown.next_line("ending: 3", 60.5) == "h: ending: 3"


def test_the_status_line() -> None:
    line = load("filter/training_status.py").FilterModule().filters()["training_status_line"]
    found = {
        "fingerprint": "0123456789abcdef",
        "progress": "failed: iteration 3 of 9",
        "status": {"reason": "It broke."},
    }
    text = line({"inventory_hostname": "npu-a", "show_status_found": found})
    assert text == "npu-a            0123456789abcdef  failed: iteration 3 of 9  (It broke.)"
    nothing = {"fingerprint": None, "progress": "absent", "status": {}}
    assert line({"inventory_hostname": "npu-b", "show_status_found": nothing}).split() == ["npu-b", "-", "absent"]


def test_parcels_need_the_looks_of_all_hosts() -> None:
    parcels = load("filter/training_parcels.py").FilterModule().filters()["training_parcels"]
    writer = {"host": "a", "node_rank": 0, "state": "failed", "fingerprint": "f", "inputs": {}, "attempt": 1}
    writer |= {"needed": ["s0"], "writes": ["s0"], "saved": {"10": ["s0"]}, "save": "/a"}
    other = {**writer, "host": "b", "node_rank": 1, "writes": [], "saved": {}}
    (parcel,) = parcels([writer, other], False)["b"]
    assert (parcel["from"], parcel["source"]) == ("a", "/a/iter_0000010")
    assert parcels([writer, None], False) == parcels([None, None], False) == parcels([], False) == {}
