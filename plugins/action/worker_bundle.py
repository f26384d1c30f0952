# SPDX-License-Identifier: GPL-3.0-or-later
"""Action worker_bundle: hand the project's worker programs to the module of the same name, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

WORKERS = Path(__file__).resolve().parents[2] / "workers"


def read_programs(folder: Path) -> dict[str, str]:
    """Return the text of each program by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


class ActionModule(ActionBase):
    """Run the module with the files of the controller's checkout."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("work_root",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        programs = read_programs(WORKERS)
        if not programs:
            raise AnsibleActionFail(
                f"There are no worker programs in {WORKERS}. Remedy: use a complete checkout of the project."
            )
        arguments = {**self._task.args, "files": programs}
        done = self._execute_module(module_name="worker_bundle", module_args=arguments, task_vars=task_vars)
        # The programs would fill the screen at -v; their names say as much.
        done.get("invocation", {}).get("module_args", {}).update(files=sorted(programs))
        return {**result, **done}
