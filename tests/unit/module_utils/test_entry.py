# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a module meets Ansible: whatever the system refuses is a failure with a remedy, not a traceback."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.outcome import Outcome
from ansible.module_utils.testing import patch_module_args


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "mounted read-only"),
        (errno.EACCES, "ansible_become"),
        (errno.EMFILE, "Look at the path"),
    ],
)
def test_what_the_system_refuses_is_explained(number: int, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(host: Host, params: dict[str, Any], check_mode: bool) -> Outcome:
        raise OSError(number, os.strerror(number), "/data/x")

    with patch_module_args({}), pytest.raises(SystemExit):
        run_module({}, refused)
    result = json.loads(capsys.readouterr().out)
    assert result["failed"]
    assert result["problem"] == f"/data/x: {os.strerror(number)}."
    assert remedy in result["remedy"]


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_a_strict_umask_of_the_login_keeps_nobody_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(host: Host, params: dict[str, Any], check_mode: bool) -> Outcome:
        host.make_dirs(str(tmp_path / "deep" / "artifact"))
        host.run(["mkdir", str(tmp_path / "by-a-program")])
        host.write_text(str(tmp_path / "private"), "", mode=0o600)
        return Outcome(changed=True)

    with patch_module_args({}), pytest.raises(SystemExit):
        run_module({}, make)
    assert json.loads(capsys.readouterr().out)["changed"]
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("deep", "deep/artifact", "by-a-program")}
    assert modes == dict.fromkeys(modes, 0o755)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
