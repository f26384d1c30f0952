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
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

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
    steps = "packages, controller, venv, chosen, rehearsal, engine, tests, stop"
    assert f"no step 'everything'; the steps are {steps}" in done.stderr


def test_missing_programs_name_their_packages_once(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"docker", "dockerd", "ssh"}
    monkeypatch.setattr(setup["packages"], "find", lambda program: None if program in absent else f"/bin/{program}")
    monkeypatch.setattr(setup["packages"].engine, "answers", lambda: False)
    packages = setup["packages"]
    assert packages.missing(packages.lab_programs()) == ["docker.io", "openssh-client"]


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
    monkeypatch.setattr(packages, "missing", lambda programs: ["rsync"])
    monkeypatch.setattr(packages, "_lists_are_empty", lambda: False)
    monkeypatch.setattr(packages.os, "geteuid", lambda: 0)
    packages.install()
    assert commands == ["install", "update", "install"]


@pytest.fixture
def without_sshd(setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module of Debian's packages on a machine that lacks sshd alone, with places of its own for what it looks at."""
    packages = setup["packages"]
    monkeypatch.setattr(packages, "find", lambda program: None if program == "sshd" else f"/bin/{program}")
    monkeypatch.setattr(packages.os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "_lists_are_empty", lambda: False)
    monkeypatch.setattr(packages, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(packages, "NO_START", tmp_path / "policy-rc.d")
    return packages


def test_the_sshd_of_the_tests_is_installed_and_not_started(
    without_sshd: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: list[int] = []
    monkeypatch.setattr(
        without_sshd,
        "run",
        lambda argv, _: rules.append(subprocess.run([without_sshd.NO_START], check=False).returncode),
    )
    without_sshd.install_for_tests()
    assert rules == [101], "Debian's code for: not allowed to start"
    assert not without_sshd.NO_START.exists()


def test_no_sshd_is_installed_where_it_would_run_from_then_on(
    without_sshd: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_sshd.SYSTEMD.mkdir()
    monkeypatch.setattr(without_sshd, "run", lambda argv, _: pytest.fail(f"{argv} was run"))
    without_sshd.install_for_tests()


def test_an_ordinary_user_is_told_what_root_has_to_install(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, error = setup["packages"], setup["say"].SetupError
    absent = {"fakeroot", "dockerd", "debootstrap"}
    monkeypatch.setattr(packages, "find", lambda program: None if program in absent else f"/bin/{program}")
    monkeypatch.setattr(packages.engine, "answers", lambda: True)
    monkeypatch.setattr(packages.os, "geteuid", lambda: 1000)
    with pytest.raises(error, match="let root run `apt-get install debootstrap fakeroot`"):
        packages.install()
    monkeypatch.setattr(packages.os, "geteuid", lambda: 0)
    assert packages.missing(packages.lab_programs()) == ["debootstrap"], (
        "root needs no fakeroot, and an engine that answers no dockerd"
    )


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("permission denied while trying to connect to the docker API", "usermod -aG docker"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "systemctl start docker"),
    ],
)
def test_an_ordinary_user_without_an_engine_is_told_what_to_ask_root_for(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    engine, error = setup["engine"], setup["say"].SetupError
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(engine, "answers", lambda: False)
    monkeypatch.setattr(engine.subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 1, "", said))
    monkeypatch.setattr(engine.os, "geteuid", lambda: 65534)
    with pytest.raises(error, match=remedy):
        engine.start()


@dataclass
class Bench:
    """An environment below the test's directory, and the commands that it runs, none of which runs."""

    environment: Any
    commands: list[list[str]]


@pytest.fixture
def bench(setup: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The environment step on a directory of the test."""
    module = setup["environment"]
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1\n", encoding="utf-8")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    bench = Bench(module.Environment(tmp_path / ".venv", lock), [])

    def run(argv: list[str]) -> None:
        bench.commands.append(argv)
        if "venv" in argv:
            bench.environment.python.parent.mkdir(parents=True)
            bench.environment.python.touch()
        if "download" in argv:
            _wheel(Path(argv[argv.index("--dest") + 1]), "Requires-Dist: sympy\n")

    monkeypatch.setattr(module, "run", run)
    return bench


def _wheel(directory: Path, requires: str) -> Path:
    path = directory / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch-2.13.0.dist-info/METADATA", f"Name: torch\n{requires}")
    return path


def test_a_fresh_environment_gets_lock_and_torch_and_a_warm_one_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
    bench.environment.prepare()
    words = [" ".join(command) for command in bench.commands]
    assert len(words) == 4
    assert "--require-hashes" in words[1]
    assert "--no-deps" not in words[1]
    assert words[2].endswith("torch==2.13.0")
    assert "--no-deps" in words[3]
    bench.commands.clear()
    bench.environment.prepare()
    assert bench.commands == []


def test_a_changed_lock_is_installed_and_torch_is_not_fetched_again(bench: Bench) -> None:
    bench.environment.prepare()
    (bench.environment.venv / "lib/python3.11/site-packages/torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    bench.environment.lock.write_text("a==2\n", encoding="utf-8")
    bench.commands.clear()
    bench.environment.prepare()
    assert len(bench.commands) == 1
    assert "--require-hashes" in bench.commands[0]


def test_a_whole_lock_is_installed_as_it_stands(setup: dict[str, ModuleType], bench: Bench) -> None:
    bench.environment = replace(bench.environment, whole=True)
    bench.environment.prepare()
    assert "--no-deps" in bench.commands[1]
    assert setup["environment"].REHEARSAL.whole


def test_an_environment_that_only_controls_has_no_torch(bench: Bench) -> None:
    bench.environment = replace(bench.environment, torch=False)
    bench.environment.prepare()
    assert [command[-1] for command in bench.commands] == [str(bench.environment.venv), str(bench.environment.lock)]
    bench.commands.clear()
    bench.environment.prepare()
    assert bench.commands == []


def test_the_environment_is_chosen_by_the_version_of_ansible(
    setup: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = setup["environment"]
    made: list[str] = []
    monkeypatch.setattr(environment.Environment, "prepare", lambda self: made.append(self.venv.name))
    for version in ("", "2.17", "2.19"):
        monkeypatch.setenv("ANSIBLE", version)
        environment.prepare_chosen()
    assert made == [".venv", ".venv-2.17", ".venv"]
    assert environment.OLDER.lock.is_file()
    monkeypatch.setenv("ANSIBLE", "2.12")
    with pytest.raises(setup["say"].SetupError, match=r"ANSIBLE=2\.12; choose one of 2\.19, 2\.17"):
        environment.prepare_chosen()


def test_torch_comes_from_the_index_that_the_user_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_INDEX_URL", "https://torch.example.org/cpu")
    bench.environment.prepare()
    download = next(command for command in bench.commands if "download" in command)
    assert download[download.index("--index-url") + 1] == "https://torch.example.org/cpu"


@pytest.mark.parametrize(("requires", "cuda"), [("Requires-Dist: nvidia-cublas-cu12\n", True), ("", False)])
def test_a_cuda_build_is_told_by_its_own_metadata(
    setup: dict[str, ModuleType], tmp_path: Path, requires: str, cuda: bool
) -> None:
    assert setup["environment"]._needs_cuda(_wheel(tmp_path, requires)) is cuda
