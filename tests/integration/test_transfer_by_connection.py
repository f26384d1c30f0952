# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller as source: courier and outlet over a real socket, with real rsync and the real tar stream."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet import courier
from ansible.module_utils.ascend_fleet.outlet import opened

from tests.conftest import ModuleResult, RunModule

METHODS = ["rsync", "tar"]
BIG = 3_000_000  # bytes; many frames


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "nested").mkdir(parents=True)
    (top / "big.bin").write_bytes(random.Random(2).randbytes(BIG))
    (top / "nested" / "an odd [name]* $x.txt").write_text("odd\n")
    (tmp_path / "secret.txt").write_text("secret")
    return top


@pytest.fixture
def outlet(source: Path) -> Iterator[str]:
    with opened(str(source)) as path:
        yield path


def sync(run: RunModule, source: Path, work: Path, outlet: str, **other: Any) -> ModuleResult:
    manifest = run("artifact_manifest", {"path": str(source), "cache_dir": ""})
    assert not manifest.failed, manifest.data
    given = {"name": "controller", "over": "connection", "socket": outlet, "root": manifest["root"], "user": "me"}
    params = {"work_root": str(work), "stage": "weights", "manifest": manifest["manifest"], "source": given, **other}
    return run("artifact_sync", params)


def carry(outlet: str, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-I", str(Path(courier.__file__)), outlet, "controller", *words]
    return subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("method", METHODS)
def test_files_arrive_verified_and_a_second_run_looks_only(
    run_library: RunModule, source: Path, outlet: str, tmp_path: Path, method: str
) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("no rsync on this machine")
    done = sync(run_library, source, tmp_path / "work", outlet, method=method)
    assert not done.failed, done.data
    assert done["method"] == ("rsync+tar" if method == "rsync" else "tar")
    current = tmp_path / "work" / "weights" / "current"
    for path in [path for path in source.rglob("*") if path.is_file()]:
        assert (current / path.relative_to(source)).read_bytes() == path.read_bytes()
    again = sync(run_library, source, tmp_path / "work", "", method=method)
    assert (again.failed, again.changed) == (False, False)


def test_without_its_controller_the_transfer_is_lost_and_says_so(
    run_library: RunModule, source: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    refused = sync(run_library, source, tmp_path / "work", str(gone), method="tar")
    assert refused.failed
    assert f"the controller does not answer at {gone}" in refused["msg"]
    assert "controller (the controller, through Ansible's connection)" in refused["problem"]


@pytest.mark.parametrize(
    "words",
    [
        ["cat", "/etc/passwd"],
        ["rsync", "--server", "--sender", "-L", ".", "../secret.txt"],
        ["rsync", "--server", "-L", ".", "written.txt"],
        [],
    ],
)
def test_nothing_else_is_served(outlet: str, source: Path, words: list[str]) -> None:
    done = carry(outlet, *words)
    assert done.returncode == 77
    assert done.stdout == b""
    assert b"ascend-fleet refused" in done.stderr
    assert not (source / "written.txt").exists()


def test_a_request_that_is_none_is_refused(outlet: str) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(outlet)
        channel.sendall(b"GET / HTTP/1.1\n")
        with channel.makefile("rb") as answer:
            frames = answer.read()
    assert b"the request is not understood" in frames
    assert frames.endswith(b"77")


def test_only_this_user_reaches_the_outlet_and_it_is_gone_afterwards(source: Path) -> None:
    with opened(str(source)) as path:
        assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
    assert not os.path.exists(os.path.dirname(path))


def test_an_answer_that_breaks_off_is_a_lost_connection(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        argv = [sys.executable, "-I", str(Path(courier.__file__)), path, "controller", "ascend-fleet-tar"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            channel, _ = listener.accept()
            with channel:
                channel.sendall(courier.HEADER.pack(b"o", 100) + b"half")
                channel.shutdown(socket.SHUT_WR)
                stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == courier.LOST_STATUS
    assert stdout == b""
    assert b"broke" in stderr
