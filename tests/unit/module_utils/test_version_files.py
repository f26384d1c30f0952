# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions as Ascend writes them, and the files they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.version_files import (
    older,
    parse_ranges,
    parse_version_file,
    read_versions,
    version_key,
    within,
)

from tests.unit.fake_server import FakeServer

ASCENDING = [
    "22.0.3.1",
    "23.0.rc2",
    "23.0.rc2.3",
    "23.0.rc3",
    "23.0.0",
    "23.0.7",
    "24.1.RC2",
    "24.1.rc3",
    "24.1.0",
    "24.1.0.1",
    "25.0.rc1",
    "25.0.RC1.1",
]


@pytest.mark.parametrize("index", range(len(ASCENDING) - 1))
def test_the_order_of_versions(index: int) -> None:
    assert older(ASCENDING[index], ASCENDING[index + 1]) is True
    assert older(ASCENDING[index + 1], ASCENDING[index]) is False


@pytest.mark.parametrize(
    ("one", "other"), [("25.0.rc1", "25.0.RC1"), ("24.1", "24.1.0"), ("24.1.rc1.b030", "24.1.rc1")]
)
def test_equal_versions(one: str, other: str) -> None:
    assert older(one, other) is False
    assert older(other, one) is False


@pytest.mark.parametrize("text", ["", "xxx", "V100R001C15", "25.x.1"])
def test_what_cannot_be_compared(text: str) -> None:
    assert version_key(text) is None
    assert older(text, "25.0.0") is None
    assert within(text, "1.0", "2.0") is None


@pytest.mark.parametrize(
    ("version", "low", "high", "inside"),
    [
        ("7.7.0.1.231", "7.0.0", "7.7.99", True),
        ("7.8.0", "7.0.0", "7.7.99", False),
        ("6.4.12.1.241", "7.0.0", "7.7.99", False),
        ("23.0.rc3.4", "23.0.rc3", "23.0.rc3.", True),
        ("23.0.rc4", "23.0.rc3", "23.0.rc3.", False),
    ],
)
def test_ranges(version: str, low: str, high: str, inside: bool) -> None:
    assert within(version, low, high) is inside


def test_reading_ranges_and_files() -> None:
    values = parse_version_file("# x\nVersion=25.0.rc1\n\ncompatible_version_fw=[7.0.0,7.7.99],[8.1.0]\nodd line\n")
    assert values["Version"] == "25.0.rc1"
    assert parse_ranges(values["compatible_version_fw"]) == [("7.0.0", "7.7.99"), ("8.1.0", "8.1.0")]
    assert parse_ranges("") == []


def test_the_driver_is_looked_for_where_it_says_it_is(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    server.put("/etc/ascend_install.info", "Driver_Install_Path_Param=/opt/npu\nFirmware_Install_Path_Param=/opt/fw\n")
    server.put("/opt/npu/driver/version.info", "Version=24.1.0\n")
    server.put("/opt/fw/firmware/version.info", "Version=7.5.0.2.220\n")
    server.put("/opt/npu/ascend-toolkit/latest/aarch64-linux/ascend_toolkit_install.info", "version=8.1.RC1\n")
    found = read_versions(server)
    assert (found.driver.version, found.firmware.version, found.cann.version) == ("24.1.0", "7.5.0.2.220", "8.1.RC1")
    assert found.driver.path == "/opt/npu/driver/version.info"


def test_absent_files_and_a_directory_in_place_of_one(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    (tmp_path / "etc/ascend_install.info").mkdir(parents=True)
    found = read_versions(server)
    assert (found.install.state, found.driver.state, found.cann.state) == ("directory", "absent", "absent")
    assert found.driver.path == "/usr/local/Ascend/driver/version.info"
    assert found.driver.version is None
