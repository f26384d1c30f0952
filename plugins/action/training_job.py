# SPDX-License-Identifier: GPL-3.0-or-later
"""Action training_job: with state finished, ask a host again and again how its run goes on, and show it while it changes.

Each question is a short module call, so that a lost connection loses nothing: the run goes on in the containers, and the next question
picks it up, whichever controller asks it.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

RECONNECT_FOR = 600.0  # seconds without an answer after which a host is reported as unreachable
RECONNECT_PAUSE = 10.0  # seconds
BETWEEN_LINES = 5.0  # seconds; a run of fast iterations is not shown line by line


class ActionModule(ActionBase):
    """Run module training_job; with state finished until the run is over."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        variables = task_vars or {}
        if arguments.get("state") != "finished" or self._task.check_mode:
            return {
                **result,
                **self._execute_module(module_name="training_job", module_args=arguments, task_vars=variables),
            }
        return {**result, **self._follow(arguments, variables)}

    def _follow(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        timeout = float(arguments.get("timeout") or 0)
        started = time.monotonic()
        shown = Shown(str(variables.get("inventory_hostname", "")))
        while True:
            answer = self._ask(arguments, variables)
            if answer.get("failed") or answer.get("unreachable") or answer.get("final"):
                return answer
            line = shown.next_line(str(answer.get("progress", "")), time.monotonic())
            if line:
                self._display.display(line)
            if timeout and time.monotonic() - started > timeout:
                return {**answer, "failed": True, "msg": _too_long(timeout, str(answer.get("progress", "")))}
            arguments["seen"] = answer.get("seen", "")

    def _ask(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Ask once; a host that does not answer is asked again, for RECONNECT_FOR seconds."""
        limit = time.monotonic() + RECONNECT_FOR
        while True:
            try:
                return self._execute_module(module_name="training_job", module_args=arguments, task_vars=variables)
            except AnsibleConnectionFailure as error:
                if time.monotonic() > limit:
                    raise
                self._display.warning(
                    f"{variables.get('inventory_hostname')}: no connection, the run goes on; asking again ({error})"
                )
            self._pause()

    def _pause(self) -> None:
        time.sleep(RECONNECT_PAUSE)
        self._connection.reset()


class Shown:
    """What was shown of one host: a line only when something changed, and not too often."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._progress = ""
        self._kind = ""
        self._at = float("-inf")

    def next_line(self, progress: str, now: float) -> str:
        """Return the line to print, empty where there is nothing new. `now` in seconds of any clock."""
        kind = progress.partition(":")[0]
        if progress == self._progress or (kind == self._kind and now - self._at < BETWEEN_LINES):
            return ""
        self._progress, self._kind, self._at = progress, kind, now
        return f"{self.host}: {progress}"


def _too_long(timeout: float, progress: str) -> str:
    return (
        f"The run is not over after {timeout:g} s ({progress}). It goes on. "
        "Remedy: run the playbook again to follow it, or playbooks/stop-training.yml to end it."
    )
