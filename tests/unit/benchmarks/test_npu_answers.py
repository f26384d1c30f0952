# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's hosts: their tools answer every question of the check, and the faults are where they should be."""

from __future__ import annotations

from ansible.module_utils.ascend_fleet.hccn import TOPICS as ASKED
from ansible.module_utils.ascend_fleet.npu_smi import parse_info

from benchmarks._light_hosts import address
from benchmarks._npu_answers import NPUS, TOPICS, command_lines, files_of_every_host, files_of_host
from benchmarks.drivers import FAULTS, usual_play

ANSWERS = "usr/local/Ascend/answers"


def test_every_question_of_the_check_has_an_answer() -> None:
    files = files_of_every_host().files
    assert set(ASKED) < set(TOPICS)
    for tool, *arguments in command_lines():
        text = files[f"{ANSWERS}/{tool}/{'_'.join(arguments)}"][0]
        assert text.strip()
        assert "failed" not in text
        assert "not found" not in text
    table = parse_info(files[f"{ANSWERS}/npu-smi/info"][0])
    assert [chip.health for chip in table.chips] == ["OK"] * NPUS
    assert table.problems == ()


def test_a_fault_changes_what_the_host_says() -> None:
    shared = files_of_every_host().files
    for number, (faults, _) in FAULTS.items():
        own = files_of_host(number, faults).files
        assert any(own[path] != shared[path] for path in own if path in shared and not path.endswith("_-ip_-g"))
    assert "10.0.17.1" in files_of_host(17, {}).files[f"{ANSWERS}/hccn_tool/-i_0_-ip_-g"][0]


def test_addresses_are_unique_in_a_large_fleet() -> None:
    assert len({address(number) for number in range(1, 1001)}) == 1000


def test_the_usual_way_asks_the_same_questions() -> None:
    [play] = usual_play()
    asked = set()
    for task in play["tasks"]:
        argv = task.get("ansible.builtin.command", {}).get("argv", [])
        asked |= {tuple(str(item) if word == "{{ item }}" else word for word in argv) for item in task.get("loop", [0])}
    assert set(command_lines()) <= asked
