# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback fleet_problems: at the end of a run, every problem of every host once, with its remedy."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_problems
type: aggregate
short_description: Report all problems of all hosts once, with remedies
description:
  - Collects what failed while a playbook ran and prints it after the recap, the same problem on many hosts as one entry.
  - Modules of this project bring their own remedy; for what Ansible itself reports (an unreachable host, a host key, an interpreter)
    the remedy comes from here.
requirements:
  - enabled in ansible.cfg (callbacks_enabled)
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.plugins.callback import CallbackBase

SEVERAL = 6  # more hosts than this are counted instead of listed whole
LONGEST = 1200  # characters of a message that are shown; the whole of it stands above, in the task's own output


@dataclass(frozen=True)
class Rule:
    """A text that Ansible reports, what it means, and what to do."""

    pattern: re.Pattern[str]
    meaning: str
    remedy: str


def _rule(pattern: str, meaning: str, remedy: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE | re.DOTALL), meaning, remedy)


# The first that matches counts: what is more special stands further up.
RULES = (
    _rule(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "The host's ssh key is not the one that is known.",
        "If the server was reinstalled, compare its key on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
        "`ssh-keygen -R <address>` and connect once by hand; if it was not, somebody else answers at this address.",
    ),
    _rule(
        r"ansible-core requires a minimum of Python version (?P<wanted>[\d.]+)\. Current version: (?P<found>[\d.]+)",
        "The server's Python is too old for this ansible-core.",
        "Set ansible_python_interpreter to a newer Python of that server, or use the environment that still manages Python 3.7: "
        "`make venv ANSIBLE=2.17`, then run .venv-2.17/bin/ansible-playbook.",
    ),
    _rule(
        r"future feature annotations is not defined|SyntaxError.*annotations",
        "The server's Python is older than 3.7.",
        "Install Python 3.7 or newer there and set ansible_python_interpreter to it.",
    ),
    _rule(
        r"python\S*: (command )?not found|No python interpreters found|module_stdout.*python3?: not found",
        "No Python was found on the server.",
        "Install python3 there, or set ansible_python_interpreter to its path.",
    ),
    _rule(
        r"Permission denied \(|Too many authentication failures",
        "The server did not accept the login.",
        "Check ansible_user and ansible_ssh_private_key_file of this host, and that its public key stands in the user's authorized_keys.",
    ),
    _rule(
        r"Missing sudo password|incorrect sudo password|a password is required|is not in the sudoers",
        "The login may not become root.",
        "Allow sudo for that user without a password, or run with --ask-become-pass.",
    ),
    _rule(
        r"Connection timed out|timed out waiting|No route to host|Connection refused|Network is unreachable|Connection closed by",
        "The server does not answer on its ssh port.",
        "Check that it runs, ansible_host and ansible_port in the inventory, and the way there: ssh <user>@<address>.",
    ),
    _rule(
        r"Could not resolve hostname|Name or service not known",
        "The server's name cannot be resolved.",
        "Set ansible_host to its address in the inventory.",
    ),
    _rule(
        r"No space left on device",
        "A file system of the server is full.",
        "Free space there (df -h), or move ascend_work_root or the temporary directory to a larger file system.",
    ),
)


@dataclass
class Problem:
    """One problem and the hosts that have it."""

    what: str
    remedy: str
    task: str
    hosts: list[str] = field(default_factory=list)


def explain(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return (problem, remedy) of a failed result; the remedy is empty where none is known."""
    if result.get("problem"):
        return str(result["problem"]), str(result.get("remedy", ""))
    text = " ".join(str(result.get(key, "")) for key in ("msg", "module_stderr", "module_stdout", "stderr"))
    for rule in RULES:
        if rule.pattern.search(text):
            return f"{rule.meaning} ({_first_words(result, text)})", rule.remedy
    return _first_words(result, text), ""


def _first_words(result: Mapping[str, Any], text: str) -> str:
    message = str(result.get("msg") or text).strip()
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}..."


def place(host: str, delegate_to: str | None) -> str:
    """Return the host that a result speaks of: of a delegated task that is not the one it was run for."""
    return delegate_to if delegate_to and "{{" not in delegate_to else host


def collect(problems: list[Problem], host: str, task: str, result: Mapping[str, Any]) -> None:
    """Add a failed result to the list; the same problem in the same task becomes one entry with several hosts."""
    what, remedy = explain(result)
    for problem in problems:
        if (problem.what, problem.task) == (what, task):
            problem.hosts.append(host)
            return
    problems.append(Problem(what, remedy, task, [host]))


def lines(problems: Iterable[Problem]) -> list[str]:
    """Return the report, what concerns most hosts first."""
    report: list[str] = []
    for problem in sorted(problems, key=lambda problem: -len(problem.hosts)):
        named = ", ".join(problem.hosts[:SEVERAL])
        more = len(problem.hosts) - SEVERAL
        report.append(f"{named}{f' and {more} more' if more > 0 else ''}: {problem.what}")
        report.append(f"    while: {problem.task}")
        if problem.remedy:
            report.append(f"    remedy: {problem.remedy}")
    return report


class CallbackModule(CallbackBase):
    """Collects failures and prints them after the recap."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_problems"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._problems: list[Problem] = []

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed on a host."""
        if not ignore_errors:
            self._add(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._add(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        if self._problems:
            self._display.display("\n".join(["", "PROBLEMS", *lines(self._problems), ""]), color="red")

    def _add(self, result: Any) -> None:
        # 2.19 gives properties, 2.17 the underscored attributes.
        host = getattr(result, "host", None) or result._host
        task = getattr(result, "task", None) or result._task
        data = getattr(result, "result", None) or result._result
        collect(self._problems, place(host.get_name(), task.delegate_to), task.get_name(), data)
