# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter training_status_line: what module training_job_info found on a host, as one line of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def training_status_line(host: Mapping[str, Any]) -> str:
    """Return a line about one host, given its variables with `show_status_found` among them."""
    found = host["show_status_found"]
    name = str(host["inventory_hostname"])
    reason = str(found["status"].get("reason") or "")
    return f"{name:<16} {found['fingerprint'] or '-':<17} {found['progress']}" + (f"  ({reason})" if reason else "")


class FilterModule:
    """Filters of the status playbook."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"training_status_line": training_status_line}
