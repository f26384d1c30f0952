# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_config: config.json and its like as the plan takes them, with a file that cannot be read as a reason and not a break."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The key under which the plan finds why there are no values.
UNREADABLE = "unreadable"
LFS = "version https://git-lfs"


def plan_config(text: str, path: str) -> dict[str, Any]:
    """Return the JSON object in a text; else a mapping whose only key says why there is none. `path` names it for a person."""
    if text.startswith(LFS):
        return {UNREADABLE: f"{path} is a git-lfs pointer, not the file itself"}
    if not text.strip():
        return {UNREADABLE: f"{path} is empty"}
    try:
        found = json.loads(text)
    except ValueError as error:
        return {UNREADABLE: f"{path} is no JSON ({error})"}
    return found if isinstance(found, dict) else {UNREADABLE: f"{path} is no JSON object"}


def plan_config_file(path: str) -> dict[str, Any]:
    """Return the same of a file on the controller."""
    try:
        return plan_config(Path(path).expanduser().read_text(encoding="utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        return {UNREADABLE: f"{path} on the controller cannot be read ({why})"}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"plan_config": plan_config, "plan_config_file": plan_config_file}
