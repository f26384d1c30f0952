# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place with effects, tried on this machine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet import host as host_module
from ansible.module_utils.ascend_fleet.errors import CommandError, FleetError
from ansible.module_utils.ascend_fleet.host import Container, Host

from tests.conftest import ScriptedHost


def test_run_passes_input_and_environment() -> None:
    done = Host().run(["sh", "-c", 'cat; echo "$LC_ALL $MARK"'], env={"MARK": "x y"}, stdin="in\n")
    assert done.stdout == "in\nC x y\n"


def test_failure_names_command_status_and_last_words() -> None:
    with pytest.raises(CommandError, match="status 3: the reason") as caught:
        Host().run(["sh", "-c", "echo the reason >&2; exit 3"], remedy="Try again.")
    assert caught.value.as_result()["msg"].endswith("Remedy: Try again.")


def test_a_long_command_line_does_not_hide_what_went_wrong() -> None:
    argv = ["sh", "-c", "echo the reason >&2; exit 3", *(f"word{number}" for number in range(100))]
    with pytest.raises(CommandError) as caught:
        Host().run(argv)
    assert "word10 word11" in caught.value.message
    assert caught.value.message.endswith(" ...` ended with status 3: the reason")
    assert len(caught.value.message) < 300
    assert caught.value.as_result()["argv"] == argv


def test_a_missing_program_is_named() -> None:
    with pytest.raises(CommandError, match="no-such-program.*cannot be started"):
        Host().run(["no-such-program"])


def test_a_hung_tool_is_ended_with_its_children() -> None:
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"did not answer within 0\.2 s"):
        Host().run(["sh", "-c", "sleep 60 & wait"], timeout=0.2)
    assert time.monotonic() - start < 30


def test_a_child_in_a_session_of_its_own_that_keeps_the_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "SECONDS_TO_END", 0.2)
    start = time.monotonic()
    try:
        with pytest.raises(CommandError, match=r"did not answer within 0\.2 s and was ended"):
            Host().run(["sh", "-c", f"setsid sleep 60 & echo $! >{tmp_path}/child; sleep 60"], timeout=0.2)
        assert time.monotonic() - start < 30
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_tool_that_the_kernel_does_not_let_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "SECONDS_TO_END", 0.2)
    monkeypatch.setattr(host_module.os, "killpg", lambda *_: None)  # as for one that waits in a driver
    start = time.monotonic()
    with pytest.raises(CommandError, match="does not end when killed"):
        Host().run(["sleep", "3"], timeout=0.2)
    assert time.monotonic() - start < 2.5


def test_write_text_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    Host().write_text(str(path), "one", mode=0o600)
    Host().write_text(str(path), "two", mode=0o600)
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_directory_of_ours_is_opened_and_keeps_the_rest_of_its_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    folder.chmod(0o2700)
    Host().let_in(str(folder))
    assert folder.stat().st_mode & 0o7777 == 0o2755
    folder.chmod(0o700)
    monkeypatch.setattr("os.geteuid", lambda: folder.stat().st_uid + 1)
    Host().let_in(str(folder))
    assert folder.stat().st_mode & 0o7777 == 0o700


def test_make_dirs_below_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetError, match="cannot be made"):
        Host().make_dirs(str(tmp_path / "file" / "sub"))


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    assert not Host().is_file(str(tmp_path))
    assert Host().read_text(str(tmp_path)) is None


def test_container_sources_its_scripts_and_reports_the_inner_command(scripted_host: ScriptedHost) -> None:
    container = Container(scripted_host, "train", ["/a/set_env.sh", "/b/set_env.sh"])
    line = container.command(["python", "-V"], env={"X": "1"}, cwd="/src")
    assert line[:4] == ["docker", "exec", "--workdir", "/src"]
    assert "FLEET_ENV_SCRIPTS=/a/set_env.sh /b/set_env.sh" in line
    assert line[-3:] == ["fleet", "python", "-V"]
    scripted_host.expect(line, rc=120, stderr="environment script /a/set_env.sh is not there")
    with pytest.raises(CommandError, match="`python -V` in container train ended with status 120: environment script"):
        container.run(["python", "-V"], env={"X": "1"}, cwd="/src")


def test_container_launch_line_works_in_a_real_shell(tmp_path: Path) -> None:
    script = tmp_path / "set_env.sh"
    script.write_text("export FROM_SCRIPT=yes\n")
    launch = Container(Host(), "x").command(["true"])[-4:-1]
    argv = ["bash", "-c", launch[1], "fleet", "sh", "-c", 'echo "$FROM_SCRIPT $1"', "sh", "two words"]
    good = Host().run(argv, env={"FLEET_ENV_SCRIPTS": str(script)})
    assert good.stdout == "yes two words\n"
    script.write_text("umask 077\n")
    mask = Host().run([*argv[:4], "sh", "-c", "umask"], env={"FLEET_ENV_SCRIPTS": str(script)})
    assert mask.stdout.strip() == "0022", "what a container makes is fetched by others"
    bad = Host().run(argv, env={"FLEET_ENV_SCRIPTS": "/nowhere"}, check=False)
    assert bad.rc == 120
    assert "/nowhere is not there" in bad.stderr


def test_files_are_hashed_side_by_side_until_the_time_is_over(tmp_path: Path) -> None:
    paths = []
    for text in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / text).write_text(text)
        paths.append(str(tmp_path / text))
    alone = {path: Host().sha256(path) for path in paths}
    assert Host().sha256_of(paths) == alone
    assert Host().sha256_of(paths, seconds=0) == {paths[0]: alone[paths[0]]}
    assert Host().sha256_of([]) == {}
    with pytest.raises(FileNotFoundError):
        Host().sha256_of([*paths, str(tmp_path / "gone")])
