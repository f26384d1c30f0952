# SPDX-License-Identifier: GPL-3.0-or-later
"""The NPUs of the lab's servers: seen, held, refused and reached, on the hosts themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.conftest import Shell

pytestmark = pytest.mark.docker
STATE = "/etc/ascend-lab/state.json"
DEVICES = " ".join(f"--device /dev/{name}" for name in ("davinci0", "davinci_manager", "devmm_svm", "hisi_hdc"))
MOUNTS = "-v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro -v /usr/local/sbin/npu-smi:/usr/local/sbin/npu-smi:ro"


@pytest.fixture
def faults(shell: Shell) -> Iterator[object]:
    """Write npu-2's state file; it is gone after the test."""

    def write(**state: object) -> None:
        shell("npu-2", f"mkdir -p /etc/ascend-lab && cat > {STATE} <<'END'\n{json.dumps(state)}\nEND\n")

    yield write
    shell("npu-2", f"rm -f {STATE}")


@pytest.fixture
def rivals(shell: Shell, image: str) -> Iterator[tuple[str, str]]:
    """Two containers on npu-2 that were both given NPU 0."""
    names = ("lab-test-a", "lab-test-b")
    for name in names:
        shell("npu-2", f"docker run -d --rm --name {name} {DEVICES} {MOUNTS} {image} sleep 600")
    yield names
    shell("npu-2", f"docker rm -f {' '.join(names)}")


def npu_rows(text: str) -> list[list[str]]:
    """Cells of the rows about NPU 0 in the process table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if len(row) == 4 and row[0].split() == ["0", "0"]]


def test_a_process_that_opens_a_node_shows_until_it_ends(shell: Shell) -> None:
    script = "exec 3<>/dev/davinci0; npu-smi info; echo pid $$"
    lines = shell("npu-1", script).stdout
    pid = lines.split()[-1]
    assert pid in [row[1] for row in npu_rows(lines)]
    assert pid not in [row[1] for row in npu_rows(shell("npu-1", "npu-smi info").stdout)]


def test_containers_see_their_own_npus_and_refuse_what_another_holds(shell: Shell, rivals: tuple[str, str]) -> None:
    a, b = rivals
    free = shell("npu-2", f"docker exec {b} npu-smi info -m").stdout
    assert [line.split()[:3] for line in free.splitlines() if "Ascend" in line] == [["0", "0", "0"]]
    shell("npu-2", f"docker exec -d {a} bash -c 'exec 3<>/dev/davinci0; exec sleep 500'")
    wait = f"for _ in $(seq 50); do docker exec {b} npu-smi info >/dev/null || break; sleep 0.1; done;"
    refused = shell("npu-2", f"{wait} docker exec {b} npu-smi info", check=False)
    assert refused.returncode == -8020 & 0xFF
    assert "because the device is used. ret is -8020" in refused.stdout
    assert shell("npu-2", f"docker exec {a} npu-smi info").returncode == 0
    [row] = npu_rows(shell("npu-2", "npu-smi info").stdout)
    container = shell("npu-2", f"grep -o 'docker/[0-9a-f]*\\|npu-2/[0-9a-f]*' /proc/{row[1]}/cgroup | head -n 1").stdout
    assert container.strip().rpartition("/")[2] == shell("npu-2", f"docker inspect -f '{{{{.Id}}}}' {a}").stdout.strip()


def test_an_npu_pings_the_npus_of_the_other_server(shell: Shell) -> None:
    theirs = shell("npu-2", "hccn_tool -i 3 -ip -g").stdout.splitlines()[0].partition(":")[2]
    done = shell("npu-1", f"hccn_tool -i 0 -ping -g address {theirs}").stdout
    assert done.splitlines()[-1] == "3 packets transmitted, 3 received, 0.00% packet loss"
    assert shell("npu-1", "hccn_tool -i 0 -net_health -g").stdout == "net health status: Success\n"


def test_an_npu_whose_link_is_down_is_not_reached(shell: Shell, faults: object) -> None:
    theirs = shell("npu-2", "hccn_tool -i 3 -ip -g").stdout.splitlines()[0].partition(":")[2]
    faults(npus={"3": {"link": "DOWN"}})  # type: ignore[operator]
    ask = f"hccn_tool -i 0 -ping -g address {theirs} | tail -n 1"
    wait = f"for _ in $(seq 10); do {ask} | grep -q ' 0 received' && break; sleep 0.5; done; {ask}"
    assert "3 packets transmitted, 0 received, 100.00% packet loss" in shell("npu-1", wait).stdout
    assert shell("npu-2", "hccn_tool -i 3 -link -g").stdout == "link status: DOWN\n"


def test_a_broken_state_file_is_reported_not_ignored(shell: Shell, faults: object) -> None:
    shell("npu-2", f"mkdir -p /etc/ascend-lab && echo '{{' > {STATE}")
    done = shell("npu-2", "npu-smi info", check=False)
    assert done.returncode != 0
    assert "JSONDecodeError" in done.stderr
