# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback fleet_report: how long every stage took on every host, and the run's page at its end, whether it succeeded or not."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
type: aggregate
short_description: Keep the times of every stage and host, and write the run's report when the run is over
description:
  - Wakes when a task announces a report (action M(report_file) without pieces, the first task of site.yml); a playbook without such a
    task costs nothing and leaves the last report alone. In check mode nothing is announced.
  - At the end of the run, however it ended, the report is written with what this run has shown. A run that failed before its report
    stage therefore has one, too, with the stage that failed and its problems.
requirements:
  - enabled in ansible.cfg (callbacks_enabled)
"""

import time
from dataclasses import asdict
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader, callback_loader

COUNTED = ("ok", "changed", "failed", "skipped", "unreachable")
FACTS = {"fleet_plan": "plan", "driver_check_report": "drivers"}  # what a run tells on its way -> piece of the report


class Timeline:
    """What happened when: for each play and host its first and last moment, and how its tasks ended. Times in s since the epoch."""

    def __init__(self, clock: Any = time.time) -> None:
        self._clock = clock
        self.started: float = clock()
        self.plays: list[dict[str, Any]] = []
        self._since: dict[tuple[str, str], float] = {}  # (host, task's uuid) -> when it was started there

    def play(self, name: str, tags: list[str]) -> None:
        """A play begins."""
        self.plays.append({"name": name, "tags": tags, "started": self._clock(), "hosts": {}})

    def begin(self, host: str, task: str) -> None:
        """A task was handed to a host."""
        self._since[host, task] = self._clock()

    def end(self, host: str, task: str, name: str, how: str) -> None:
        """A task ended on a host, in one of the ways that are COUNTED; what changed is not counted as ok as well."""
        if not self.plays:
            return
        now = self._clock()
        since = self._since.pop((host, task), now)
        fresh = {"started": since, "slowest": ["", 0.0], **dict.fromkeys(COUNTED, 0)}
        row = self.plays[-1]["hosts"].setdefault(host, fresh)
        row[how] += 1
        row["ended"] = now
        if now - since > row["slowest"][1]:
            row["slowest"] = [name.rpartition(" : ")[2], round(now - since, 3)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: {started, ended, changed, plays: [{name, tags, started, hosts: {name: {...}}}]}, without empty plays."""
        rows = [row for play in self.plays for row in play["hosts"].values()]
        return {
            "started": self.started,
            "ended": self._clock(),
            "changed": sum(row["changed"] for row in rows),
            "plays": [play for play in self.plays if play["hosts"]],
        }


class CallbackModule(CallbackBase):
    """Keeps the timeline and writes the report."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._report = ""  # the file; until it is announced, nothing is kept
        self._timeline = Timeline()
        self._pieces: dict[str, Any] = {"plan": {}}
        self._failed_in: list[str] = []
        self._playbook = ""
        # The lists of problems and changes are made by the callbacks that print them.
        self._problems: Any = callback_loader.get("fleet_problems", class_only=True)()
        self._changes: Any = callback_loader.get("fleet_changes", class_only=True)()

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """The run begins."""
        self._playbook = str(playbook._file_name)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins."""
        self._problems.v2_playbook_on_play_start(play)
        self._timeline.play(str(play.get_name()), sorted(str(tag) for tag in play.tags if tag != "always"))

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task is handed to a host."""
        if self._report:
            self._timeline.begin(host.get_name(), str(task._uuid))

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task ended well."""
        data = self._data(result)
        if data.get("report_announced"):
            self._report = str(data["report_announced"])
            self._timeline.plays.clear()  # the announcement is no stage
        for fact, piece in FACTS.items():
            if fact in (data.get("ansible_facts") or {}):
                self._pieces[piece] = data["ansible_facts"][fact]
        self._changes.v2_runner_on_ok(result)
        self._count(result, "changed" if data.get("changed") else "ok")

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was not needed."""
        self._count(result, "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed on a host."""
        self._count(result, "ok" if ignore_errors else "failed")
        self._problems.v2_runner_on_failed(result, ignore_errors)
        if not ignore_errors:
            self._failed()

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._count(result, "unreachable")
        self._problems.v2_runner_on_unreachable(result)
        self._failed()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        if not self._report:
            return
        run = {
            **self._timeline.as_dict(),
            "playbook": self._playbook,
            "tags": [str(tag) for tag in context.CLIARGS.get("tags", ()) if tag != "all"],
            "limit": str(context.CLIARGS.get("subset") or ""),
            "problems": [asdict(problem) for problem in self._problems.problems],
            "changes": [asdict(change) for change in self._changes.changes],
            "failed_in": list(dict.fromkeys(self._failed_in)),
        }
        action_loader.get("report_file", class_only=True).store(self._report, {**self._pieces, "run": run})
        self._display.display(f"report: {self._report}")

    def _count(self, result: Any, how: str) -> None:
        if self._report:
            task = self._task(result)
            self._timeline.end(self._host(result), str(task._uuid), task.get_name(), how)

    def _failed(self) -> None:
        self._failed_in.append(self._timeline.plays[-1]["name"] if self._timeline.plays else "")

    # 2.19 gives properties, 2.17 the underscored attributes.
    @staticmethod
    def _host(result: Any) -> str:
        return str((getattr(result, "host", None) or result._host).get_name())

    @staticmethod
    def _task(result: Any) -> Any:
        return getattr(result, "task", None) or result._task

    @staticmethod
    def _data(result: Any) -> dict[str, Any]:
        data: dict[str, Any] = getattr(result, "result", None) or result._result
        return data
