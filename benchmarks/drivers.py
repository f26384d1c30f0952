# SPDX-License-Identifier: GPL-3.0-or-later
"""What the driver check costs on a fleet, beside the same facts gathered the usual way, on hosts of one machine.

    sudo python benchmarks/drivers.py [--hosts 100] [--usual-hosts 10] [--json FILE]
    sudo python benchmarks/drivers.py --clean

Every host has an sshd and eight simulated NPUs; three hosts have one thing wrong each, and the check has to find exactly these. The
usual way is one `command` task for each tool call (looped over the NPUs) with `assert`s, on the first hosts only: it takes minutes on
all of them, and its cost per host does not depend on their number once the processors are busy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]  # for `python benchmarks/drivers.py`, too

from benchmarks._light_hosts import Fleet, clean, light_hosts  # noqa: E402 - the path has to be set first
from benchmarks._npu_answers import DRIVER, NPUS, TOPICS, files_of_every_host, files_of_host  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
ALARM = {"health": "Alarm", "error_code": "80E01801", "error_information": "multi-bit error"}
# place in the fleet -> (what is wrong there, the code and NPU with which it has to be found)
FAULTS: dict[int, tuple[dict[str, Any], tuple[str, int | None]]] = {
    3: ({"npus": {"5": ALARM}}, ("chip.health", 5)),
    17: ({"versions": {"driver": "24.1.rc3", "tool": "24.1.rc3"}}, ("fleet.driver", None)),
    20: ({"npus": {"2": {"link": "DOWN", "net_health": "Fault"}}}, ("link.down", 2)),
}


def main() -> int:
    """Run the benchmark; the status is 1 if the check found anything else than what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hosts", type=int, default=100, help="hosts to start (at least 20: the last fault is on the 20th)"
    )
    parser.add_argument("--usual-hosts", type=int, default=10, help="hosts for the usual way; 0 leaves it out")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--clean", action="store_true", help="only remove what an interrupted run left")
    options = parser.parse_args()
    if options.clean:
        clean()
        return 0
    if options.hosts < max(FAULTS) or not 0 <= options.usual_hosts <= options.hosts:
        parser.error(f"--hosts has to be at least {max(FAULTS)}, --usual-hosts at most --hosts")
    names = [f"npu-{number}" for number in range(1, options.hosts + 1)]
    own = {name: files_of_host(place, FAULTS.get(place, ({}, None))[0]) for place, name in enumerate(names, start=1)}
    with light_hosts(names, files_of_every_host(), own, NPUS) as fleet, TemporaryDirectory() as place:
        figures = _measure(fleet, Path(place), options.usual_hosts)
    print("\n".join(_lines(figures)))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if figures["found"] == figures["expected"] else 1


def _measure(fleet: Fleet, place: Path, usual_hosts: int) -> dict[str, Any]:
    load = round(os.getloadavg()[0], 1)
    _write_inventory(fleet, place)
    report = place / "report.json"
    check = [str(ROOT / "playbooks/check-drivers.yml"), "-e", f"driver_check_report_file={report}"]
    warn = ["-e", "driver_check_on_problem=warn"]
    cold = _play([*check, *warn], place)
    warm = _play([*check, *warn], place)
    found = [
        [item["host"], item["code"], item["chip"]]
        for item in json.loads(report.read_text(encoding="utf-8"))["findings"]
    ]
    usual = 0.0
    if usual_hosts:
        book = place / "usual.yml"
        book.write_text(yaml.safe_dump(usual_play(), sort_keys=False), encoding="utf-8")
        usual = _play([str(book), "--limit", ",".join(host.name for host in fleet.hosts[:usual_hosts])], place)
    return {
        "hosts": len(fleet.hosts),
        "npus": NPUS,
        "start_seconds": round(fleet.seconds, 2),
        "start_memory_mb": round(fleet.memory_mb),
        "cold_seconds": round(cold, 2),
        "warm_seconds": round(warm, 2),
        "usual_hosts": usual_hosts,
        "usual_seconds": round(usual, 2),
        "expected": sorted([f"npu-{number}", code, chip] for number, (_, (code, chip)) in FAULTS.items()),
        "found": sorted(found),
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}",
        "load_before": load,
    }


def _write_inventory(fleet: Fleet, place: Path) -> None:
    common = f"-o IdentitiesOnly=yes -o UserKnownHostsFile={fleet.known_hosts} -o StrictHostKeyChecking=yes"
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(fleet.key),
        "ansible_ssh_common_args": common,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ascend_npus": list(range(NPUS)),
        "ascend_interface": "eth0",
        "ascend_container_name": "train",
        "ascend_docker_cli": "docker",
        "ascend_work_root": "/data/ascend-fleet",
        "driver_check_minimum_driver": "24.1.rc1",
    }
    hosts = {host.name: {"ansible_host": host.address} for host in fleet.hosts}
    inventory = {"all": {"children": {"ascend": {"hosts": hosts, "vars": variables}}}}
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")


