# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipts decide convergence: what is redone, what is repaired, and that nothing is half-made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.errors import FleetError
from ansible.module_utils.ascend_fleet.host import Host
from ansible.module_utils.ascend_fleet.receipt import RECEIPT, Store, Verdict, converge, fingerprint

INPUTS = {"weights": "abc", "tp": 2}


def build(directory: str, verdict: Verdict) -> Mapping[str, str]:
    (Path(directory) / "part").mkdir()
    (Path(directory) / "part" / "data.bin").write_bytes(b"12345")
    return {"host": "here"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Host(), str(tmp_path), "checkpoint")


def test_first_run_makes_second_run_looks(store: Store) -> None:
    first = converge(store, INPUTS, build)
    assert first.changed
    assert first.values["artifact"]["files"] == 1
    second = converge(store, INPUTS, lambda directory, verdict: pytest.fail("must not build"))
    assert not second.changed
    assert second.values["artifact"]["bytes"] == 5
    assert store.current() == fingerprint(INPUTS)


def test_check_mode_predicts_and_touches_nothing(store: Store, tmp_path: Path) -> None:
    outcome = converge(store, INPUTS, build, check_mode=True)
    assert outcome.changed
    assert outcome.as_result()["diff"]["after"]["inputs"] == INPUTS
    assert list(tmp_path.iterdir()) == []


def test_new_inputs_keep_the_old_result(store: Store) -> None:
    converge(store, INPUTS, build)
    other = converge(store, {**INPUTS, "tp": 1}, build)
    assert other.before["inputs"]["tp"] == 2
    assert store.read(fingerprint(INPUTS)) is not None
    back = converge(store, INPUTS, lambda directory, verdict: pytest.fail("must not build"))
    assert back.changed, "switching `current` back is a change"
    assert store.current() == fingerprint(INPUTS)


@pytest.mark.parametrize("damage", ["missing", "shorter", "newer"])
def test_damage_is_found_and_repaired(store: Store, damage: str) -> None:
    converge(store, INPUTS, build)
    data = Path(store.path(fingerprint(INPUTS))) / "part" / "data.bin"
    if damage == "missing":
        data.unlink()
    elif damage == "shorter":
        data.write_bytes(b"1234")
    else:
        data.write_bytes(b"12346")
        os.utime(data, ns=(1, 1))
    outcome = converge(store, INPUTS, build)
    assert outcome.changed
    assert any("part/data.bin" in line for line in outcome.actions)
    assert data.read_bytes() == b"12345"


def test_a_flip_with_restored_time_needs_content(store: Store) -> None:
    converge(store, INPUTS, build)
    data = Path(store.path(fingerprint(INPUTS))) / "part" / "data.bin"
    times = data.stat()
    data.write_bytes(b"12349")
    os.utime(data, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not converge(store, INPUTS, build).changed
    assert converge(store, INPUTS, build, verify="content").changed


def test_a_new_time_alone_is_no_damage(store: Store) -> None:
    converge(store, INPUTS, build)
    os.utime(Path(store.path(fingerprint(INPUTS))) / "part" / "data.bin", ns=(7, 7))
    assert not converge(store, INPUTS, build).changed


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"stage": "checkpoint"}', '{"stage": 1, "inputs": {}, "outputs": {"a": 3}}']
)
def test_a_damaged_receipt_counts_as_none(store: Store, text: str) -> None:
    converge(store, INPUTS, build)
    (Path(store.path(fingerprint(INPUTS))) / RECEIPT).write_text(text)
    assert store.look(INPUTS).state == "unsealed"
    assert converge(store, INPUTS, build).changed
    assert store.look(INPUTS).ok


@pytest.mark.parametrize("error", [FleetError("no"), OSError(28, "No space left on device")])
def test_a_failed_build_leaves_what_was_there(store: Store, error: Exception) -> None:
    converge(store, INPUTS, build)
    before = store.current()

    def broken(directory: str, verdict: Verdict) -> Mapping[str, str]:
        (Path(directory) / "half").write_text("x")
        raise error

    names = sorted(path.name for path in Path(store.root).iterdir())
    with pytest.raises(type(error)):
        converge(store, {"tp": 9}, broken)
    assert store.current() == before
    assert sorted(path.name for path in Path(store.root).iterdir()) == names
    assert store.look({"tp": 9}).state == "absent"


def test_what_a_killed_build_left_goes_with_the_next_whatever_its_inputs(store: Store) -> None:
    left = Path(store.partial(fingerprint({"tp": 9})))
    left.mkdir(parents=True)
    converge(store, INPUTS, build)
    assert not left.exists()


def test_fingerprint_ignores_order_only() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": [1, 2]}) != fingerprint({"a": [2, 1]})
