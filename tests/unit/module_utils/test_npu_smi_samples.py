# SPDX-License-Identifier: GPL-3.0-or-later
"""Public captures of real servers, where they are at hand; they are not part of this repository."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from ansible.module_utils.ascend_fleet.hccn import parse_hccn_conf, parse_port
from ansible.module_utils.ascend_fleet.npu_smi import parse_info
from ansible.module_utils.ascend_fleet.npu_smi_errors import INCOMPLETE, recognise
from ansible.module_utils.ascend_fleet.npu_smi_lists import parse_mapping
from ansible.module_utils.ascend_fleet.version_files import parse_ranges, parse_version_file

from tests.conftest import ROOT

SHARED = Path(os.environ.get("ASCEND_FLEET_SHARED", ROOT.parent / "shared"))
SAMPLES = SHARED / "samples"

pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(),
    reason=f"the captures are not at {SAMPLES}; set ASCEND_FLEET_SHARED to the folder that holds samples/",
)

# name: (chips, process rows, health states that are not OK, HBM total in MB of the last chip)
TABLES = {
    "310-21.0.3.1-npustat.txt": (2, 0, [], None),
    "310-nohbm-faultdiag-na-busid.txt": (1, 0, [], None),
    "310B4-23.0.0-Alarm.txt": (1, 0, ["Alarm"], None),
    "310P-2card-nohbm-llama_adapter.txt": (2, 0, [], None),
    "310P3-duo-24.1.0.1-2card4chip-procs.txt": (4, 4, [], None),
    "910A-faultdiag-23.0.5-elided.txt": (2, 0, [], 32768),
    "910A-faultdiag-23.0.rc3-8card-procs.txt": (8, 8, [], 32768),
    "910A-faultdiag-24.1.rc1-elided.txt": (1, 0, [], 32768),
    "910B-old910-24.1.0-8card-idle-noproc.txt": (8, 0, [], 32768),
    "910B1-23.0.rc2-arthurchiao.txt": (3, 0, [], 65536),
    "910B1-23.0.rc3.3-gpustack-src-docstring-10.txt": (2, 2, [], 65536),
    "910B1-23.0.rc3.3-gpustack-src-docstring-11.txt": (0, 0, [], None),
    "910B2C-23.0.2.1-2card-proc.txt": (2, 1, [], 65536),
    "910B3-23.0.1-single-npu4-in-container-16.txt": (1, 0, [], 65536),
    "910B3-23.0.rc3.3-8card-busy-python.txt": (8, 8, [], 65536),
    "910B3-24.1.rc1.b030-8card-mswift.txt": (8, 0, [], 65536),
    "910B4-24.1.1-EXCERPT.txt": (2, 0, [], 32768),
    "910C-25.2.0-2npu4chip-proc.txt": (4, 1, [], 65536),
    "910C-25.2.1-Alarm-EXCERPT.txt": (1, 0, ["Alarm"], 65536),
    "950PR-25.7.rc1-7card-pipe-layout.txt": (7, 2, [], 131072),
    "A3-softshare-proc-in-container-col-en.txt": (2, 0, [], 65536),
    "atlas800-inference-3000-v1.0.0-1.0.10-12.txt": (4, 0, [], None),
    "atlas800-inference-3000-v1.0.11-1.0.15-13.txt": (4, 0, [], None),
    "atlas800-training-9010-v24.1.RC2-14.txt": (8, 32, ["Warning", "Warning"], 32768),
    "atlas800-training-9010-v6.0.RC1-15.txt": (8, 0, [], 32768),
    "t-ecc-board-usages-health-common-faultdiag-doc.txt": (2, 0, [], 32768),
    "yuanrong-npuSmiInfo310P3.txt": (8, 0, [], None),
    "yuanrong-npuSmiInfo910B.txt": (8, 4, [], 32768),
}
MAPPINGS = {
    "910A-real-capture-info-m-board-usages-health.txt": 8,
    "m-inference-3000-v1.0.0-1.0.10_mapping.txt": 4,
    "m-inference-3000-v1.0.11-1.0.15_mapping.txt": 4,
    "m-training-9010-v24.1.RC2_mapping.txt": 8,
    "m-training-9010-v6.0.RC1_mapping.txt": 8,
}
ERRORS = {
    "container-8005-inner-err.txt": "init_failed",
    "container-8005-ret4-vnpu.txt": "init_failed",
    "container-9005-board-type.txt": "board_type",
    "missing-libdrvdsmi_host.txt": "library_missing",
    "no-driver-build-host-8005-ret4.txt": "init_failed",
    "permission-8005-ret4-user-not-in-HwHiAiUser.txt": "init_failed",
    "src-command-not-found.txt": "not_understood",
    "src-failed-get-card-number.txt": "query_failed",
    "src-failed-query.txt": "query_failed",
    "src-no-card.txt": "no_card",
}


def read(path: str) -> str:
    return (SAMPLES / path).read_text(errors="replace")


@pytest.mark.parametrize("name", TABLES)
def test_every_table(name: str) -> None:
    chips, processes, sick, hbm = TABLES[name]
    text = read(f"npu-smi/{name}")
    table = parse_info(text)
    assert len(table.chips) == chips
    assert len(table.processes) == processes
    assert [chip.health for chip in table.chips if chip.health != "OK"] == sick
    assert table.problems == ()
    # Counted another way: the last total on every line with a bus id (or NA in its place).
    second_rows = re.findall(r"^.*\| *(?:[0-9A-F]{4}:[0-9A-F]{2}:[0-9A-F]{2}\.\d|NA) *\|.*$", text, re.MULTILINE)
    totals = [int(re.findall(r"/ *(\d+)", row)[-1]) for row in second_rows]
    assert totals == [chip.hbm_total_mb or chip.memory_total_mb for chip in table.chips]
    if chips:
        assert table.chips[-1].hbm_total_mb == hbm
        assert all(chip.npu_id is not None and chip.temperature_c and chip.name for chip in table.chips)


@pytest.mark.parametrize("name", MAPPINGS)
def test_every_mapping(name: str) -> None:
    rows = parse_mapping(read(f"npu-smi/{name}"))
    assert [row.logic_id for row in rows] == list(range(MAPPINGS[name]))


def test_no_capture_was_left_out() -> None:
    others = {path.name for path in (SAMPLES / "npu-smi").iterdir()} - set(TABLES) - set(MAPPINGS)
    assert all(not parse_info(read(f"npu-smi/{name}")).chips for name in others), (
        "a table that is not in the list above"
    )
    assert {path.name for path in (SAMPLES / "npu-smi-errors").glob("*.txt")} - set(ERRORS) == {
        "driver-incomplete-warning-trailing-line.txt"
    }


@pytest.mark.parametrize("name", ERRORS)
def test_every_error(name: str) -> None:
    answer = recognise(read(f"npu-smi-errors/{name}"))
    assert answer is not None
    assert answer.kind == ERRORS[name]


def test_the_warning_below_the_table() -> None:
    assert INCOMPLETE in read("npu-smi-errors/driver-incomplete-warning-trailing-line.txt")


def test_hccn_answers() -> None:
    text = read("hccn/deepseekv3-4node-800I-A2-ip-ping-lldp-link-health-netdetect-gateway-tls.txt")
    topics = ("link", "ip", "gateway", "net_health", "netdetect", "tls")
    port = parse_port(0, dict.fromkeys(topics, text))
    assert (port.link, port.address, port.netmask) == ("UP", "11.12.165.80", "255.255.255.0")
    assert (port.gateway, port.gateway_interface, port.net_health) == ("11.12.165.1", "eth0", "Success")
    assert (port.netdetect, port.tls_enabled, port.tls_preconfigured) == ("11.12.165.1", False, True)
    assert port.refused == {}


@pytest.mark.parametrize(("name", "npus"), [("yuanrong-hccn8NpuConf.txt", 8), ("hccn.conf-samples.txt", 8)])
def test_hccn_conf(name: str, npus: int) -> None:
    saved = parse_hccn_conf(read(f"hccn/{name}"))
    assert sorted(saved) == list(range(npus))
    assert all("address" in values for values in saved.values())


def test_version_files() -> None:
    text = read("versions/driver-firmware-cann-version-files-faultdiag-doc.txt")
    block = text[text.index("Version=24.1.rc1") :]
    values = parse_version_file(block[: block.index("```")])
    assert values["Version"] == "24.1.rc1"
    assert parse_ranges(values["compatible_version_fw"]) == [("7.0.0", "7.2.99")]
