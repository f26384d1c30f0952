# SPDX-License-Identifier: GPL-3.0-or-later
"""Action artifact_manifest: has the module look for a while at a time, and says how far it is in between.

What is known so far goes back and forth, so that nothing has to stay on the host: check mode can say it, too.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader

SECONDS = 5.0  # between two lines; most artifacts are hashed sooner, and then the first call is the only one
Followed: Any = action_loader.get("mcore_checkpoint", class_only=True)


class ActionModule(ActionBase):
    """Run the module of the same name until it knows every file."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = self._task.delegate_to or variables.get("inventory_hostname", "")
        known: dict[str, Any] = {}
        hashed = 0
        while True:
            arguments = {**self._task.args, "seconds": SECONDS, "known": known}
            answer = self._execute_module(module_name="artifact_manifest", module_args=arguments, task_vars=variables)
            if answer.get("failed"):
                return {**result, **answer}
            hashed += answer.get("hashed", 0)
            if not answer.get("bytes_left"):
                return {**result, **answer, "hashed": hashed}
            known = answer["known"]
            self._display.display(f"{host}: {Followed.words(arguments['path'], json.dumps(answer['progress']))}")
