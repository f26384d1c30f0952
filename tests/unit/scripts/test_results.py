# SPDX-License-Identifier: GPL-3.0-or-later
"""The program behind `make test`: what it reads from reports, what it calls slowest, the table, and when it stops."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

REPORT = """<testsuites><testsuite>
<testcase classname="tests.lab.test_hosts" name="test_ssh" time="1.5"/>
<testcase classname="tests.lab.test_hosts" name="test_engine" time="30.25"><failure message="no"/></testcase>
<testcase classname="tests.lab.test_hosts" name="test_npu" time="0.1"><skipped/></testcase>
<testcase classname="tests.lab.test_hosts" name="test_down" time="2"><error message="clearing up"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "test"))
    yield importlib.import_module("results")
    sys.modules.pop("results", None)


@pytest.fixture
def program(results: ModuleType) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("test_program", ROOT / "scripts" / "test" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module


def test_a_report_gives_each_test_with_its_end(results: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT, encoding="utf-8")
    found = results.read_junit(tmp_path / "report.xml")
    assert [(result.name, result.outcome) for result in found] == [
        ("test_hosts: test_ssh", "passed"),
        ("test_hosts: test_engine", "failed"),
        ("test_hosts: test_npu", "skipped"),
        ("test_hosts: test_down", "failed"),
    ]
    assert results.slowest(found)[0].line() == "   30.2  FAILED test_hosts: test_engine"


def test_the_last_line_counts_all_steps_together(results: ModuleType) -> None:
    ends = ["passed", "skipped", "passed", "failed", "passed"]
    counted = results.closing_line([results.Result(end, end, 0.0) for end in ends])
    assert counted == "3 passed, 1 failed, 1 skipped"
    assert results.closing_line([]) == "0 passed, 0 failed, 0 skipped"


def test_the_slowest_are_ten(results: ModuleType) -> None:
    many = [results.Result(str(number), "passed", float(number % 17)) for number in range(40)]
    shown = results.slowest(many)
    assert [result.seconds for result in shown] == sorted((result.seconds for result in many), reverse=True)[:10]


def test_the_table_names_the_commit_and_whether_files_differed(results: ModuleType, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "-m", "first")
    at = results.commit(tmp_path)
    assert len(at) == 12
    page = tmp_path / "table.md"
    results.write_table(page, tmp_path, [results.Result("test_a: test_b", "passed", 61.4)])
    assert page.read_text(encoding="utf-8").splitlines()[-1] == f"| test_a: test_b | passed | 61 | {at} |"
    assert results.commit(tmp_path) == f"{at}+", "the page itself is a change"


def program_step(name: str, code: str) -> tuple[str, list[str]]:
    return name, [sys.executable, "-c", code]


def test_the_first_failure_ends_the_usual_run_and_not_the_long_one(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "SET_UP", program_step("set up", ""))
    lanes = [[program_step("bad", "raise SystemExit(3)"), program_step("good", "")]]
    done, parts = program.run(lanes, tmp_path, stop=True)
    assert [(result.name, result.outcome) for result in done] == [("set up", "passed"), ("bad", "failed")]
    done, parts = program.run(lanes, tmp_path, stop=False)
    assert [result.outcome for result in done] == ["passed", "failed", "passed"]
    assert parts == done
    monkeypatch.setattr(program, "SET_UP", program_step("set up", "raise SystemExit(1)"))
    done, parts = program.run(lanes, tmp_path, stop=True)
    assert [result.name for result in done] == ["set up"]


def test_lanes_go_on_beside_each_other_and_end_together(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each waits for a file that the other one writes; what fails in one ends both."""
    monkeypatch.setattr(program, "SET_UP", program_step("set up", ""))
    meet = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\nwhile not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    lanes = [
        [("one", [sys.executable, "-c", meet, first, second]), program_step("fails", "raise SystemExit(1)")],
        [("two", [sys.executable, "-c", meet + "\nprint('seen', flush=True)\ntime.sleep(1)", second, first])],
    ]
    lanes[1].append(program_step("never", ""))
    done, _ = program.run(lanes, tmp_path, stop=True)
    assert [result.name for result in done] == ["set up", "one", "fails", "two"]
    shown = capfd.readouterr().out
    assert "=== this was: two\nseen\n" in shown
    assert shown.index("=== fails") < shown.index("=== this was: two")


def test_a_step_of_tests_counts_as_its_tests(program: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(): pass\ndef test_two(): assert 0\n", encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_it.py")]
    for shown in (True, False):
        result, tests = program.run_step(("tests", argv), tmp_path, shown)
        assert result.outcome == "failed"
        assert [(test.name, test.outcome) for test in tests] == [
            ("test_it: test_one", "passed"),
            ("test_it: test_two", "failed"),
        ]


def test_every_long_test_is_run_by_the_long_run_only(program: ModuleType) -> None:
    for _, argv in itertools.chain(*program.USUAL):
        if "pytest" in argv and any(word in ("tests/lab", "tests/e2e") for word in argv):
            assert "not long" in argv[argv.index("-m", argv.index("pytest")) + 1]
    assert any(list(argv[-3:]) == ["-m", "long", "tests"] for _, argv in itertools.chain(*program.LONG))
