# SPDX-License-Identifier: GPL-3.0-or-later
"""Action run_plan: run the module of that name on the controller, and draw the plan that it wrote as a page beside it (.html)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader, filter_loader


class ActionModule(ActionBase):
    """Make the plan; then write the page, also that of a plan that was refused."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        result.update(self._execute_module(module_name="run_plan", module_args=arguments, task_vars=task_vars or {}))
        output = str(arguments.get("output") or "")
        plan = result.get("plan") or (_written(output) if output else None)
        if not output or plan is None:
            return result
        page = os.path.splitext(output)[0] + ".html"
        if draw(page, plan, bool(self._task.check_mode)):
            result["changed"] = True
            result["actions"] = [*result.get("actions", []), f"write {page}"]
        return result


def _written(output: str) -> dict[str, Any] | None:
    """Return the plan in the module's file: of a refused one, the result has only the problems."""
    try:
        plan = json.loads(Path(output).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return plan if isinstance(plan, dict) else None


def draw(page: str, plan: dict[str, Any], check_mode: bool) -> bool:
    """Write the page; return whether its content is (or would be) new."""
    path, text = Path(page), filter_loader.get("plan_page").j2_function(plan)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    if not check_mode:
        action_loader.get("report_file", class_only=True).replace(path, text)
    return True
