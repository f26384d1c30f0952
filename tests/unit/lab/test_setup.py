# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting a machine up: which packages are missing, when the environment is made anew, and which engine is ended."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SETUP = Path(__file__).resolve().parents[3] / "scripts" / "setup"
NAMES = ("say", "packages", "environment", "engine")


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of scripts/setup, which import each other by their bare names."""
    monkeypatch.syspath_prepend(str(SETUP))
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        sys.modules.pop(name, None)


def run_step(step: str, state: Path) -> str:
    """Run one setup step as a program; return what it printed."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    argv = [sys.executable, str(SETUP), step]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes started by a test, ended after it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def remember(state: Path, pid: int) -> None:
    """Write the pid file as setup does."""
    (state / "ascend-fleet-lab").mkdir()
    (state / "ascend-fleet-lab" / "dockerd.pid").write_text(f"{pid}\n", encoding="utf-8")


def test_stop_ends_the_engine_that_setup_started(tmp_path: Path, sleeper: list[subprocess.Popen[bytes]]) -> None:
    program = tmp_path / "dockerd"
    shutil.copy("/bin/sleep", program)
    sleeper.append(subprocess.Popen([str(program), "60"]))
    remember(tmp_path, sleeper[0].pid)
    assert f"stopping dockerd (pid {sleeper[0].pid})" in run_step("stop", tmp_path)
    assert sleeper[0].wait(timeout=5) < 0


def test_stop_leaves_a_process_alone_that_took_over_the_pid(
    tmp_path: Path, sleeper: list[subprocess.Popen[bytes]]
) -> None:
    sleeper.append(subprocess.Popen(["sleep", "60"]))
    remember(tmp_path, sleeper[0].pid)
    assert "nothing to stop" in run_step("stop", tmp_path)
    assert sleeper[0].poll() is None


def test_stop_without_a_pid_file_stops_nothing(tmp_path: Path) -> None:
    assert "nothing to stop" in run_step("stop", tmp_path)


def test_an_unknown_step_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SETUP), "everything"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no step 'everything'; the steps are packages, venv, engine, stop" in done.stderr


def test_missing_programs_name_their_packages_once(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"docker", "dockerd", "ssh"}
    monkeypatch.setattr(setup["packages"], "find", lambda program: None if program in absent else f"/bin/{program}")
    assert setup["packages"].missing() == ["docker.io", "openssh-client"]


def test_old_package_lists_are_updated_and_the_installation_tried_again(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, error = setup["packages"], setup["say"].SetupError
    commands: list[str] = []

    def run(argv: list[str], _environment: dict[str, str]) -> None:
        commands.append(argv[1])
        if commands == ["install"]:
            raise error("404")

    monkeypatch.setattr(packages, "run", run)
    monkeypatch.setattr(packages, "missing", lambda: ["rsync"])
    monkeypatch.setattr(packages, "_lists_are_empty", lambda: False)
    monkeypatch.setattr(packages, "need_root", lambda why: None)
    packages.install()
    assert commands == ["install", "update", "install"]


@pytest.fixture
def venv(setup: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The environment step on a directory of the test; returns the commands that it runs, none of which runs."""
    environment = setup["environment"]
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1\n", encoding="utf-8")
    for name, value in {
        "ROOT": tmp_path,
        "LOCK": lock,
        "VENV": tmp_path / ".venv",
        "PYTHON": tmp_path / ".venv" / "bin" / "python",
        "STAMP": tmp_path / ".venv" / "stamp.json",
    }.items():
        monkeypatch.setattr(environment, name, value)
    commands: list[list[str]] = []

    def run(argv: list[str]) -> None:
        commands.append(argv)
        if "venv" in argv:
            environment.PYTHON.parent.mkdir(parents=True)
            environment.PYTHON.touch()
        if "download" in argv:
            _wheel(Path(argv[argv.index("--dest") + 1]), "Requires-Dist: sympy\n")

    monkeypatch.setattr(environment, "run", run)
    return commands


def _wheel(directory: Path, requires: str) -> Path:
    path = directory / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch-2.13.0.dist-info/METADATA", f"Name: torch\n{requires}")
    return path


def test_a_fresh_environment_gets_lock_and_torch_and_a_warm_one_nothing(
    setup: dict[str, ModuleType], venv: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
    setup["environment"].prepare()
    words = [" ".join(command) for command in venv]
    assert len(words) == 4
    assert "--require-hashes" in words[1]
    assert words[2].endswith("torch==2.13.0")
    assert "--no-deps" in words[3]
    venv.clear()
    setup["environment"].prepare()
    assert venv == []


def test_a_changed_lock_is_installed_and_torch_is_not_fetched_again(
    setup: dict[str, ModuleType], venv: list[list[str]]
) -> None:
    environment = setup["environment"]
    environment.prepare()
    (environment.VENV / "lib/python3.11/site-packages/torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    environment.LOCK.write_text("a==2\n", encoding="utf-8")
    venv.clear()
    environment.prepare()
    assert len(venv) == 1
    assert "--require-hashes" in venv[0]


def test_torch_comes_from_the_index_that_the_user_names(
    setup: dict[str, ModuleType], venv: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_INDEX_URL", "https://torch.example.org/cpu")
    setup["environment"].prepare()
    download = next(command for command in venv if "download" in command)
    assert download[download.index("--index-url") + 1] == "https://torch.example.org/cpu"


@pytest.mark.parametrize(("requires", "cuda"), [("Requires-Dist: nvidia-cublas-cu12\n", True), ("", False)])
def test_a_cuda_build_is_told_by_its_own_metadata(
    setup: dict[str, ModuleType], tmp_path: Path, requires: str, cuda: bool
) -> None:
    assert setup["environment"]._needs_cuda(_wheel(tmp_path, requires)) is cuda
