# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress file of work without a worker: what it says, that it shows while the work goes on, and that it goes with it."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.progress import measured, progress_line


def test_rate_and_time_left_come_from_what_is_new() -> None:
    line = progress_line("fetching", done=75, total=100, new=25, seconds=5.0)
    assert (line["progress"], line["rate"], line["eta_s"]) == (0.75, 5.0, 5.0)
    assert progress_line("fetching", done=50, total=100, new=0, seconds=5.0)["eta_s"] is None
    assert progress_line("fetching", done=0, total=0, new=0, seconds=0.0)["progress"] == 1.0


def test_it_shows_while_the_work_goes_on_and_goes_with_it(tmp_path: Path) -> None:
    asked, seen = threading.Event(), iter(range(0, 10_000, 10))

    def measure() -> int:
        done = next(seen)
        if done >= 30:
            asked.set()
        return done

    with measured(Host(), str(tmp_path / "p"), "fetching", 1000, measure, every=0.01):
        assert asked.wait(timeout=30)
        line = json.loads((tmp_path / "p").read_text())
        assert line["doing"] == "fetching"
        assert 10 <= line["done"] < line["total"] == 1000
    assert list(tmp_path.iterdir()) == []


def test_it_goes_with_work_that_failed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="broken"), measured(Host(), str(tmp_path / "p"), "fetching", 1, lambda: 0):
        raise OSError("broken")
    assert list(tmp_path.iterdir()) == []
