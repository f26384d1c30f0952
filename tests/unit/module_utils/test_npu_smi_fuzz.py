# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged tables: the parser never fails on one, and a sick chip never passes for a healthy one."""

from __future__ import annotations

import re
from typing import Callable

import pytest
from ansible.module_utils.ascend_fleet.driver_findings import has_errors
from ansible.module_utils.ascend_fleet.npu_assess import assess
from ansible.module_utils.ascend_fleet.npu_chips import known_chips
from ansible.module_utils.ascend_fleet.npu_holders import Holders
from ansible.module_utils.ascend_fleet.npu_smi import parse_info
from ansible.module_utils.ascend_fleet.npu_smi_lists import parse_health, parse_key_values, parse_mapping
from ansible.module_utils.ascend_fleet.npu_survey import Node, Survey, ToolRun
from ansible.module_utils.ascend_fleet.npu_wanted import Wanted
from ansible.module_utils.ascend_fleet.version_files import VersionFile, Versions
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.fake_server import fixture

# Each has one chip that is not OK; the physical ids are those of the nodes that the server has.
SICK = {
    "npu_smi/25.0.rc1/info-4x910B3.txt": (0, 1, 2, 3),
    "npu_smi/23.0.rc2/info-2x910A.txt": (0, 5),
    "npu_smi/25.2.0/info-2xA3.txt": (0, 1, 2, 3),
    "npu_smi/25.7.rc1/info-2x950.txt": (0, 4),
    "npu_smi/24.1.0.1/info-2x310P-duo.txt": (0, 1, 2, 3),
}
HEALTHY = "npu_smi/25.0.rc1/info-4x910B3-idle.txt"

Mutation = Callable[[bytes], bytes]
_share = st.floats(0, 1, exclude_max=True)


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Mutation:
    return lambda data: b"\n".join(change(data.split(b"\n")))


def _delete_line(at: float) -> Mutation:
    return _lines(lambda lines: lines[: int(at * len(lines))] + lines[int(at * len(lines)) + 1 :])


def _repeat_line(at: float) -> Mutation:
    return _lines(lambda lines: lines[: int(at * len(lines)) + 1] + lines[int(at * len(lines)) :])


def _swap_lines(pair: tuple[float, float]) -> Mutation:
    def change(lines: list[bytes]) -> list[bytes]:
        one, two = (int(share * len(lines)) for share in pair)
        lines[one], lines[two] = lines[two], lines[one]
        return lines

    return _lines(change)


def _interleave(parts: tuple[int, int]) -> Mutation:
    """Two processes that write the same table into one file, some lines at a time."""

    def change(lines: list[bytes]) -> list[bytes]:
        chunk, delay = parts
        mixed: list[bytes] = []
        for start in range(0, len(lines) + delay, chunk):
            mixed += lines[start : start + chunk]
            late = start - delay
            mixed += lines[max(0, late) : max(0, late + chunk)]
        return mixed

    return _lines(change)


def _cut_out(span: tuple[float, int]) -> Mutation:
    return lambda data: data[: int(span[0] * len(data))] + data[int(span[0] * len(data)) + span[1] :]


def _put_in(what: tuple[float, bytes]) -> Mutation:
    return lambda data: data[: int(what[0] * len(data))] + what[1] + data[int(what[0] * len(data)) :]


def _overwrite(what: tuple[float, bytes]) -> Mutation:
    at, new = what
    return lambda data: data[: int(at * len(data))] + new + data[int(at * len(data)) + len(new) :]


def _truncate(at: float) -> Mutation:
    return lambda data: data[: int(at * len(data))]


def _cells(change: Callable[[list[bytes]], list[bytes]], at: float | None) -> Mutation:
    """Change the order of the cells in one line, or in all lines alike."""

    def changed(line: bytes) -> bytes:
        before, *cells, after = line.split(b"|") if line.count(b"|") > 1 else [line, b""]
        return b"|".join([before, *change(cells), after]) if cells else line

    def change_lines(lines: list[bytes]) -> list[bytes]:
        chosen = range(len(lines)) if at is None else [int(at * len(lines))]
        return [changed(line) if number in chosen else line for number, line in enumerate(lines)]

    return _lines(change_lines)


