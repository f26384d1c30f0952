# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of tests: read from pytest's reports, the slowest of them, and the table that is committed."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

SHOWN = 10


@dataclass(frozen=True)
class Result:
    """A test or step: passed, failed or skipped, and its seconds, preparation and clearing up included."""

    name: str
    outcome: str
    seconds: float

    def line(self) -> str:
        """One line of a list on the screen."""
        return f"{self.seconds:7.1f}  {'' if self.outcome == 'passed' else self.outcome.upper() + ' '}{self.name}"


def read_junit(path: Path) -> list[Result]:
    """Read pytest's report; a test whose clearing up failed has failed."""
    found = []
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        place = case.get("classname", "").rpartition(".")[2]
        found.append(Result(f"{place}: {case.get('name')}", outcome, float(case.get("time") or 0)))
    return found


def slowest(results: Sequence[Result]) -> list[Result]:
    """The ten that took longest, the longest first."""
    return sorted(results, key=lambda result: -result.seconds)[:SHOWN]


def closing_line(results: Sequence[Result]) -> str:
    """How many of them passed, failed and were skipped, in the words that test runners end with."""
    counts = Counter(result.outcome for result in results)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))


def commit(root: Path) -> str:
    """The short id of the commit that is checked out, with a plus sign where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain").strip() else "")


def write_table(path: Path, root: Path, results: Sequence[Result]) -> None:
    """Write the results of `make test-all` as a page with one row a test."""
    at = commit(root)
    rows = [f"| {result.name} | {result.outcome} | {result.seconds:.0f} | {at} |" for result in results]
    text = (
        "# Results of `make test-all`\n\n"
        "Written by `make test-all`, which runs what takes longer than `make test`. Seconds include preparation. The commit is the one\n"
        "that was tested; a plus sign says that files differed from it.\n\n"
        "| test | result | seconds | commit |\n|---|---|---:|---|\n"
    )
    path.write_text(text + "".join(f"{row}\n" for row in rows), encoding="utf-8")
