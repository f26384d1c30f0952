# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback fleet_changes: after the recap, what was changed (or would be) on which host, and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_changes
type: aggregate
short_description: Say after the recap what was changed and why
description:
  - The recap counts changes. This lists them in the order in which they came about, with what the modules of this project say about each
    (what was missing, damaged or different, and what was done), the same change on many hosts as one entry.
  - In check mode it lists what would be changed.
requirements:
  - enabled in ansible.cfg (callbacks_enabled)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

SEVERAL = 6  # more hosts than this are counted instead of listed whole
SHOWN = 6  # lines of one change; a bare server has hundreds of missing files


@dataclass
class Change:
    """One change, as its module tells it, and the hosts that had it."""

    task: str
    actions: tuple[str, ...]
    hosts: list[str] = field(default_factory=list)


def collect(changes: list[Change], host: str, task: str, result: Mapping[str, Any]) -> None:
    """Add a result that changed something; the same change of the same task becomes one entry with several hosts."""
    actions = tuple(str(line) for line in result.get("actions") or ())
    for change in changes:
        if (change.task, change.actions) == (task, actions):
            change.hosts.append(host)
            return
    changes.append(Change(task, actions, [host]))


def lines(changes: Iterable[Change]) -> list[str]:
    """Return the list, in the order of the run."""
    report: list[str] = []
    for change in changes:
        more = len(change.hosts) - SEVERAL
        report.append(f"{', '.join(change.hosts[:SEVERAL])}{f' and {more} more' if more > 0 else ''}: {change.task}")
        report += [f"    {line}" for line in change.actions[:SHOWN]]
        hidden = len(change.actions) - SHOWN
        report += [f"    and {hidden} more"] if hidden > 0 else []
    return report


class CallbackModule(CallbackBase):
    """Collects changes and prints them after the recap."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_changes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []  # callback fleet_report shows them, too

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task went well on a host."""
        # 2.19 gives properties, 2.17 the underscored attributes.
        data = getattr(result, "result", None) or result._result
        if not data.get("changed"):
            return
        host = getattr(result, "host", None) or result._host
        task = getattr(result, "task", None) or result._task
        collect(self.changes, host.get_name(), task.get_name(), data)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        if self.changes:
            title = "WOULD CHANGE" if context.CLIARGS.get("check") else "CHANGES"
            self._display.display("\n".join(["", title, *lines(self.changes), ""]), color="yellow")
