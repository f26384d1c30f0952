# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing broken at a time on a lab server, and the driver check names exactly that, on exactly that NPU.

The check is the site's own playbook, over both servers. It looks at NPUs 0 and 1, which no run in the lab uses, and only warns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import ROOT, Shell

pytestmark = pytest.mark.docker
STATE = "/etc/ascend-lab/state.json"
BROKEN, RIGHT = "npu-2", "npu-1"
DEVICES = " ".join(f"--device /dev/{name}" for name in ("davinci0", "davinci_manager", "devmm_svm", "hisi_hdc"))

Found = list[tuple[str, str, str, "int | None"]]
Check = Callable[..., dict[str, Any]]


@pytest.fixture
def check(fleet: None, tmp_path: Path) -> Check:
    """Run check-drivers on the lab; return its report as data."""

    def run(status: int = 0, **variables: Any) -> dict[str, Any]:
        report = tmp_path / "report.json"
        values = {
            "ascend_npus": [0, 1],
            "driver_check_on_problem": "warn",
            "driver_check_minimum_driver": "25.0.RC1",
            "driver_check_report_file": str(report),
            **variables,
        }
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        argv = [program, "-i", "inventory/lab", "playbooks/check-drivers.yml", "-e", json.dumps(values)]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        data: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return {**data, "stdout": done.stdout}

    return run


