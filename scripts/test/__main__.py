# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests: `python3 scripts/test` what CI runs, `python3 scripts/test all` what takes longer than that.

Installs what is needed. What needs no engine goes on beside what waits for the lab's hosts. An engine that had to be started is ended
again, and with it the lab's hosts. `all` writes its results to docs/test-all.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from results import Result, closing_line, read_junit, slowest, write_table

ROOT = Path(__file__).resolve().parents[2]
PYTHON = str(ROOT / ".venv" / "bin" / "python")
SETUP = [os.environ.get("PYTHON", "python3"), "scripts/setup"]
TABLE = ROOT / "docs" / "test-all.md"
PYTEST = [PYTHON, "-m", "pytest", "-q"]
LAB_UP = ("bring the lab up", [PYTHON, "-m", "lab", "up"])

Step = tuple[str, Sequence[str]]
Lane = Sequence[Step]
SET_UP: Step = ("set up this machine", [*SETUP, "packages", "venv", "engine", "tests"])
# Lanes go on at the same time. The first one's output is shown as it comes, that of the others whenever a step has ended.
USUAL: tuple[Lane, ...] = (
    (
        LAB_UP,
        (
            "tests on the engine and the lab's hosts",
            [*PYTEST, "-m", "docker and not long", "tests/unit", "tests/integration", "tests/lab"],
        ),
        ("roles on the lab's hosts (molecule)", ["molecule", "test", "--all"]),
        ("site.yml from end to end", [*PYTEST, "-m", "not long", "tests/e2e"]),
        ("the real MindSpeed-LLM (skipped without ASCEND_FLEET_UPSTREAM)", [*PYTEST, "tests/rehearsal"]),
    ),
    (
        ("read the code (ruff, yamllint, mypy, validate-modules, ansible-lint)", ["scripts/lint"]),
        (
            "unit tests",
            [*PYTEST, "-n", "2", "--dist", "loadgroup", "-m", "not docker", "tests/unit", "tests/integration"],
        ),
    ),
)
LONG: tuple[Lane, ...] = (
    (
        ("set up ansible-core 2.17", ["env", "ANSIBLE=2.17", *SETUP, "chosen"]),
        LAB_UP,
        ("long tests", [*PYTEST, "-m", "long", "tests"]),
        (
            "the pipeline under ansible-core 2.17",
            [
                "env",
                "ANSIBLE=2.17",
                *PYTEST,
                "-m",
                "not long",
                "tests/e2e/test_site.py",
                "tests/e2e/test_check_mode.py",
            ],
        ),
    ),
)
Outcome = tuple[list[Result], list[Result]]


def environment() -> dict[str, str]:
    """The caller's, with the tools of the virtual environment, and with compiled Python files: tests start thousands of programs."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, "PATH": f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def run_step(step: Step, folder: Path, shown: bool = True) -> tuple[Result, list[Result]]:
    """Run one step; return it as a result, and the tests that it consists of, none where it is no test program.

    With `shown` its output goes to the screen as it comes, else all at once when it has ended.
    """
    name, argv = step
    junit = folder / f"{time.monotonic_ns()}.xml"
    line = [*argv, f"--junit-xml={junit}"] if "pytest" in argv else list(argv)
    begun = time.monotonic()
    if shown:
        print(f"\n=== {name}", flush=True)
        status = subprocess.run(line, cwd=ROOT, env=environment(), check=False).returncode
    else:
        print(f"\n=== beside it: {name}", flush=True)
        said = subprocess.PIPE
        done = subprocess.run(line, cwd=ROOT, env=environment(), check=False, stdout=said, stderr=subprocess.STDOUT)
        status = done.returncode
        # In one piece: the other lane prints, too.
        print(f"\n=== this was: {name}\n{done.stdout.decode(errors='replace')}", flush=True)
    result = Result(name, "passed" if status == 0 else "failed", time.monotonic() - begun)
    return result, read_junit(junit) if junit.is_file() else []


def run_lane(lane: Lane, folder: Path, shown: bool, failed: threading.Event | None) -> Outcome:
    """Run steps one after the other; return them, and what is not divided further: tests and other steps.

    With `failed` no step is begun after one has failed, in this lane or another.
    """
    done: list[Result] = []
    parts: list[Result] = []
    for step in lane:
        if failed is not None and failed.is_set():
            break
        result, tests = run_step(step, folder, shown)
        done.append(result)
        parts += tests or [result]
        if failed is not None and result.outcome != "passed":
            failed.set()
    return done, parts


def run(lanes: Sequence[Lane], folder: Path, stop: bool) -> Outcome:
    """Set the machine up and run the lanes beside each other, with `stop` to the first step that fails."""
    failed = threading.Event() if stop else None
    done, parts = run_lane([SET_UP], folder, True, failed)
    with ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(run_lane, lane, folder, lane is lanes[0], failed) for lane in lanes]
    for lane in running:
        results, tests = lane.result()
        done += results
        parts += tests
    return done, parts


def engine_answers() -> bool:
    """True when a Docker engine answers already, which is then nobody's to end."""
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def end_engine() -> None:
    """Take the lab down and end the engine that setup started."""
    if Path(PYTHON).exists():
        subprocess.run([PYTHON, "-m", "lab", "down"], cwd=ROOT, check=False)
    subprocess.run([*SETUP, "stop"], cwd=ROOT, check=False)


def main(words: list[str]) -> int:
    """Return 0 when everything passed."""
    if words not in ([], ["all"]):
        print("test: give no word, or `all` for what takes longer", file=sys.stderr)
        return 2
    ours = not engine_answers()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fleet-tests-") as folder:
        try:
            done, parts = run(LONG if words else USUAL, Path(folder), stop=not words)
        finally:
            if ours:
                end_engine()
    if words:
        write_table(TABLE, ROOT, parts)
    print(f"\nseconds by step ({time.monotonic() - begun:.0f} in all):")
    print("\n".join(result.line() for result in done))
    print("\nthe ten slowest tests and other steps:")
    print("\n".join(result.line() for result in slowest(parts)))
    # Each step's own last line counts that step alone, and the last one's may be nothing but skips.
    print(f"\n{closing_line(parts)}", flush=True)
    return 0 if all(result.outcome == "passed" for result in done) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
