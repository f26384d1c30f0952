# SPDX-License-Identifier: GPL-3.0-or-later
"""What npu_info and hccn_info find when they are asked for more: memory errors, firmware of the cards, capacities, optics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ModuleResult, RunModule
from tests.unit.fake_server import HCCN_TOOL, NPU_SMI, FakeServer, fixture

OPTICAL = fixture("hccn/25.0.rc1/optical.txt")
THRESHOLDS = """\
Temp High Thres      : 70 C
Temp Low Thres       : 0 C
RxPower High Thres   : 3.5481 mW
RxPower Low Thres    : 0.1445 mW
TxPower High Thres   : 3.5481 mW
TxPower Low Thres    : 0.2818 mW
"""


def ecc(double: int = 0, past: int = 0, isolated: int = 0) -> str:
    return (
        "\tHBM Single Bit Error Count               : 4\n"
        f"\tHBM Double Bit Error Count               : {double}\n"
        f"\tHBM Double Bit Aggregate Total Err Cnt   : {past}\n"
        f"\tHBM Double Bit Isolated Pages Count      : {isolated}\n"
    )


def board(firmware: str = "7.7.0.1.231", compatibility: str = "OK") -> str:
    return f"\tNPU ID : 0\n\tFirmware Version               : {firmware}\n\tCompatibility                  : {compatibility}\n"


def usages(capacity: int = 65536) -> str:
    return f"\tHBM Capacity(MB)               : {capacity}\n\tHBM Usage Rate(%)              : 5\n"


@pytest.fixture
def server(tmp_path: Path) -> FakeServer:
    server = FakeServer(tmp_path)
    server.put_driver()
    for number in range(4):
        server.put_device(number, number + 1)
    ok = fixture("npu_smi/25.0.rc1/health-ok.txt")
    mapping = fixture("npu_smi/25.0.rc1/map-4x910B3.txt")
    table = fixture("npu_smi/25.0.rc1/info-4x910B3-idle.txt")
    server.expect_npu_smi(table, mapping, health={f"{number} 0": ok for number in range(4)})
    return server


def ask(run_library: RunModule, server: FakeServer, other: dict[tuple[str, int], str]) -> ModuleResult:
    """Run npu_info with all details; `other` replaces an answer about a chip."""
    texts = {"board": board(), "ecc": ecc(), "memory": usages(), "usages": usages()}
    for kind, text in texts.items():
        for npu in range(4):
            chip = [] if kind == "board" else ["-c", "0"]
            argv = [NPU_SMI, "info", "-t", kind, "-i", str(npu), *chip]
            server.expect(argv, other.get((kind, npu), text))
    result = run_library("npu_info", {"expected_chips": [2, 3], "details": list(texts)}, server)
    server.assert_done()
    return result


def test_nothing_wrong_is_nothing_said(run_library: RunModule, server: FakeServer) -> None:
    result = ask(run_library, server, {})
    assert result["findings"] == []
    assert [(row["phy_id"], row["board"]["Firmware Version"]) for row in result["details"]][0] == (0, "7.7.0.1.231")
    assert result["details"][3]["ecc"]["HBM Single Bit Error Count"] == "4"


@pytest.mark.parametrize(
    ("place", "answer", "expected", "words"),
    [
        (("ecc", 2), ecc(double=3), ("chip.ecc", "error", 2), "HBM Double Bit Error Count 3"),
        (("ecc", 0), ecc(double=3), ("chip.ecc", "warning", 0), "HBM Double Bit Error Count 3"),
        (("ecc", 2), ecc(past=9), ("chip.ecc", "warning", 2), "Aggregate Total Err Cnt 9"),
        (("ecc", 3), ecc(isolated=1), ("chip.ecc", "warning", 3), "Isolated Pages Count 1"),
        (("board", 1), board("7.1.0"), ("firmware.mixed", "warning", 1), "firmware 7.1.0, the other 3: 7.7.0.1.231"),
        (("board", 1), board(compatibility="NOK"), ("firmware.incompatible", "error", None), "Compatibility NOK"),
        (
            ("usages", 3),
            usages(61440),
            ("chip.hbm", "error", 3),
            "the table shows 65536 MB of HBM, the chip itself 61440",
        ),
        (("ecc", 3), "Command or option is not found.", None, ""),
        (("ecc", 3), "This device does not support querying ecc.", None, ""),
        (("ecc", 3), "Failed to query ecc.", ("chip.no_answer", "warning", 3), "NPU 3 gives no ecc: "),
        (("board", 1), "", ("chip.no_answer", "warning", 1), "-t board -i 1` says '' (status 0)"),
    ],
)
def test_one_thing_wrong(
    run_library: RunModule,
    server: FakeServer,
    place: tuple[str, int],
    answer: str,
    expected: tuple[str, str, int | None] | None,
    words: str,
) -> None:
    found = ask(run_library, server, {place: answer})["findings"]
    assert [(item["code"], item["severity"], item["chip"]) for item in found] == ([expected] if expected else [])
    assert all(words in item["message"] for item in found)


OPTICS: list[tuple[str, str]] = [
    (OPTICAL + THRESHOLDS, ""),
    (OPTICAL, ""),  # a module that names no thresholds
    (OPTICAL.replace("0.9874", "0.0100") + THRESHOLDS, "has rx power0 0.0100 mW, below 0.1445"),
    (OPTICAL.replace("1.3120", "4.4035") + THRESHOLDS, "has tx power0 4.4035 mW, above 3.5481"),
    (OPTICAL.replace("44 C", "81 C") + THRESHOLDS, "has temperature 81 C, above 70"),
    (OPTICAL.replace("0x0", "0xff") + THRESHOLDS, "receives no light (rx los flag 0xff)"),
    (OPTICAL.replace(": present", ": not present").replace("0x0", "0xff") + THRESHOLDS, ""),  # copper
]


@pytest.mark.parametrize(("text", "words"), OPTICS)
def test_optics(run_library: RunModule, tmp_path: Path, text: str, words: str) -> None:
    server = FakeServer(tmp_path)
    server.put(HCCN_TOOL)
    server.put("/etc/hccn.conf", fixture("hccn/25.0.rc1/hccn.conf"))
    for topic in ("link", "ip", "gateway", "net_health", "netdetect", "tls"):
        server.expect([HCCN_TOOL, "-i", "2", f"-{topic}", "-g"], fixture(f"hccn/25.0.rc1/2-{topic}.txt"))
    server.expect([HCCN_TOOL, "-i", "2", "-optical", "-g"], text)
    params: dict[str, Any] = {"npus": [2], "optical": True}
    found = run_library("hccn_info", params, server)["findings"]
    assert [(item["code"], item["severity"], item["chip"]) for item in found] == (
        [("optical.values", "warning", 2)] if words else []
    )
    assert all(words in item["message"] for item in found)
