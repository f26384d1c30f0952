# SPDX-License-Identifier: GPL-3.0-or-later
"""What was changed and why: in the order of the run, the same on many hosts once, long lists cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import load_plugin

plugin = load_plugin("callback/fleet_changes.py")


def result(host: str, task: str, **data: Any) -> SimpleNamespace:
    """What Ansible hands to a callback."""
    return SimpleNamespace(
        host=SimpleNamespace(get_name=lambda: host), task=SimpleNamespace(get_name=lambda: task), result=data
    )


def test_the_same_change_on_many_hosts_is_one_entry() -> None:
    changes: list[Any] = []
    for number in range(8):
        plugin.collect(changes, f"npu-{number}", "Fetch", {"actions": ["weights 21b3: missing: a"]})
    plugin.collect(changes, "npu-8", "Fetch", {"actions": ["weights 21b3: changed: a"]})
    assert plugin.lines(changes) == [
        "npu-0, npu-1, npu-2, npu-3, npu-4, npu-5 and 2 more: Fetch",
        "    weights 21b3: missing: a",
        "npu-8: Fetch",
        "    weights 21b3: changed: a",
    ]


def test_a_long_list_is_cut() -> None:
    changes: list[Any] = []
    plugin.collect(changes, "npu-1", "Deliver", {"actions": [f"write {number}" for number in range(9)]})
    assert plugin.lines(changes)[-2:] == ["    write 5", "    and 3 more"]


def test_a_change_without_words_is_named_by_its_task() -> None:
    changes: list[Any] = []
    plugin.collect(changes, "npu-1", "Write the report", {"changed": True})
    assert plugin.lines(changes) == ["npu-1: Write the report"]


@pytest.mark.parametrize(("check", "title"), [(False, "CHANGES"), (True, "WOULD CHANGE")])
def test_only_changes_are_shown_and_a_prediction_is_called_one(
    check: bool, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(plugin.context, "CLIARGS", {"check": check})
    callback = plugin.CallbackModule()
    monkeypatch.setattr(callback._display, "display", lambda text, **_: shown.append(text))
    callback.v2_runner_on_ok(result("npu-1", "Look", changed=False, actions=["would not be shown"]))
    callback.v2_playbook_on_stats(None)
    assert shown == []
    callback.v2_runner_on_ok(result("npu-1", "Fetch", changed=True, actions=["weights: missing: a"]))
    callback.v2_playbook_on_stats(None)
    assert shown == [f"\n{title}\nnpu-1: Fetch\n    weights: missing: a\n"]
