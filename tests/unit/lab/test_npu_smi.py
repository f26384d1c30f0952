# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's npu-smi, run as a program: what it says follows from nodes, processes and namespaces."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.lab.conftest import ALL_CAPABILITIES, MANAGERS, TOOLS, Server

A, B = "mnt:[4026532001]", "mnt:[4026532002]"
PLACES = (*MANAGERS, "davinci2", "davinci3")


def table_rows(text: str) -> list[list[str]]:
    """The cells of every table row, without the frame."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def npus(text: str) -> list[str]:
    """`id name` of every NPU in the overview."""
    return [" ".join(row[0].split()) for row in table_rows(text) if len(row) == 3 and row[1] in HEALTHS]


HEALTHS = ("OK", "Warning", "Alarm", "Critical", "UNKNOWN")


def test_the_overview_has_the_real_frame_and_every_npu(server: Server) -> None:
    text, status = server.run("npu-smi", "info")
    assert status == 0
    assert {len(line) for line in text.splitlines()} == {98}
    assert npus(text) == ["0 910B3", "1 910B3", "2 910B3", "3 910B3"]
    assert "| npu-smi 25.0.rc1                 Version: 25.0.rc1 " in text
    assert text.count("No running processes found in NPU") == 4
    assert "3314 / 65536" in text


def test_a_process_that_holds_a_node_shows_with_pid_name_and_memory(server: Server) -> None:
    server.process(4711, holds=("/dev/null", "/dev/davinci2"), name="trainer", memory_kb=2048 * 1024)
    text, _ = server.run("npu-smi", "info")
    assert ["2       0", "4711", "trainer", "2048"] in table_rows(text)
    assert "No running processes found in NPU 2" not in text
    assert f"{3314 + 2 + 2048:<5}/ 65536" in text  # the chip's own use, its number, the process


def test_a_node_deleted_under_its_holder_is_still_held(server: Server) -> None:
    server.process(4711, holds=("/dev/davinci1 (deleted)",))
    text, _ = server.run("npu-smi", "info")
    assert any(row[1] == "4711" for row in table_rows(text) if len(row) == 4)


@pytest.mark.parametrize("path", ["/dev/davinci_manager", "/tmp/dev/davinci1", "/dev/davinci1x", "pipe:[7]"])
def test_other_open_files_hold_nothing(server: Server, path: str) -> None:
    server.process(4711, holds=(path,))
    assert server.run("npu-smi", "info")[0].count("No running processes") == 4


def test_a_container_sees_its_own_nodes_with_dense_logical_ids(server: Server) -> None:
    server.process(50, namespace=A, sees=PLACES)
    text, status = server.run("npu-smi", "info", caller=50)
    assert status == 0
    assert npus(text) == ["2 910B3", "3 910B3"]
    mapping, _ = server.run("npu-smi", "info", "-m", caller=50)
    cells = [line.split() for line in mapping.splitlines()[1:]]
    assert cells == [
        ["2", "0", "0", "Ascend", "910B3"],
        ["2", "1", "-", "Mcu"],
        ["3", "0", "1", "Ascend", "910B3"],
        ["3", "1", "-", "Mcu"],
    ]


def test_the_host_keeps_physical_ids_as_logical_ids(server: Server) -> None:
    server.faults(npus={"1": {"dropped": True}})
    mapping, _ = server.run("npu-smi", "info", "-m")
    chips = [line.split() for line in mapping.splitlines() if "Ascend" in line]
    assert [(row[0], row[2]) for row in chips] == [("0", "0"), ("2", "2"), ("3", "3")]


def test_a_node_held_in_another_container_refuses_the_whole_tool(server: Server) -> None:
    server.process(50, namespace=A, sees=PLACES)
    server.process(60, namespace=B, sees=PLACES, holds=("/dev/davinci3",))
    text, status = server.run("npu-smi", "info", caller=50)
    assert text.splitlines()[-1] == "dcmi model initialized failed, because the device is used. ret is -8020"
    assert status == -8020 & 0xFF


@pytest.mark.parametrize(
    "holder",
    [
        {"namespace": A, "holds": ("/dev/davinci2",)},  # its own container
        {"holds": ("/dev/davinci2",)},  # the host, which takes nothing away
        {"namespace": B, "sees": (*MANAGERS, "davinci0"), "holds": ("/dev/davinci0",)},  # an NPU it does not have
    ],
)
def test_these_holders_do_not_refuse_a_container(server: Server, holder: dict[str, object]) -> None:
    server.process(50, namespace=A, sees=PLACES)
    server.process(60, **holder)  # type: ignore[arg-type]
    assert server.run("npu-smi", "info", caller=50)[1] == 0


def test_the_host_and_a_privileged_container_are_never_refused(server: Server) -> None:
    server.process(50, namespace=A, sees=PLACES, capabilities=ALL_CAPABILITIES)
    server.process(60, namespace=B, sees=PLACES, holds=("/dev/davinci3",))
    for caller in (1, 50):
        text, status = server.run("npu-smi", "info", caller=caller)
        assert status == 0
        assert len(npus(text)) == 4


@pytest.mark.parametrize("sees", [(), ("davinci2",), MANAGERS])
def test_without_nodes_or_managers_there_is_no_device(server: Server, sees: tuple[str, ...]) -> None:
    server.process(50, namespace=A, sees=sees)
    text, status = server.run("npu-smi", "info", caller=50)
    assert text.endswith("dcmi module initialize failed. ret is -8005\n")
    assert status == -8005 & 0xFF


def test_faults_of_the_state_file_show(server: Server) -> None:
    fault = {"health": "Alarm", "error_code": "80E18005", "error_information": "device fault", "hbm_total": 32768}
    server.faults(npus={"2": fault}, versions={"tool": "24.1.0"})
    text, _ = server.run("npu-smi", "info")
    assert [row[1] for row in table_rows(text) if row[0].endswith("910B3")] == ["OK", "OK", "Alarm", "OK"]
    assert "npu-smi 24.1.0 " in text
    assert "/ 32768" in text
    health, _ = server.run("npu-smi", "info", "-t", "health", "-i", "2", "-c", "0")
    values = [line.split(":")[1].strip() for line in health.splitlines()]
    assert values == ["Alarm", "80E18005", "device fault"]


def test_a_dropped_card_is_absent(server: Server) -> None:
    server.faults(npus={"0": {"dropped": True}})
    assert npus(server.run("npu-smi", "info")[0]) == ["1 910B3", "2 910B3", "3 910B3"]
    assert "Total Count                    : 3" in server.run("npu-smi", "info", "-l")[0]


def test_a_tool_that_is_to_hang_hangs(server: Server) -> None:
    server.faults(tools={"npu-smi": {"hang": True}})
    with pytest.raises(subprocess.TimeoutExpired):
        server.run("npu-smi", "info", timeout=1)
    assert server.run("hccn_tool", "-i", "0", "-link", "-g") == ("link status: UP\n", 0)


def test_an_incomplete_installation_warns_on_the_host_only(server: Server) -> None:
    server.write("etc/ascend_install.info", "UserName=HwHiAiUser\n")
    server.process(50, namespace=A, sees=PLACES)
    assert server.run("npu-smi", "info")[0].splitlines()[-1].startswith("[WARNING]The driver package may not be")
    assert "[WARNING]" not in server.run("npu-smi", "info", caller=50)[0]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("board", "Software Version", "25.0.rc1"),
        ("board", "Firmware Version", "7.7.0.1.231"),
        ("health", "Health Status", "OK"),
        ("memory", "HBM Capacity(MB)", "65536"),
        ("ecc", "HBM Double Bit Error Count", "0"),
        ("usages", "HBM Usage Rate(%)", "5"),
    ],
)
def test_details_are_named_values(server: Server, kind: str, name: str, value: str) -> None:
    text, status = server.run("npu-smi", "info", "-t", kind, "-i", "1")
    rows = dict(line.strip().split(" : ") for line in text.splitlines() if line)
    assert status == 0
    assert {key.strip(): found for key, found in rows.items()}[name] == value
    assert all(line.startswith("\t") for line in text.splitlines() if line)


def test_a_board_asked_for_its_chip_names_the_chip(server: Server) -> None:
    text, _ = server.run("npu-smi", "info", "-t", "board", "-i", "3", "-c", "0")
    assert "\tChip Type                      : Ascend\n\tChip Name                      : 910B3\n" in text


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("info", "-t", "health", "-i", "9"), "Invalid card id."),
        (("info", "-t", "health", "-i", "0", "-c", "1"), "Invalid chip id."),
        (("info", "-t", "health"), "Command or option is not found."),
        (("info", "-t", "weather", "-i", "0"), "Command or option is not found."),
        (("set",), "Command or option is not found."),
    ],
)
def test_wrong_questions_fail_on_standard_output(server: Server, arguments: tuple[str, ...], first: str) -> None:
    text, status = server.run("npu-smi", *arguments)
    assert text.splitlines()[0] == first
    assert status != 0


def test_without_the_drivers_libraries_the_loader_complains(tmp_path: Path) -> None:
    argv = [sys.executable, str(TOOLS / "sbin" / "npu-smi"), "info"]
    done = subprocess.run(
        argv, env={"ASCEND_LAB_LIBRARIES": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 127
    assert "libdrvdsmi_host.so: cannot open shared object file" in done.stderr


def test_without_a_running_driver_there_is_no_device(tmp_path: Path) -> None:
    libraries = tmp_path / "lib64"
    libraries.mkdir()
    (libraries / "lab_driver").symlink_to(TOOLS / "driver" / "lib64" / "lab_driver")
    argv = [sys.executable, str(TOOLS / "sbin" / "npu-smi"), "-v"]
    environment = {"ASCEND_LAB_LIBRARIES": str(libraries)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -8005 & 0xFF
    assert "ret is -8005" in done.stdout
