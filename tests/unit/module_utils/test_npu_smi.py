# SPDX-License-Identifier: GPL-3.0-or-later
"""npu-smi's table, mapping and health in every layout there is."""

from __future__ import annotations

import pytest
from ansible.module_utils.ascend_fleet.npu_smi import Chip, Process, Table, parse_info
from ansible.module_utils.ascend_fleet.npu_smi_lists import Mapped, parse_health, parse_mapping

from tests.unit.fake_server import fixture

A2 = fixture("npu_smi/25.0.rc1/info-4x910B3.txt")


def kinds(table: Table) -> list[str]:
    return [problem.kind for problem in table.problems]


def replace_line(text: str, number: int, line: str | None) -> str:
    lines = text.splitlines()
    lines[number - 1 : number] = [] if line is None else [line]
    return "\n".join(lines)


def test_a2_with_processes() -> None:
    table = parse_info(A2)
    assert (table.tool_version, table.driver_version) == ("25.0.rc1", "25.0.rc1")
    assert table.problems == ()
    assert [chip.health for chip in table.chips] == ["OK", "OK", "OK", "Alarm"]
    assert table.chips[1] == Chip(
        npu_id=1,
        chip_id=0,
        name="910B3",
        health="OK",
        power_w=231.0,
        temperature_c=55,
        bus_id="0000:C2:00.0",
        aicore_percent=87,
        memory_used_mb=0,
        memory_total_mb=0,
        hbm_used_mb=58211,
        hbm_total_mb=65536,
    )
    assert table.processes == (Process(1, 0, 40213, "python3", 54890), Process(1, 0, 40377, "", 112))
    assert table.idle_npus == (0, 2, 3)


def test_first_generation_without_process_table_and_with_a_driver_of_another_version() -> None:
    table = parse_info(fixture("npu_smi/23.0.rc2/info-2x910A.txt"))
    assert (table.tool_version, table.driver_version) == ("23.0.rc3", "23.0.rc2.1")
    assert [(chip.npu_id, chip.health) for chip in table.chips] == [(0, "OK"), (5, "Warning")]
    last = table.chips[1]
    assert (last.memory_used_mb, last.memory_total_mb, last.hbm_used_mb, last.hbm_total_mb) == (
        2017,
        15077,
        30711,
        32768,
    )
    assert table.problems == ()


def test_a3_has_two_chips_a_card_and_no_power_on_the_second() -> None:
    table = parse_info(fixture("npu_smi/25.2.0/info-2xA3.txt"))
    assert [(chip.npu_id, chip.chip_id, chip.phy_id) for chip in table.chips] == [
        (0, 0, 0),
        (0, 1, 1),
        (1, 0, 2),
        (1, 1, 3),
    ]
    assert [chip.power_w for chip in table.chips] == [171.2, None, 168.8, None]
    assert [chip.health for chip in table.chips] == ["OK", "Critical", "OK", "OK"]
    assert table.has_phy_id
    assert table.processes == (Process(1, 1, 81234, "torchrun", 17001),)
    assert table.problems == ()


def test_the_950_has_a_column_for_the_name_and_no_chip() -> None:
    table = parse_info(fixture("npu_smi/25.7.rc1/info-2x950.txt"))
    assert [(chip.npu_id, chip.chip_id, chip.name, chip.health) for chip in table.chips] == [
        (0, 0, "Ascend950PR", "OK"),
        (4, 0, "Ascend950PR", "UNKNOWN"),
    ]
    assert (table.chips[1].hbm_used_mb, table.chips[1].hbm_total_mb) == (70211, 131072)
    assert table.processes == (Process(4, None, 733012, "", 64812),)
    assert table.problems == ()


def test_310p_has_no_hbm_and_ids_of_its_own() -> None:
    table = parse_info(fixture("npu_smi/24.1.0.1/info-2x310P-duo.txt"))
    assert [(chip.npu_id, chip.chip_id, chip.device) for chip in table.chips] == [
        (32, 0, 0),
        (32, 1, 1),
        (32768, 0, 2),
        (32768, 1, 3),
    ]
    assert [chip.bus_id for chip in table.chips] == ["0000:05:00.0", "0000:05:00.0", None, None]
    assert (table.chips[1].memory_used_mb, table.chips[1].memory_total_mb, table.chips[1].hbm_total_mb) == (
        15871,
        43693,
        None,
    )
    assert table.processes == (Process(32, 1, 5151, "a|b worker", 14480),)
    assert table.problems == ()


def test_310_without_a_hugepages_column() -> None:
    table = parse_info(fixture("npu_smi/21.0.3.1/info-1x310.txt"))
    assert [(chip.npu_id, chip.chip_id, chip.device, chip.power_w, chip.temperature_c) for chip in table.chips] == [
        (8, 0, 4, 12.8, 51),
        (8, 1, 5, 12.8, 52),
    ]
    assert table.problems == ()


@pytest.mark.parametrize("before", ["> ", "    ", "line 1 ==> ", "out = '''", "\t"])
@pytest.mark.parametrize("after", ["", "   ", "\r"])
def test_pasted_tables(before: str, after: str) -> None:
    pasted = "\n".join(f"{before}{line}{after}" for line in A2.splitlines())
    assert parse_info(pasted).chips == parse_info(A2).chips
    assert parse_info(pasted).problems == ()