def _swap_ends(what: tuple[float, float, int]) -> Mutation:
    """Two processes that write into one terminal: each line ends as the other one."""

    def change(lines: list[bytes]) -> list[bytes]:
        one, two = (int(share * len(lines)) for share in what[:2])
        cut = what[2]
        lines[one], lines[two] = lines[one][:cut] + lines[two][cut:], lines[two][:cut] + lines[one][cut:]
        return lines

    return _lines(change)


def _replace(pair: tuple[bytes, bytes]) -> Mutation:
    return lambda data: data.replace(*pair)


def _colour(data: bytes) -> bytes:
    return re.sub(rb"\| (OK|Alarm|Warning|Critical|UNKNOWN) ", b"| \x1b[31m\\1\x1b[0m ", data)


noise = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.sampled_from([b"|", b"\n", b"\r\n", b" ", b"0", b"+==+", b"\xff\xfe", b"9" * 5000]),
)
mutations = st.one_of(
    _share.map(_delete_line),
    _share.map(_repeat_line),
    st.tuples(_share, _share).map(_swap_lines),
    st.tuples(st.integers(1, 7), st.integers(1, 12)).map(_interleave),
    st.tuples(_share, st.integers(1, 400)).map(_cut_out),
    st.tuples(_share, noise).map(_put_in),
    st.tuples(_share, noise).map(_overwrite),
    _share.map(_truncate),
    st.tuples(_share, _share, st.integers(0, 110)).map(_swap_ends),
    st.one_of(st.none(), _share).map(lambda at: _cells(lambda cells: cells[::-1], at)),
    st.one_of(st.none(), _share).map(lambda at: _cells(lambda cells: cells[1:] + cells[:1], at)),
    st.sampled_from([(b"\n", b"\r\n"), (b"    ", b"\t"), (b"\n", b"\r"), (b"|", b" ")]).map(_replace),
    st.just(_colour),
)


def judged_sick(text: str, ids: tuple[int, ...]) -> bool:
    """Judge a host whose table this is, and whose nodes are all there, when its chips are all needed."""
    ok = VersionFile("/x", "ok")
    nodes = tuple(Node(phy_id, True, 0) for phy_id in ids)
    run = ToolRun(("npu-smi", "info"), 0, text)
    seen = Survey(run, parse_info(text), (), {}, nodes, {}, Holders(), {}, Versions(ok, ok, ok, ok))
    findings, _ = assess(seen, known_chips(seen), Wanted(frozenset(ids)))
    return has_errors(findings)


def test_without_damage_the_judgement_is_right() -> None:
    assert not judged_sick(fixture(HEALTHY), (0, 1, 2, 3)), "else the property below would hold of anything"
    assert all(judged_sick(fixture(name), ids) for name, ids in SICK.items())


@pytest.mark.parametrize("name", SICK)
@settings(max_examples=250, deadline=None)
@given(changes=st.lists(mutations, min_size=1, max_size=4))
def test_no_damage_makes_a_sick_chip_healthy(name: str, changes: list[Mutation]) -> None:
    data = fixture(name).encode()
    for change in changes:
        data = change(data)
    assert judged_sick(data.decode("utf-8", errors="replace"), SICK[name])


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(), st.binary().map(lambda data: data.decode("utf-8", errors="replace"))))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    parse_info(text)
    parse_mapping(text)
    parse_key_values(text)
    parse_health(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.text(alphabet="0123456789 -/NAOK.:|+=abc\t", max_size=18), max_size=7), max_size=12))
def test_any_table_is_read_without_an_exception(rows: list[list[str]]) -> None:
    table = parse_info("\n".join("|" + "|".join(row) + "|" for row in rows))
    assert all(chip.health in (None, "OK") for chip in table.chips)
