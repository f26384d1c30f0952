# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a server that the driver reads: versions, the NPU network's settings, and the faults a test asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from lab_driver import models

DRIVER = "usr/local/Ascend/driver"
STATE = "etc/ascend-lab/state.json"


def key_values(path: Path) -> Dict[str, str]:
    """A file of `key=value` lines; empty when it is missing or no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def driver_version(root: Path) -> str:
    """The installed driver's version as its own file names it."""
    return key_values(root / DRIVER / "version.info").get("Version", "unknown")


def firmware_version(root: Path) -> str:
    """The installed firmware's version."""
    return key_values(root / "usr/local/Ascend/firmware/version.info").get("Version", "NA")


def installed_completely(root: Path) -> bool:
    """Whether the installation record says that the driver's installation was completed."""
    return key_values(root / "etc/ascend_install.info").get("Driver_Install_Status") == "complete"


def network(root: Path, npu: int) -> Dict[str, str]:
    """What /etc/hccn.conf says about one NPU: address, netmask, netdetect, gateway, where present."""
    found = key_values(root / "etc/hccn.conf")
    names = ("address", "netmask", "netdetect", "gateway")
    return {name: found[f"{name}_{npu}"] for name in names if f"{name}_{npu}" in found}


class Faults:
    """The state file: {"npus": {"2": {...}}, "tools": {"npu-smi": {"hang": true}}, "versions": {...}, "chip": "910B3"}.

    All of it is optional. NPUs go by their physical ids, N of /dev/davinciN.
    """

    def __init__(self, state: Dict[str, Any]) -> None:
        self._state = state

    @classmethod
    def of(cls, root: Path) -> Faults:
        """Read the state file; a missing one means no fault, a broken one is an error to see."""
        path = root / STATE
        if not path.exists():
            return cls({})
        state = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise ValueError(f"{path} holds {type(state).__name__}, an object is needed")
        return cls(state)

    def npu(self, number: int) -> Dict[str, Any]:
        """Faults of one NPU."""
        found = self._state.get("npus", {}).get(str(number), {})
        return dict(found)

    def hangs(self, tool: str) -> bool:
        """Whether a tool never answers."""
        return bool(self._state.get("tools", {}).get(tool, {}).get("hang", False))

    @property
    def chip(self) -> str:
        """The kind of NPU that this server has."""
        return str(self._state.get("chip", models.DEFAULT))

    def version(self, name: str, actual: str) -> str:
        """A version that differs from the installed file's: driver, tool or firmware."""
        return str(self._state.get("versions", {}).get(name, actual))
