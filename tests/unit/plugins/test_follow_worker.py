# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that follows conversion and preprocessing: looks first, works in the background, shows progress, bears lost connections."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible import modules
from ansible.errors import AnsibleConnectionFailure

from tests.conftest import load_plugin

follow = load_plugin("action/mcore_checkpoint.py")
WRAPPER = Path(modules.__path__[0]) / "async_wrapper.py"
LINE = {"progress": 0.42, "done": 42 * 2**20, "total": 100 * 2**20, "unit": "bytes", "rate": 7 * 2**20, "eta_s": 8.3}


class Action(follow.ActionModule):  # type: ignore[misc, name-defined]
    """The action with a host that answers from a list."""

    def __init__(
        self,
        answers: list[Any],
        check_mode: bool = False,
        module: str = "mcore_checkpoint",
        sights: str = "",
        delegate_to: str | None = None,
    ) -> None:
        arguments = {"work_root": "/w", **({"stage": "checkpoint"} if module == "artifact_sync" else {})}
        self._task = SimpleNamespace(
            action=module, args=arguments, check_mode=check_mode, async_val=0, delegate_to=delegate_to
        )
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._display = SimpleNamespace(display=self.lines.append, warning=self.warnings.append)
        self.resets = 0
        self._connection = SimpleNamespace(reset=self._reset)
        # One letter for each question: alive, gone, Restarted (gone, and another boot id) or unknown; then alive.
        self.sights = list(sights)
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
        assert command == follow.question("j1.17", "/w/checkpoint/.progress")
        letter = self.sights.pop(0) if self.sights else "a"
        boot = "2" if letter == "R" else "1"
        said = {"a": "alive", "g": "gone", "R": "gone", "u": ""}[letter]
        return {"rc": 0, "stdout": f"a banner\r\nascend-fleet-sight:{boot}:{said}\r\n{json.dumps(LINE)}\r\n"}


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
    started = {"ansible_job_id": "j1.17", "started": 1, "finished": 0, "results_file": "/home/me/.ansible_async/j1"}
    done = {
        "changed": True,
        "found": "absent",
        "ansible_job_id": "j1.17",
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
        [look, {"ansible_job_id": "j1.17", "results_file": "/a/j1"}, {"finished": 0}, done, {}], module="artifact_sync"
    )
    assert run(action) == {"changed": True}
    assert action.lines == ["npu-1: checking checkpoint, 42 %, 42 MiB at 7 MiB/s, 8 s left"]


def test_a_lost_connection_is_waited_for() -> None:
    started, done = {"ansible_job_id": "j1.17", "results_file": "/a/j1"}, {"changed": True, "finished": 1}
    action = Action([{"changed": True}, started, AnsibleConnectionFailure("gone"), {"finished": 0}, done, {}])
    assert run(action) == {"changed": True}
    assert action.resets == 1
    assert "the work goes on" in action.warnings[0]


def test_a_connection_lost_for_good_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 400))
    monkeypatch.setattr(follow.time, "monotonic", lambda: float(next(clock)) + 1)
    gone = [AnsibleConnectionFailure("gone") for _ in range(2)]
    with pytest.raises(AnsibleConnectionFailure):
        run(Action([{"changed": True}, {"ansible_job_id": "j1.17", "results_file": "/a/j1"}, *gone, *gone]))


STARTED = {"ansible_job_id": "j1.17", "results_file": "/a/j1.17"}
UNFINISHED = {"finished": 0}


def test_a_restart_of_the_host_is_said() -> None:
    action = Action([{"changed": True}, STARTED, *[UNFINISHED] * 3, {}], sights="aRR")
    result = run(action)
    assert result["failed"]
    assert result["problem"] == "npu-1 was restarted while it was at work (converting)."
    assert "Run again" in result["remedy"] and "what arrived or was made is kept" in result["remedy"]
    assert result["msg"].endswith(result["remedy"])
    assert action.asked[-1][1] == "cleanup"