@pytest.mark.parametrize("name", ["xxx", "Ascend 910B3", "推理卡", "a-name-that-is-longer-than-its-column", "910C", ""])
def test_any_name(name: str) -> None:
    table = parse_info(A2.replace("910B3               ", name))
    assert [chip.name for chip in table.chips] == [name] * 4
    assert table.problems == ()


@pytest.mark.parametrize(
    "header",
    [
        "| NPU     Chip | Process id | Process name | Process memory(MB) | Process id in container |",
        "| NPU     Chip | 进程号 | 进程名 | 进程内存(MB) | 容器内进程号 |",
    ],
)
def test_the_column_of_soft_sharing(header: str) -> None:
    text = f"{header}\n+===+===+===+===+===+\n| 2       0    | 9191       | python3      | 2048               | 77                      |\n"
    assert parse_info(text).processes == (Process(2, 0, 9191, "python3", 2048, 77),)


def test_a_process_table_without_its_header() -> None:
    rows = [line for line in A2.splitlines() if "Process id" not in line]
    assert parse_info("\n".join(rows)).processes == parse_info(A2).processes


def test_a_second_row_without_its_first_is_a_chip_of_unknown_health() -> None:
    """The tool leaves the first row out when the driver's health state is out of range."""
    table = parse_info(replace_line(A2, 7, None))
    assert kinds(table) == ["orphan"]
    assert (table.chips[0].npu_id, table.chips[0].health, table.chips[0].bus_id) == (None, None, "0000:C1:00.0")
    assert [chip.npu_id for chip in table.chips] == [None, 1, 2, 3]


def test_a_first_row_without_its_second() -> None:
    table = parse_info(replace_line(A2, 8, None))
    assert kinds(table) == ["incomplete"]
    assert (table.chips[0].npu_id, table.chips[0].health, table.chips[0].bus_id) == (0, "OK", None)


def test_rows_of_two_chips_are_never_joined_across_a_rule() -> None:
    text = replace_line(replace_line(A2, 10, None), 8, None)  # NPU 0 loses its second row, NPU 1 its first
    table = parse_info(text)
    assert sorted(kinds(table)) == ["incomplete", "orphan"]
    assert [(chip.npu_id, chip.bus_id) for chip in table.chips][:2] == [(0, None), (None, "0000:C2:00.0")]


@pytest.mark.parametrize("state", ["Alrm", "ok", "OK OK", "", "NA", "?"])
def test_a_health_that_is_no_health_is_none(state: str) -> None:
    table = parse_info(A2.replace("| Alarm        ", f"| {state:<13}"))
    assert table.chips[3].health is None
    assert "health" in kinds(table)


def test_a_line_that_was_cut_off() -> None:
    cut = A2[: A2.index("3389 / 65536") + 9]
    table = parse_info(cut)
    assert kinds(table) == ["damaged"]
    assert table.chips[3].health == "Alarm"


def test_a_chip_that_stands_there_twice() -> None:
    assert kinds(parse_info(A2.replace("| 2     910B3", "| 1     910B3"))) == ["duplicate"]


@pytest.mark.parametrize("number", [2, 5])
def test_two_outputs_that_ran_into_each_other(number: int) -> None:
    """A table that was cut off behind its title, and another one: nothing but the second title tells."""
    assert kinds(parse_info("\n".join(A2.splitlines()[:number]) + "\n" + A2)) == ["repeated"] * (1 + (number == 5))


def test_colours_are_not_read() -> None:
    coloured = A2.replace("Alarm", "\x1b[1;31mAlarm\x1b[0m").replace("| OK ", "| \x1b[32mOK\x1b[m ")
    assert parse_info(coloured) == parse_info(A2)


def test_half_a_card() -> None:
    lines = fixture("npu_smi/25.2.0/info-2xA3.txt").splitlines()
    del lines[7:10]  # second row of die 0, the rule, first row of die 1: what is left looks like one whole chip
    table = parse_info("\n".join(lines))
    assert kinds(table) == ["gap"]


def test_text_outside_the_table_is_kept() -> None:
    table = parse_info("dmesg noise\n" + A2 + "[WARNING]The driver package may not be completely installed.\n")
    assert table.notes == ("dmesg noise", "[WARNING]The driver package may not be completely installed.")
    assert table.problems == ()


@pytest.mark.parametrize("text", ["", "\n\n", "There is no NPU card on this server.", "+---+\n| x |"])
def test_nothing(text: str) -> None:
    assert parse_info(text).chips == ()


def test_mapping_leaves_out_the_controllers() -> None:
    rows = parse_mapping(fixture("npu_smi/25.0.rc1/map-4x910B3.txt"))
    assert rows == tuple(Mapped(number, 0, number, None, "Ascend 910B3") for number in range(4))
    last = parse_mapping(fixture("npu_smi/25.2.0/map-2xA3.txt"))[-1]
    assert last == Mapped(1, 1, 3, 3, "Ascend910")


def test_health_of_one_chip() -> None:
    good = parse_health(fixture("npu_smi/25.0.rc1/health-ok.txt"))
    assert good is not None
    assert (good.status, good.error_codes, good.information) == ("OK", (), ())
    bad = parse_health(fixture("npu_smi/25.0.rc1/health-alarm.txt"))
    assert bad is not None
    assert bad.status == "Alarm"
    assert bad.error_codes == ("80E01801", "80CD8008")
    assert len(bad.information) == 2
    assert bad.information[1].startswith("node type=AICore")
    assert parse_health("Error parameter of -c\n") is None