def _play(arguments: list[str], place: Path) -> float:
    """Run a playbook against the fleet with the project's ansible.cfg; return seconds."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(place / "cp"),
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    begun = time.monotonic()
    argv = [str(program), "-i", str(place / "hosts.yml"), *arguments]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"`{' '.join(argv)}` ended with status {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}"
        )
    return time.monotonic() - begun


def usual_play() -> list[dict[str, Any]]:
    """Return a playbook that gathers the same facts with a task for each question and looks at the answers with asserts."""
    tasks: list[dict[str, Any]] = []
    npus = list(range(NPUS))
    for name, argv in (("table", ["npu-smi", "info"]), ("mapping", ["npu-smi", "info", "-m"])):
        tasks.append(_command(name, argv))
    for kind, chip in (("health", ["-c", "0"]), ("board", []), ("ecc", ["-c", "0"])):
        tasks.append(_command(kind, ["npu-smi", "info", "-t", kind, "-i", "{{ item }}", *chip], npus))
    for topic in TOPICS:
        tasks.append(_command(topic, ["hccn_tool", "-i", "{{ item }}", f"-{topic}", "-g"], npus))
    for name, path in (
        ("driver", "/usr/local/Ascend/driver/version.info"),
        ("firmware", "/usr/local/Ascend/firmware/version.info"),
        ("install", "/etc/ascend_install.info"),
        ("saved", "/etc/hccn.conf"),
    ):
        tasks.append({"name": f"Read {path}", "ansible.builtin.slurp": {"src": path}, "register": f"usual_{name}"})
    nodes = {"paths": "/dev", "patterns": "davinci[0-9]*", "file_type": "any"}
    tasks.append({"name": "Find the nodes", "ansible.builtin.find": nodes, "register": "usual_nodes"})
    holders = ["find", "/proc", "-maxdepth", "3", "-path", "/proc/*/fd/*", "-lname", "/dev/davinci*"]
    tasks.append({**_command("holders", holders), "failed_when": False})
    facts = {"gather_subset": ["!all", "!min", "network", "hardware", "date_time"]}
    tasks.append({"name": "Gather facts", "ansible.builtin.setup": facts})
    return [{"name": "Check the usual way", "hosts": "ascend", "gather_facts": False, "tasks": [*tasks, *_asserts()]}]


def _command(name: str, argv: list[str], loop: list[int] | None = None) -> dict[str, Any]:
    task: dict[str, Any] = {"name": f"Ask for {name}", "ansible.builtin.command": {"argv": argv}}
    task |= {"register": f"usual_{name}", "changed_when": False}
    return {**task, "loop": loop} if loop else task


def _asserts() -> list[dict[str, Any]]:
    """What is wrong on three of the hosts fails here too; it is not to end the measurement."""
    conditions = {
        "version": f"usual_table.stdout is search('Version: {DRIVER}')",
        "nodes": f"usual_nodes.matched == {NPUS}",
        "health": "usual_health.results | map(attribute='stdout') | select('search', 'Alarm') | length == 0",
        "link": f"usual_link.results | map(attribute='stdout') | select('search', 'UP') | length == {NPUS}",
        "addresses": f"usual_ip.results | map(attribute='stdout') | select('search', 'ipaddr') | length == {NPUS}",
        "net health": f"usual_net_health.results | map(attribute='stdout') | select('search', 'Success') | length == {NPUS}",
        "tls": "usual_tls.results | map(attribute='stdout') | map('regex_search', 'tls switch.[01]') | unique | length == 1",
        "memory errors": f"usual_ecc.results | map(attribute='stdout') | select('search', 'Double') | length == {NPUS}",
    }
    return [
        {"name": f"Compare {name}", "ansible.builtin.assert": {"that": that, "quiet": True}, "ignore_errors": True}
        for name, that in conditions.items()
    ]


def _lines(figures: dict[str, Any]) -> list[str]:
    hosts, warm = figures["hosts"], figures["warm_seconds"] / figures["hosts"]
    lines = [
        f"machine        {figures['machine']}, load {figures['load_before']} when it began",
        f"hosts          {hosts} with {figures['npus']} NPUs each, started in {figures['start_seconds']} s, "
        f"{figures['start_memory_mb']} MB",
        f"check-drivers  {figures['cold_seconds']} s with new connections, {figures['warm_seconds']} s with open ones: "
        f"{warm:.3f} s a host",
        f"found          {figures['found']}"
        + ("" if figures["found"] == figures["expected"] else " - NOT WHAT IS WRONG"),
    ]
    if figures["usual_hosts"]:
        usual = figures["usual_seconds"] / figures["usual_hosts"]
        lines.append(
            f"usual way      {figures['usual_seconds']} s for {figures['usual_hosts']} hosts: {usual:.2f} s a host, "
            f"{usual / warm:.0f} times as much"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
