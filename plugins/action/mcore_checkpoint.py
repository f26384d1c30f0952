# SPDX-License-Identifier: GPL-3.0-or-later
"""Actions for modules whose work is long (LONG): start it on the host in the background and show how far it is.

One look says whether there is anything to do. If there is, the module runs detached from the connection, which may be lost and come
back; a run of the playbook that was ended meanwhile leaves the work going, and the next one waits for it (the module holds a lock).
Work that cannot end any more, because the host was restarted or the process killed, is a failure within a few seconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.errors import FleetError
from ascend_fleet.followed_job import Watch, failure, question, read_answer

LIMIT = 7 * 24 * 3600  # seconds; more than any conversion or preprocessing takes
RECONNECT_FOR = 600.0  # seconds without an answer after which a host is reported as unreachable
FIRST_PAUSE = 0.3  # seconds between two questions, growing
LONGEST_PAUSE = 5.0
SHORT = 256 * 2**20  # bytes; to bring so many or fewer takes a few seconds and is not followed
JOB_KEYS = ("ansible_job_id", "results_file", "started", "finished", "stdout", "stderr", "stdout_lines", "stderr_lines")
# Module -> where it leaves its progress, and what it is doing.
LONG = {
    "mcore_checkpoint": ("{work_root}/checkpoint/.progress", "converting"),
    "megatron_dataset": ("{work_root}/dataset/.progress", "preprocessing"),
    "hf_export": ("{work_root}/export/.progress", "exporting"),
    "artifact_sync": ("{work_root}/{stage}/.progress", "{stage}"),
    "model_snapshot": ("{record}.progress", "{directory}"),
    "git_mirror": ("{record}.progress", "{directory}"),
    "image_archive": ("{record}.progress", "{reference}"),
    "wheel_mirror": ("{record}.progress", "{directory}"),
}


class ActionModule(ActionBase):
    """Run the module of the same name, followed."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        looked = self._look(variables)
        if self._task.check_mode or looked.get("failed") or not looked.get("changed"):
            return {**result, **looked}
        if looked.get("bytes_to_fetch", SHORT + 1) <= SHORT:
            return {**result, **self._execute(variables)}
        return {**result, **self._follow(variables)}

    def _name(self) -> str:
        return str(self._task.action).rpartition(".")[2]

    def _look(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Predict: what check mode would say."""
        asked = self._task.check_mode
        self._task.check_mode = True
        try:
            return self._execute(variables)
        finally:
            self._task.check_mode = asked

    def _execute(self, variables: dict[str, Any], wrap_async: bool = False) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=self._name(), module_args=dict(self._task.args), task_vars=variables, wrap_async=wrap_async
        )
        return answer

    def _follow(self, variables: dict[str, Any]) -> dict[str, Any]:
        self._task.async_val = LIMIT
        started = self._execute(variables, wrap_async=True)
        self._task.async_val = 0
        if started.get("failed") or not started.get("ansible_job_id"):
            return dict(started)
        # Where the job says it is: `~` of the login is another directory where a local connection runs as somebody else.
        place = os.path.dirname(str(started["results_file"]))
        job = {"jid": started["ansible_job_id"], "_async_dir": place}
        try:
            answer = self._wait(job, variables)
        except FleetError as error:
            answer = failure(error)
        self._execute_module(
            module_name="ansible.legacy.async_status", module_args={**job, "mode": "cleanup"}, task_vars=variables
        )
        return {key: value for key, value in answer.items() if key not in JOB_KEYS}

    def _wait(self, job: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Return the job's result. Raises FleetError where there will be none, AnsibleConnectionFailure where the host stays away."""
        host = str(self._task.delegate_to or variables.get("inventory_hostname", ""))
        path, doing = (text.format(**self._task.args) for text in LONG[self._name()])
        watch, pause, shown, lost = Watch(host, doing), FIRST_PAUSE, "", 0.0
        while True:
            try:
                answer: dict[str, Any] = self._execute_module(
                    module_name="ansible.legacy.async_status",
                    module_args={**job, "mode": "status"},
                    task_vars=variables,
                )
                if answer.get("finished"):
                    watch.check_result(answer)
                    return answer
                # One command for both: each question costs a connection its round trip.
                asked = self._low_level_execute_command(question(job["jid"], path), sudoable=True)
                sight, progress = read_answer(asked.get("stdout", ""))
                watch.see(sight)
                line, lost = self.words(doing, progress), 0.0
                if line and line != shown:
                    self._display.display(f"{host}: {line}")
                    shown = line
            except AnsibleConnectionFailure as error:
                lost = lost or time.monotonic()
                if time.monotonic() - lost > RECONNECT_FOR:
                    raise
                self._display.warning(f"{host}: no connection, the work goes on; asking again ({error})")
                self._connection.reset()
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE)

    @staticmethod
    def words(doing: str, text: str) -> str:
        """Return a worker's progress (JSON) in words; nothing where it cannot be read."""
        try:
            found = json.loads(text)
            doing = f"{found['doing']} {doing}" if "doing" in found else doing
            if not found["total"] and not found["done"]:
                return doing
            line = f"{doing}, {100 * float(found['progress']):.0f} %" if found["total"] else doing
            line += f", {float(found['done']) / 2**20:.0f} MiB at {float(found['rate']) / 2**20:.0f} MiB/s"
            known = found["total"] and found["eta_s"] is not None
            return line + (f", {float(found['eta_s']):.0f} s left" if known else "")
        except (ValueError, KeyError, TypeError):
            return ""
