# SPDX-License-Identifier: GPL-3.0-or-later
"""Action artifact_sync: followed as mcore_checkpoint is; where the controller itself is the source, it also serves it.

No sshd on the controller is needed: ssh's master connection, over which this task runs anyway, forwards a socket of the host to one
of the controller. Nothing but the login user and root can open it there, and it is gone when the module has ended.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.outlet import opened
from ascend_fleet.serve import SAFE_PATH

SSH_SECONDS = 30  # a request to a master connection that is there is answered at once
Followed: Any = action_loader.get("mcore_checkpoint", class_only=True)


class ActionModule(Followed):  # type: ignore[misc]
    """Run the module of the same name, followed."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        arguments = self._task.args
        source = dict(arguments.get("source") or {})
        if source.get("over") != "connection" or arguments.get("local") or self._task.check_mode:
            return dict(super().run(tmp, task_vars))
        with opened(str(source.get("root") or "")) as socket, self._forwarded(socket, source) as there:
            source |= {"socket": there, "user": getpass.getuser(), "rsync": _has_rsync()}
            self._task.args = {**arguments, "source": source}
            return dict(super().run(tmp, task_vars))

    @contextlib.contextmanager
    def _forwarded(self, socket: str, source: dict[str, Any]) -> Iterator[str]:
        """Yield the path under which the host reaches the controller's socket."""
        if self._connection.transport == "local":
            yield socket
            return
        remedy = f"give ascend_address to {source.get('name')}, where an sshd of the controller answers this host"
        if self._connection.transport != "ssh":
            raise AnsibleActionFail(
                f"Connection plugin {self._connection.transport} cannot carry files from the controller. Remedy: {remedy}."
            )
        # As the login user, who owns the forwarded socket; and it makes sure that the master connection is there.
        made = self._low_level_execute_command("mktemp -d /tmp/ascend-fleet-XXXXXXXX", sudoable=False)
        folder = (made["stdout"].split() or [""])[-1]
        if made["rc"] or not folder.startswith("/tmp/ascend-fleet-"):
            raise AnsibleActionFail(f"No directory can be made below /tmp: {made['stderr'] or made['stdout']}")
        there = f"{folder}/source"
        try:
            self._master("forward", f"{there}:{socket}", remedy)
            try:
                yield there
            finally:
                self._master("cancel", f"{there}:{socket}")
        finally:
            self._low_level_execute_command(f"rm -rf {folder}", sudoable=False)

    def _master(self, request: str, forward: str, remedy: str = "") -> None:
        """Ask ssh's master connection for a remote forwarding, or to end one; with a remedy a failure ends the task."""
        program = self._connection.get_option("ssh_executable")
        words = self._connection._build_command(program, "ssh", "-O", request, "-R", forward)
        line = [os.fsdecode(word) for word in words]
        # Behind sshpass, where there is a password: the master has logged in already.
        argv = [*line[line.index(program) :], self._connection.host]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SSH_SECONDS
        )
        if done.returncode and remedy:
            raise AnsibleActionFail(
                f"ssh cannot forward a socket of {self._connection.host} to the controller ({done.stderr.strip()}). Remedy: keep "
                f"ControlMaster and ControlPersist in ssh_args, and AllowStreamLocalForwarding in that host's sshd; or {remedy}."
            )


def _has_rsync() -> bool:
    return any(os.access(os.path.join(folder, "rsync"), os.X_OK) for folder in SAFE_PATH.split(":"))
