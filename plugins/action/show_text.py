# SPDX-License-Identifier: GPL-3.0-or-later
"""Action show_text: print lines as they are, once, instead of as a quoted list inside a task result."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Print `text` (a string or a list of lines) on the controller's terminal. Never changes anything."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("text",))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        text = self._task.args.get("text")
        if not isinstance(text, (str, list)):
            raise AnsibleActionFail(f"show_text needs text, a string or a list of lines; got {text!r}.")
        lines = text.splitlines() if isinstance(text, str) else [str(line) for line in text]
        self._display.display("\n".join(["", *lines, ""]))
        return {**result, "changed": False, "lines": lines}
