# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ascend server as npu_info and hccn_info see it: a directory tree in place of / and a strict script in place of its tools."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.conftest import ScriptedHost

FIXTURES = Path(__file__).parent / "fixtures"
NPU_SMI = "/usr/local/sbin/npu-smi"
HCCN_TOOL = "/usr/local/Ascend/driver/tools/hccn_tool"

DRIVER = "Version=25.0.rc1\ncompatible_version_fw=[7.0.0,7.7.99]\n"
FIRMWARE = "Version=7.7.0.1.231\npackage_version=25.0.rc1\n"
INSTALL = "UserName=HwHiAiUser\nDriver_Install_Path_Param=/usr/local/Ascend\nDriver_Install_Status=complete\n"


def fixture(path: str) -> str:
    return (FIXTURES / path).read_text()


class FakeServer(ScriptedHost):
    """Absolute paths lead into `root`; commands come from the script, in any order, since they are asked side by side."""

    def __init__(self, root: Path) -> None:
        super().__init__(ordered=False)
        self.root = root
        self.device_numbers: dict[str, int] = {}
        self.closed: set[str] = set()  # directories that may not be read

    # The tree

    def put(self, path: str, text: str = "") -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def put_device(self, phy_id: int, number: int = 0) -> None:
        self.put(f"/dev/davinci{phy_id}")
        self.device_numbers[f"/dev/davinci{phy_id}"] = number

    def put_process(self, pid: int, command: str, opens: list[str], container: str = "", started: int = 100) -> None:
        """A process with open files; `container` is the id in its control groups, `started` in seconds after boot."""
        base = f"/proc/{pid}"
        self.put(f"{base}/comm", command.split()[0] + "\n")
        self.put(f"{base}/cmdline", "\0".join(command.split()) + "\0")
        self.put(f"{base}/cgroup", f"9:memory:/docker/{container}\n" if container else "0::/system.slice/x.service\n")
        fields = " ".join(["S", *["0"] * 18, str(started * os.sysconf("SC_CLK_TCK"))])
        self.put(f"{base}/stat", f"{pid} (odd ) name) {fields} 0\n")
        for number, target in enumerate(opens):
            link = self.root / f"proc/{pid}/fd/{number}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)

    def put_driver(self) -> None:
        self.put("/usr/local/Ascend/driver/version.info", DRIVER)
        self.put("/usr/local/Ascend/firmware/version.info", FIRMWARE)
        self.put("/etc/ascend_install.info", INSTALL)

    def put_pci(self, bus: str, device: str) -> None:
        self.put(f"/sys/bus/pci/devices/{bus}/vendor", "0x19e5\n")
        self.put(f"/sys/bus/pci/devices/{bus}/device", f"{device}\n")

    # The tools

    def expect_npu_smi(self, info: str, mapping: str = "", rc: int = 0, health: dict[str, str] | None = None) -> None:
        """Expect a whole look: the table, the mapping, and the health of each place in `health` ("npu chip" -> answer)."""
        self.put(NPU_SMI)
        self.expect([NPU_SMI, "info"], info, rc)
        self.expect([NPU_SMI, "info", "-m"], mapping, rc)
        for place, answer in (health or {}).items():
            npu, chip = place.split()
            self.expect([NPU_SMI, "info", "-t", "health", "-i", npu, "-c", chip], answer)

    # Host, below root

    def _at(self, path: str) -> str:
        return str(self.root / path.lstrip("/"))

    def which(self, program: str) -> str | None:
        paths = [program] if program.startswith("/") else [f"/usr/local/sbin/{program}", f"/usr/bin/{program}"]
        return next((path for path in paths if os.path.isfile(self._at(path))), None)

    def stat(self, path: str) -> os.stat_result | None:
        number = self.device_numbers.get(path)
        if number is None and path.startswith("/proc/") and "/fd/" in path:
            number = self.device_numbers.get(super().read_link(self._at(path)) or "")
        if number is not None:
            return os.stat_result((stat.S_IFCHR | 0o660, 0, 0, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": number})
        return super().stat(self._at(path))

    def read_text(self, path: str) -> str | None:
        return super().read_text(self._at(path))

    def list_dir(self, path: str) -> list[str]:
        if path in self.closed:
            raise PermissionError(path)
        return super().list_dir(self._at(path))

    def read_link(self, path: str) -> str | None:
        return super().read_link(self._at(path))
