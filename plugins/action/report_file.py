# SPDX-License-Identifier: GPL-3.0-or-later
"""Action report_file: keep what is known about the run as JSON on the controller, and make the report's page from it.

The two files are a view, like a log: they hold the times of the last run, so they are new after every run although nothing was changed
anywhere. They are therefore never a reported change, and a second run of site.yml stays at changed=0. The plan, which only changes when
its inputs do, is reported (role run_plan).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import filter_loader

FORMAT = 2  # of the data; what another version of this project kept is not read
PIECES = ("plan", "drivers", "hosts", "run")


class ActionModule(ActionBase):
    """With `pieces`: update the report in `report`, the path of an HTML file; its data stand beside it (.json). Without: announce it."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset(("report", "pieces"))

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        report, pieces = self._task.args.get("report"), self._task.args.get("pieces")
        if not isinstance(report, str):
            raise AnsibleActionFail(f"report_file needs report, the path of an HTML file; got {report!r}.")
        if not report or self._task.check_mode:
            return result
        where = os.path.abspath(report)
        if pieces is None:
            return {**result, "report_announced": where}
        if not isinstance(pieces, Mapping) or set(pieces) - set(PIECES):
            raise AnsibleActionFail(f"report_file takes the pieces {', '.join(PIECES)}.")
        self.store(where, pieces)
        return {**result, "report_written": where}

    @staticmethod
    def store(report: str, pieces: Mapping[str, Any]) -> None:
        """Put pieces in the place of what was known of them, and write data and page. Each piece gets the time it was seen at.

        A piece that this run did not see stays as it was: the report of `--tags report` still shows what the last driver check found.
        """
        path = Path(report).with_suffix(".json")
        known = {**_read(path), "format": FORMAT}
        known.update({name: {"at": time.time(), "is": _plain(piece)} for name, piece in pieces.items()})
        run = known.get("run")
        if run and (run["is"]["changed"] or run["is"]["problems"] or "worked" not in known):
            known["worked"] = run  # the times that tell something are those of the run that did the work
        ActionModule.replace(path, json.dumps(known, indent=1, sort_keys=True, allow_nan=False) + "\n")
        ActionModule.replace(Path(report), filter_loader.get("report_page").j2_function(known))

    @staticmethod
    def replace(path: Path, text: str) -> None:
        """Write a file on the controller at once: a reader never sees half of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) and known.get("format") == FORMAT else {}


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it: Ansible's own kinds of text and lists become plain, what is not a finite number becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, str) else value
