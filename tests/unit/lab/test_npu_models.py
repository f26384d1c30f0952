# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with other kinds of NPU: what the lab's tools print about them is read back by the project's own parsers."""

from __future__ import annotations

import re
import sys

import pytest
from ansible.module_utils.ascend_fleet.hccn import parse_port
from ansible.module_utils.ascend_fleet.npu_chips import generation_of
from ansible.module_utils.ascend_fleet.npu_smi import parse_info
from ansible.module_utils.ascend_fleet.npu_smi_lists import parse_health, parse_key_values, parse_mapping

from tests.unit.fake_server import fixture
from tests.unit.lab.conftest import MANAGERS, TOOLS, Server

sys.path.insert(0, str(TOOLS / "driver" / "lib64"))
from lab_driver.models import MODELS

GENERATIONS = {
    name: "A3" if name.startswith("910_") else "A2" if re.match(r"910B\d", name) else "910" for name in MODELS
}


@pytest.mark.parametrize("name", MODELS)
def test_the_table_of_every_model(server: Server, name: str) -> None:
    server.faults(chip=name)
    text, status = server.run("npu-smi", "info")
    table = parse_info(text)
    assert status == 0
    assert table.problems == ()
    assert {len(line) for line in text.splitlines()} == {98}
    assert [chip.hbm_total_mb for chip in table.chips] == [
        32768 if name in ("910B4",) or GENERATIONS[name] == "910" else 65536
    ] * 4
    assert {generation_of(chip.name, table) for chip in table.chips} == {GENERATIONS[name]}
    assert all(chip.health == "OK" for chip in table.chips)
    ddr = (2382, 15038) if GENERATIONS[name] == "910" else (0, 0)
    assert {(chip.memory_used_mb, chip.memory_total_mb) for chip in table.chips} == {ddr}


@pytest.mark.parametrize("name", MODELS)
def test_the_mapping_of_every_model(server: Server, name: str) -> None:
    server.faults(chip=name)
    rows = parse_mapping(server.run("npu-smi", "info", "-m")[0])
    assert [row.logic_id for row in rows] == [0, 1, 2, 3]
    places = [(row.npu_id, row.chip_id, row.phy_id) for row in rows]
    two_dies = [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]
    assert places == (two_dies if GENERATIONS[name] == "A3" else [(number, 0, None) for number in range(4)])


def test_a_dual_die_table_is_framed_as_the_real_one(server: Server) -> None:
    server.faults(chip="910_9392", versions={"tool": "25.2.0", "driver": "25.2.0"}, npus={"1": {"health": "Critical"}})
    server.process(4711, holds=("/dev/davinci3",), name="torchrun", memory_kb=1024)
    ours, real = (
        [re.sub(r"\d+\.\d|\d+/|\d+", "#", re.sub(r"(?<=\d) +(?=[/|])", "", line)) for line in text.splitlines()]
        for text in (server.run("npu-smi", "info")[0], fixture("npu_smi/25.2.0/info-2xA3.txt"))
    )
    assert [line.split("|")[:2] for line in ours] == [line.split("|")[:2] for line in real]
    chips = parse_info(server.run("npu-smi", "info")[0]).chips
    assert [(chip.npu_id, chip.chip_id, chip.phy_id, chip.power_w is None) for chip in chips] == [
        (0, 0, 0, False),
        (0, 1, 1, True),
        (1, 0, 2, False),
        (1, 1, 3, True),
    ]


def test_a_die_is_asked_by_card_and_chip(server: Server) -> None:
    server.faults(chip="910_9392", npus={"3": {"health": "Alarm", "error_code": "80E01801"}})
    answers = [
        parse_health(server.run("npu-smi", "info", "-t", "health", "-i", "1", "-c", chip)[0]) for chip in ("0", "1")
    ]
    assert [answer.status for answer in answers if answer] == ["OK", "Alarm"]
    assert server.run("npu-smi", "info", "-t", "health", "-i", "1", "-c", "2")[0] == "Invalid chip id.\n"
    assert server.run("npu-smi", "info", "-t", "health", "-i", "2")[0] == "Invalid card id.\n"
    both = server.run("npu-smi", "info", "-t", "ecc", "-i", "1")[0]
    assert [line.split(":")[1].strip() for line in both.splitlines() if "Chip ID" in line] == ["0", "1"]
    assert "Chip Count                               : 2" in both
    board = parse_key_values(server.run("npu-smi", "info", "-t", "board", "-i", "1", "-c", "1")[0])
    assert (board["Chip Name"], board["NPU Name"]) == (["Ascend910"], ["9392"])
    assert "Total Count                    : 2" in server.run("npu-smi", "info", "-l")[0]


def test_a_dropped_die_leaves_its_twin(server: Server) -> None:
    server.faults(chip="910_9392", npus={"0": {"dropped": True}})
    table = parse_info(server.run("npu-smi", "info")[0])
    assert [(chip.npu_id, chip.chip_id) for chip in table.chips] == [(0, 1), (1, 0), (1, 1)]
    assert [problem.kind for problem in table.problems] == ["gap"]


def test_a_container_with_one_die(server: Server) -> None:
    server.faults(chip="910_9392")
    server.process(50, namespace="mnt:[7]", sees=(*MANAGERS, "davinci3"))
    [chip] = parse_info(server.run("npu-smi", "info", caller=50)[0]).chips
    assert (chip.npu_id, chip.chip_id, chip.phy_id) == (1, 1, 3)
    assert [row.logic_id for row in parse_mapping(server.run("npu-smi", "info", "-m", caller=50)[0])] == [0]


def test_an_unknown_model_is_an_error_to_see(server: Server) -> None:
    server.faults(chip="910X")
    with pytest.raises(AssertionError, match="910X"):
        server.run("npu-smi", "info")


def test_the_port_of_a_die(server: Server) -> None:
    server.faults(chip="910_9391", npus={"1": {"mtu": 4200, "optical": {"Rx Power0": "0.0010 mW"}}})
    texts = {topic: server.run("hccn_tool", "-i", "1", f"-{topic}", "-g")[0] for topic in ("link", "mtu", "optical")}
    port = parse_port(1, texts)
    assert (port.link, port.mtu, dict(port.optical)["Rx Power0"]) == ("UP", 4200, "0.0010 mW")
    server.faults(npus={"1": {"optical": {"present": "not present"}}})
    assert (
        server.run("hccn_tool", "-i", "1", "-optical", "-g")[0] == "optical info:\npresent              : not present\n"
    )