@pytest.fixture
def break_it(shell: Shell) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Write the state file of the server that is to be wrong; after the test it is gone, whatever happened."""

    def write(state: dict[str, Any]) -> None:
        shell(BROKEN, f"mkdir -p /etc/ascend-lab && cat > {STATE} <<'END'\n{json.dumps(state)}\nEND\n")

    try:
        yield write
    finally:
        shell(BROKEN, f"rm -f {STATE}")


def found(report: dict[str, Any]) -> Found:
    return [(item["severity"], item["host"], item["code"], item["chip"]) for item in report["findings"]]


def test_nothing_is_found_where_nothing_is_broken(check: Check) -> None:
    report = check()
    assert found(report) == []
    assert [host["answered"] for host in report["hosts"]] == [True, True]


ALARM = {"health": "Alarm", "error_code": "80E01801", "error_information": "multi-bit error"}
FAULTS: list[tuple[dict[str, Any], Found, str]] = [
    ({"npus": {"1": ALARM}}, [("error", BROKEN, "chip.health", 1)], "health is Alarm, error code 80E01801"),
    (
        {"npus": {"1": {"dropped": True}}},
        [("error", BROKEN, "chip.missing", 1)],
        "NPU 1 is needed and npu-smi does not show it",
    ),
    ({"npus": {"0": {"link": "DOWN"}}}, [("error", BROKEN, "link.down", 0)], "its network link is DOWN"),
    ({"npus": {"1": {"tls": 1}}}, [("error", BROKEN, "fleet.tls", 1)], "NPU 1: TLS on, the other 3: off."),
    ({"npus": {"1": {"ecc_double": 2}}}, [("error", BROKEN, "chip.ecc", 1)], "HBM Double Bit Error Count 2"),
    (
        {"npus": {"0": {"hbm_total": 32768}}},
        [("warning", BROKEN, "fleet.hbm", 0)],
        "HBM in MB 32768, the other 7: 65536",
    ),
    (
        {"versions": {"driver": "24.1.rc3"}},
        [
            ("error", BROKEN, "driver.too_old", None),
            ("warning", BROKEN, "driver.not_loaded", None),
            ("warning", BROKEN, "fleet.driver", None),
        ],
        "Driver 24.1.rc3 is older than 25.0.RC1",
    ),
]


@pytest.mark.parametrize(("state", "expected", "words"), FAULTS, ids=[expected[0][2] for _, expected, _ in FAULTS])
def test_one_fault_is_found_on_its_npu(
    check: Check, break_it: Callable[[dict[str, Any]], None], state: dict[str, Any], expected: Found, words: str
) -> None:
    break_it(state)
    report = check()
    assert found(report) == expected
    assert words in report["findings"][0]["message"]
    assert report["findings"][0]["remedy"]


def test_a_stale_hccn_conf(check: Check, shell: Shell) -> None:
    """The file is changed behind the driver's back; the device keeps its address, which the lab's driver is told."""
    live = shell(BROKEN, "hccn_tool -i 1 -ip -g").stdout.splitlines()[0].partition(":")[2]
    state = json.dumps({"npus": {"1": {"address": live}}})
    backup = "/etc/hccn.conf.before-the-test"
    try:
        shell(BROKEN, f"mkdir -p /etc/ascend-lab && cp -p /etc/hccn.conf {backup} && echo '{state}' > {STATE}")
        shell(BROKEN, "sed -i 's/^address_1=.*/address_1=192.0.2.81/' /etc/hccn.conf")
        report = check()
    finally:
        shell(BROKEN, f"mv -f {backup} /etc/hccn.conf; rm -f {STATE}")
    assert found(report) == [("error", BROKEN, "address.stale", 1)]
    assert f"has address 192.0.2.81, the device has {live}" in report["findings"][0]["message"]


def test_a_hung_npu_smi_is_ended_and_reported(
    check: Check, break_it: Callable[[dict[str, Any]], None], shell: Shell
) -> None:
    break_it({"tools": {"npu-smi": {"hang": True}}})
    report = check(driver_check_timeout=3)
    assert ("error", BROKEN, "npu_smi.no_answer", None) in found(report)
    assert {host for _, host, _, _ in found(report)} == {BROKEN}
    assert "did not answer within 3 s" in report["findings"][0]["message"]
    assert not shell(BROKEN, "pgrep -f sbin/npu-smi", check=False).stdout


def test_a_card_held_by_another_container(check: Check, shell: Shell, image: str) -> None:
    name = "lab-test-driver-check"
    try:
        hold = "bash -c 'exec 3<>/dev/davinci0; exec sleep 300'"
        shell(BROKEN, f"docker run -d --rm --name {name} {DEVICES} {image} {hold}")
        shell(
            BROKEN,
            "for _ in $(seq 50); do npu-smi info | grep -q 'processes found in NPU 0' || exit 0; sleep 0.1; done; exit 1",
        )
        report = check()
    finally:
        shell(BROKEN, f"docker rm -f {name}")
    assert found(report) == [("error", BROKEN, "chip.busy", 0)]
    message = report["findings"][0]["message"]
    assert f"container {name}, user root" in message
    assert "since 20" in message


def test_a_user_outside_of_the_drivers_group(check: Check, shell: Shell) -> None:
    user = "lab-outsider"
    home = f"/home/{user}"
    try:
        shell(
            BROKEN, f"useradd --create-home --password '*' {user} && cp -r /root/.ssh {home}/ && chown -R {user} {home}"
        )
        login = f"{{{{ '{user}' if inventory_hostname == '{BROKEN}' else 'root' }}}}"
        # Without a connection that is kept open: a user with processes is not removed.
        report = check(ansible_user=login, ansible_ssh_args="-o ControlMaster=no -o ControlPath=none")
    finally:
        shell(BROKEN, f"userdel --remove {user} 2>/dev/null; ! id {user} 2>/dev/null")
    errors = [item for item in report["findings"] if item["severity"] == "error"]
    assert [(item["host"], item["code"], item["chip"]) for item in errors if item["code"].startswith("npu_smi")] == [
        (BROKEN, "npu_smi.init_failed", None)
    ]
    assert {item["host"] for item in report["findings"]} == {BROKEN}
    assert "(1) the user is not in the group HwHiAiUser" in report["findings"][0]["message"]
    assert "usermod -aG HwHiAiUser" in report["findings"][0]["remedy"]


def test_a_clock_that_is_minutes_off(check: Check, shell: Shell) -> None:
    """The lab's servers share one kernel and so one clock: this server's Python is made to read it wrongly."""
    place = "/opt/lab-test-clock"
    python = f"{place}/python3"
    try:
        shell(
            BROKEN,
            f"mkdir -p {place} && printf 'import time\\n_now = time.time\\ntime.time = lambda: _now() + 300\\n' "
            f"> {place}/sitecustomize.py && printf '#!/bin/sh\\nPYTHONPATH={place} exec /usr/bin/python3 \"$@\"\\n' > {python} "
            f"&& chmod 755 {python}",
        )
        report = check(
            ansible_python_interpreter=f"{{{{ '{python}' if inventory_hostname == '{BROKEN}' else '/usr/bin/python3' }}}}"
        )
    finally:
        shell(BROKEN, f"rm -rf {place}")
    assert found(report) == [("warning", BROKEN, "fleet.clock", None)]
    assert "s ahead of the controller" in report["findings"][0]["message"]


def test_an_npu_that_nobody_reaches_is_named(
    check: Check, break_it: Callable[[dict[str, Any]], None], shell: Shell
) -> None:
    """Only the way is broken: the NPU says that its link is up, and its address answers to nobody."""
    live = shell(BROKEN, "hccn_tool -i 1 -ip -g").stdout.splitlines()[0].partition(":")[2]
    try:
        shell(BROKEN, f"ip address del {live}/32 dev lo")
        report = check(driver_check_reach=True)
    finally:
        shell(BROKEN, f"ip address add {live}/32 dev lo label lo:npu", check=False)
    assert ("error", BROKEN, "reach.npu", 1) in found(report)
    assert [code for _, _, code, _ in found(report) if code.startswith("reach.")] == ["reach.npu"]
    assert report["reach"]["ports_ok"] == report["reach"]["ports"] == 4


def test_a_host_with_an_error_is_left_out_on_request(check: Check, break_it: Callable[[dict[str, Any]], None]) -> None:
    break_it({"npus": {"1": ALARM}})
    report = check(status=2, driver_check_on_problem="exclude")
    assert report["excluded"] == [BROKEN]
    assert f"left out of this run: {BROKEN}" in report["stdout"]
    assert "Left out of this run. NPU 1: health is Alarm" in report["stdout"]


def test_a_dual_die_server_is_odd_among_others(check: Check, break_it: Callable[[dict[str, Any]], None]) -> None:
    break_it({"chip": "910_9392"})
    report = check()
    assert found(report) == [("warning", BROKEN, "fleet.chips", None)]
    assert [chip["generation"] for chip in report["hosts"][1]["chips"]] == ["A3"] * 4
    assert report["findings"][0]["message"] == f"chip Ascend910, {RIGHT}: 910B3."
