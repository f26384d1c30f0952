# SPDX-License-Identifier: GPL-3.0-or-later
"""Callback fleet_problems: at the end of a run, every problem of every host once, with its remedy."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_problems
type: aggregate
short_description: Report all problems of all hosts once, with remedies
description:
  - Collects what failed while a playbook ran and prints it after the recap, the same problem on many hosts as one entry.
  - Modules of this project bring their own remedy; for what Ansible itself reports (an unreachable host, a host key, an interpreter,
    a missing variable) the remedy comes from here.
requirements:
  - enabled in ansible.cfg (callbacks_enabled)
options:
  output:
    description: File on the controller that gets the problems of a run as JSON, an empty list where there are none. Empty writes nothing.
    type: str
    default: ''
    env:
      - name: FLEET_PROBLEMS_FILE
    ini:
      - section: callback_fleet_problems
        key: output
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase
from ansible.release import __version__

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.reported import RULES

SEVERAL = 6  # more hosts than this are counted instead of listed whole
LONGEST = 1200  # characters of a message that are shown; the whole of it stands above, in the task's own output
CORE = ".".join(__version__.split(".")[:2])
OLDEST_PYTHON = {"2.17": "3.7"}.get(CORE, "3.8")  # that this ansible-core manages on a server
SWITCH = (
    ""
    if OLDEST_PYTHON == "3.7"
    else " For Python 3.7 there is an environment with ansible-core 2.17: `make venv ANSIBLE=2.17`, then run again with "
    ".venv-2.17/bin/ansible-playbook."
)
INSTEAD = ("message", "reason")  # where include_vars and include_tasks say what other actions say in msg


@dataclass
class Problem:
    """One problem and the hosts that have it; `details` (host -> what was said there) where there is more than the problem itself."""

    what: str
    remedy: str
    task: str
    parts: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)


def explain(result: Mapping[str, Any], python: str = "python3") -> tuple[str, str, str]:
    """Return (problem, remedy, what was said) of a failed result; remedy and what was said are empty where there are none.

    `python` is the interpreter that the host is known to have.
    """
    if result.get("problem"):
        return str(result["problem"]), str(result.get("remedy", "")), ""
    text = " ".join(
        str(result.get(key, "")) for key in ("msg", *INSTEAD, "module_stderr", "module_stdout", "stderr", "exception")
    )
    said = _first_words(result, text)
    what, given, remedy = said.partition(" Remedy: ")
    if given:  # this project's own words, whatever they quote
        return what, remedy, ""
    for rule in RULES:
        found = rule.pattern.search(text)
        if found:
            values = {"python": python, "core": CORE, "oldest": OLDEST_PYTHON, "switch": SWITCH, **found.groupdict()}
            return rule.meaning.format(**values), rule.remedy.format(**values), said
    return said, "", ""


def _first_words(result: Mapping[str, Any], text: str) -> str:
    message = str(result.get("msg") or "").strip()
    if not message or message.endswith("Unknown error."):
        message = next((str(result[key]) for key in INSTEAD if result.get(key)), text).strip()
    # What Ansible puts before every message says nothing, and where a program printed no result its last words do.
    message = re.sub(r"^(Task failed: |Action failed: )+", "", message).partition("\n\nThe error appears to be in")[0]
    if re.match("Module result deserialization failed|MODULE FAILURE", message):
        printed = f"{result.get('module_stdout', '')}\n{result.get('module_stderr', '')}".strip()
        message = printed.splitlines()[-1].strip() if printed else message
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}..."


def place(host: str, delegate_to: str | None, result: Mapping[str, Any]) -> str:
    """Return the host that a result speaks of: of a delegated task that is not the one it was run for."""
    resolved = (result.get("_ansible_delegated_vars") or {}).get("ansible_delegated_host")
    if resolved:
        return str(resolved)
    return delegate_to if delegate_to and "{{" not in delegate_to else host


def collect(problems: list[Problem], host: str, task: str, result: Mapping[str, Any], python: str = "python3") -> None:
    """Add a failed result to the list; the same problem in the same task becomes one entry with several hosts."""
    items = [item for item in result.get("results") or [] if isinstance(item, Mapping) and item.get("failed")]
    if items:  # of a loop, whose own message only says that some of its turns failed
        for item in items:
            collect(problems, host, task, item, python)
        return
    what, remedy, said = explain(result, python)
    found = next((one for one in problems if (one.what, one.remedy, one.task) == (what, remedy, task)), None)
    if found is None:
        found = Problem(what, remedy, task, [str(part) for part in result.get("problems") or []])
        problems.append(found)
    if host not in found.hosts:
        found.hosts.append(host)
    if said and said not in what:
        found.details[host] = said


def lines(problems: Iterable[Problem]) -> list[str]:
    """Return the report, what concerns most hosts first."""
    report: list[str] = []
    for problem in sorted(problems, key=lambda problem: -len(problem.hosts)):
        several = len(problem.parts) > 1
        what = f"{len(problem.parts)} problems" if several else problem.what
        report.append(f"{_named(problem.hosts)}: {what}")
        report += [f"    - {part}" for part in problem.parts] if several else []
        report += [f"    {_named(hosts)} said: {said}" for said, hosts in _by_saying(problem.details).items()]
        report.append(f"    while: {problem.task}")
        if problem.remedy:
            report.append(f"    remedy: {problem.remedy}")
    return report


def _by_saying(details: Mapping[str, str]) -> dict[str, list[str]]:
    sayings: dict[str, list[str]] = {}
    for host, said in details.items():
        sayings.setdefault("\n        ".join(said.splitlines()), []).append(host)
    return sayings


def _named(hosts: list[str]) -> str:
    more = len(hosts) - SEVERAL
    return f"{', '.join(hosts[:SEVERAL])}{f' and {more} more' if more > 0 else ''}"


class CallbackModule(CallbackBase):
    """Collects failures and prints them after the recap."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet_problems"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[Problem] = []  # callback fleet_report shows them, too
        self._play: Any = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play begins: it knows the variables of its hosts."""
        self._play = play

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed on a host."""
        if not ignore_errors:
            self._add(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._add(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The run is over."""
        if self.problems:
            self._display.display("\n".join(["", "PROBLEMS", *lines(self.problems), ""]), color="red")
        output = self.get_option("output")
        if output:
            text = json.dumps([asdict(problem) for problem in self.problems], indent=2)
            Path(output).write_text(f"{text}\n", encoding="utf-8")

    def _add(self, result: Any) -> None:
        # 2.19 gives properties, 2.17 the underscored attributes.
        host = getattr(result, "host", None) or result._host
        task = getattr(result, "task", None) or result._task
        data = getattr(result, "result", None) or result._result
        named = place(host.get_name(), task.delegate_to, data)
        known = self._variables(host) if named == host.get_name() else data.get("_ansible_delegated_vars") or {}
        python = str(known.get("ansible_python_interpreter") or "python3")
        collect(self.problems, named, task.get_name(), data, python)

    def _variables(self, host: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._play.get_variable_manager().get_vars(play=self._play, host=host)
        return found
