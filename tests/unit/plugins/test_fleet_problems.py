# SPDX-License-Identifier: GPL-3.0-or-later
"""The report at the end of a run: each problem once, with host, value and remedy."""

from __future__ import annotations

import pytest

from tests.conftest import load_plugin

plugin = load_plugin("callback/fleet_problems.py")


@pytest.mark.parametrize(
    ("message", "meaning", "remedy"),
    [
        (
            "Failed to connect to the host via ssh: Host key verification failed.",
            "not the one that is known",
            "ssh-keygen -R",
        ),
        (
            "Failed to connect: ssh: connect to host 10.0.0.9 port 22: No route to host",
            "does not answer",
            "ansible_host",
        ),
        ("root@10.0.0.9: Permission denied (publickey,password).", "did not accept the login", "authorized_keys"),
        (
            "ansible-core requires a minimum of Python version 3.8. Current version: 3.7.4",
            "too old",
            "make venv ANSIBLE=2.17",
        ),
        ("/bin/sh: 1: /usr/bin/python3: not found", "No Python", "ansible_python_interpreter"),
        ("Missing sudo password", "may not become root", "--ask-become-pass"),
        ("ssh: Could not resolve hostname npu-9: Name or service not known", "cannot be resolved", "ansible_host"),
    ],
)
def test_what_ansible_reports_gets_a_meaning_and_a_remedy(message: str, meaning: str, remedy: str) -> None:
    what, advice = plugin.explain({"msg": message})
    assert meaning in what
    assert message in what, "the value itself is never lost"
    assert remedy in advice


def test_a_modules_own_remedy_wins() -> None:
    result = {"msg": "x Remedy: y", "problem": "No space left on device /data", "remedy": "Use /data2."}
    assert plugin.explain(result) == ("No space left on device /data", "Use /data2.")


def test_a_delegated_task_speaks_of_the_host_it_ran_on() -> None:
    assert plugin.place("npu-1", "store-1") == "store-1"
    assert plugin.place("npu-1", None) == "npu-1"
    assert plugin.place("npu-1", "{{ staging }}") == "npu-1", "a name that was never resolved says nothing"


def test_an_unknown_failure_is_shown_as_it_is() -> None:
    assert plugin.explain({"msg": "something else"}) == ("something else", "")
    assert plugin.explain({"module_stderr": "Traceback"})[0].strip() == "Traceback"


def test_the_same_problem_on_many_hosts_is_one_entry() -> None:
    problems: list[object] = []
    for number in range(9):
        plugin.collect(problems, f"npu-{number}", "Look", {"problem": "No driver", "remedy": "Install it."})
    plugin.collect(problems, "npu-9", "Look", {"problem": "No chip", "remedy": ""})
    report = plugin.lines(problems)
    assert report[0] == "npu-0, npu-1, npu-2, npu-3, npu-4, npu-5 and 3 more: No driver"
    assert report[1:4] == ["    while: Look", "    remedy: Install it.", "npu-9: No chip"]
