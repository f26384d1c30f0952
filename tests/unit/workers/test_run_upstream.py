# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a script of upstream's while it works."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from run_upstream import Watch


def test_what_turns_out_larger_than_expected_is_not_shown_as_more_than_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(os.getsid(0), tmp_path, expect=1000, stall=1e9)
    for size in (900, 1500, 1600):
        (tmp_path / "shard").write_bytes(b"x" * size)
        assert not watch.stalled()
    shown = [json.loads(line)["progress"] for line in capsys.readouterr().err.splitlines()]
    assert shown == [0.9, 1.0]
