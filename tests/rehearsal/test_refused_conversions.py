# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the real convert_ckpt.py ends with status 0 and without all of its files, site.yml stops and says what it said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.rehearsal import WORK_ROOT
from tests.conftest import ROOT
from tests.rehearsal.conftest import Rehearsal
from tests.runs import Run, run_playbook

pytestmark = pytest.mark.docker
HOST = "npu-1"
INVENTORIES = [str(ROOT / "inventory" / name) for name in ("lab", "rehearsal")]
Convert = Callable[..., str]


def checkpoints(rehearsal: Rehearsal) -> str:
    """What lies in the stage's directory, its link included."""
    return rehearsal.on_host(HOST, "find", f"{WORK_ROOT}/checkpoint", "-mindepth", "1", "-maxdepth", "1", "-ls")


@pytest.fixture
def refused(rehearsal: Rehearsal, tmp_path: Path) -> Convert:
    """Convert with upstream's engine and more variables; return the message with which it fails, after a look that nothing is left."""

    def run(**more: Any) -> str:
        before = checkpoints(rehearsal)
        variables = {"weight_conversion_engine": "upstream", "weight_conversion_layers_per_stage": [], **more}
        done: Run = run_playbook(tmp_path, "site.yml", INVENTORIES, "--tags conversion", **variables)
        assert done.rc != 0, done.output[-2000:]
        assert checkpoints(rehearsal) == before
        return done.failures()[HOST]

    return run


@pytest.fixture
def full_shared_memory(rehearsal: Rehearsal) -> Iterator[None]:
    """A /dev/shm, which the container shares with its server, of which 1 MiB is left."""
    filler = "/dev/shm/filler"
    free = int(rehearsal.on_host(HOST, "df", "--block-size=1", "--output=avail", "/dev/shm").split()[-1])
    rehearsal.on_host(HOST, "fallocate", "--length", str(free - 2**20), filler)
    yield
    rehearsal.on_host(HOST, "rm", filler)


def test_a_tp_that_does_not_divide_the_groups(refused: Convert) -> None:
    message = refused(weight_conversion_tp=8)
    assert "left 0 of 16 shards" in message
    assert "num_query_groups (4)" in message


def test_layers_that_do_not_divide_by_pp(refused: Convert) -> None:
    message = refused(weight_conversion_pp=3)
    assert "left 4 of 6 shards" in message
    assert 'Expecting "final norm"' in message


def test_too_little_shared_memory(full_shared_memory: None, refused: Convert) -> None:
    message = refused(weight_conversion_dtype="fp16")
    assert "/dev/shm in the container has 1.0 MiB free" in message
