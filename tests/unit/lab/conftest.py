# SPDX-License-Identifier: GPL-3.0-or-later
"""A server laid out as a directory: what the lab's driver looks at, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
TOOLS = ROOT / "lab" / "tools"
HOST_NAMESPACE = "mnt:[4026531840]"
ALL_CAPABILITIES = "000001ffffffffff"
CONTAINER_CAPABILITIES = "00000000a80425fb"


@dataclass
class Server:
    """A server in a directory. Its process 1 is the host's own and sees the server's /dev."""

    root: Path

    def node(self, name: str) -> None:
        """Add a device node; an ordinary file will do, because only its name is looked at."""
        (self.root / "dev" / name).touch()

    def process(
        self,
        pid: int,
        *,
        namespace: str = HOST_NAMESPACE,
        sees: tuple[str, ...] | None = None,
        holds: tuple[str, ...] = (),
        name: str = "python",
        memory_kb: int = 0,
        capabilities: str = CONTAINER_CAPABILITIES,
    ) -> None:
        """Add a process: the nodes in its own /dev (None: the server's), those it has open, its name and memory."""
        directory = self.root / "proc" / str(pid)
        for part in ("ns", "fd"):
            (directory / part).mkdir(parents=True)
        (directory / "ns" / "mnt").symlink_to(namespace)
        for number, node in enumerate(holds):
            (directory / "fd" / str(number + 3)).symlink_to(node)
        (directory / "comm").write_text(f"{name}\n", encoding="utf-8")
        (directory / "status").write_text(
            f"Name:\t{name}\nVmRSS:\t{memory_kb} kB\nCapEff:\t{capabilities}\n", encoding="utf-8"
        )
        # The fields of /proc/<pid>/stat that count: user time 14, system time 15, start time 22.
        fields = ["S", *["0"] * 10, "0", "0", *["0"] * 6, "0"]
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n", encoding="utf-8")
        self._root_of(directory, sees)

    def _root_of(self, directory: Path, sees: tuple[str, ...] | None) -> None:
        if sees is None:
            (directory / "root").symlink_to(self.root)
            return
        (directory / "root" / "dev").mkdir(parents=True)
        for name in sees:
            (directory / "root" / "dev" / name).touch()

    def write(self, path: str, text: str) -> None:
        """Write a file of the server."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def faults(self, **state: Any) -> None:
        """Write the state file."""
        self.write("etc/ascend-lab/state.json", json.dumps(state))

    def run(self, tool: str, *arguments: str, caller: int = 1, timeout: float = 20) -> tuple[str, int]:
        """Run a tool as the process `caller` of this server; return its output and status."""
        program = {"npu-smi": TOOLS / "sbin" / "npu-smi", "hccn_tool": TOOLS / "driver" / "tools" / "hccn_tool"}[tool]
        environment = {
            **os.environ,
            "ASCEND_LAB_ROOT": str(self.root),
            "ASCEND_LAB_CALLER": str(caller),
            "ASCEND_LAB_LIBRARIES": str(TOOLS / "driver" / "lib64"),
        }
        argv = [sys.executable, str(program), *arguments]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=timeout)
        assert not done.stderr, done.stderr
        return done.stdout, done.returncode


MANAGERS = ("davinci_manager", "devmm_svm", "hisi_hdc")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A healthy server with NPUs 0 to 3, driver files and network settings; nothing holds an NPU."""
    made = Server(tmp_path)
    for directory in ("dev", "proc", "etc"):
        (tmp_path / directory).mkdir()
    for name in (*MANAGERS, *(f"davinci{number}" for number in range(4))):
        made.node(name)
    made.write("proc/uptime", "1000.00 1900.00\n")
    made.write("usr/local/Ascend/driver/version.info", "Version=25.0.rc1\nascendhal_version=7.35.23\n")
    made.write("usr/local/Ascend/firmware/version.info", "Version=7.7.0.1.231\n")
    made.write("etc/ascend_install.info", "UserName=HwHiAiUser\nDriver_Install_Status=complete\n")
    lines = [
        f"{name}_{npu}={value}\n"
        for npu in range(3)  # NPU 3 has no address
        for name, value in (
            ("netmask", "255.255.255.0"),
            ("address", f"127.0.0.{npu + 10}"),
            ("netdetect", "127.0.0.1"),
            ("gateway", "127.0.0.1"),
        )
    ]
    made.write("etc/hccn.conf", "".join(lines))
    made.process(1, capabilities=ALL_CAPABILITIES, name="init")
    return made