def test_a_restart_is_known_behind_a_lost_connection() -> None:
    gone = AnsibleConnectionFailure("gone")
    answers = [{"changed": True}, STARTED, UNFINISHED, gone, gone, UNFINISHED, UNFINISHED, {}]
    assert "was restarted" in run(Action(answers, sights="aRR"))["problem"]


def test_a_process_that_is_gone_is_said_of_the_host_that_it_was_on() -> None:
    action = Action([{"changed": True}, STARTED, *[UNFINISHED] * 3, {}], sights="agg", delegate_to="store-1")
    result = run(action)
    assert result["failed"]
    assert result["problem"].startswith("The work on store-1 (converting) ended without a result")
    assert "dmesg" in result["remedy"] and "is kept" in result["remedy"]


@pytest.mark.parametrize("sights", ["ag", "gag", "gug", "uuuuu"])
def test_work_that_ends_between_two_looks_or_is_seen_again_is_no_error(sights: str) -> None:
    done = {"changed": True, "finished": 1}
    action = Action([{"changed": True}, STARTED, *[UNFINISHED] * len(sights), done, {}], sights=sights)
    assert run(action) == {"changed": True}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"failed": True, "msg": "could not find job", "started": 1, "finished": 1}, "its job file is gone"),
        (
            {"failed": True, "msg": "Traceback\nValueError: No start of json char found\n", "data": "", "finished": 1},
            "the process was killed",
        ),
        (
            {
                "failed": True,
                "msg": "ValueError: No start of json char found",
                "data": "",
                "stderr": "Traceback\nMemoryError",
                "finished": 1,
            },
            "'MemoryError'",
        ),
    ],
)
def test_a_result_that_is_none_is_said(answer: dict[str, Any], why: str) -> None:
    result = run(Action([{"changed": True}, STARTED, answer, {}]))
    assert result["failed"]
    assert why in result["problem"] and "npu-1" in result["problem"]


def test_a_failure_of_the_module_itself_stays_as_it_is() -> None:
    refused = {"failed": True, "msg": "no room", "finished": 1}
    assert run(Action([{"changed": True}, STARTED, refused, {}])) == {"failed": True, "msg": "no room"}


def ask(job_id: str, progress: Path) -> tuple[Any, str]:
    """Ask this machine, as a connection would: the question within the command line of one more shell."""
    line = follow.question(job_id, str(progress))
    assert "\n" not in line
    command = ["sh", "-c", f"/bin/sh -c {shlex.quote(line)}"]
    read: tuple[Any, str] = follow.read_answer(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return read


def test_the_question_finds_a_job_of_ansibles_own_wrapper(tmp_path: Path) -> None:
    progress, script = tmp_path / "it's .progress", tmp_path / "module"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    name = f"j{time.time_ns()}"
    wrapper = tmp_path / WRAPPER.name  # beside it are modules with names of Python's own
    wrapper.write_text(WRAPPER.read_text())
    argv = [sys.executable, str(wrapper), name, "60", str(script), "_"]
    environment = {**os.environ, "ANSIBLE_ASYNC_DIR": str(tmp_path / "jobs")}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    job_id = json.loads(done.stdout)["ansible_job_id"]
    found = [int(place.parent.name) for place in Path("/proc").glob("[0-9]*/cmdline") if name in read_some(place)]
    try:
        assert ask(job_id, progress) == ((boot_id(), "alive"), "")
        progress.write_text('{"total": 1}')
        assert ask(job_id, progress) == ((boot_id(), "alive"), '{"total": 1}')
    finally:
        # The module's group, then those above it.
        for pid in found:
            os.kill(pid, signal.SIGKILL) if os.getpgid(pid) != pid else os.killpg(pid, signal.SIGKILL)
    assert found
    limit = time.monotonic() + 20
    while ask(job_id, progress)[0].process != "gone":
        assert time.monotonic() < limit
    assert not json.loads((tmp_path / "jobs" / job_id).read_text())["finished"], "the file goes on saying: unfinished"


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def read_some(place: Path) -> str:
    try:
        return place.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("text", ["", "sudo: a password is required", "ascend-fleet-sight:"])
def test_another_answer_shows_nothing(text: str) -> None:
    assert follow.read_answer(text) == (("", ""), "")


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
