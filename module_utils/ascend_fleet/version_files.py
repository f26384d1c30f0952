# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver, firmware and CANN say their versions in small `key=value` files. Reading them, and comparing what they say."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from .host import Host

INSTALL_INFO = "/etc/ascend_install.info"
DEFAULT_ROOT = "/usr/local/Ascend"

_RANGE = re.compile(r"\[([^\[\]]*)\]")
_PART = re.compile(r"(?:(rc|t|b|sph|spc)?([0-9]{1,9}))", re.IGNORECASE)

# A release candidate and a test build come before the release itself; a build number, patch or plain number after it.
_RANKS = {"t": -2, "rc": -1, "": 0, "b": 0, "sph": 0, "spc": 0}

VersionKey = Tuple[Tuple[int, int], ...]


@dataclass(frozen=True)
class VersionFile:
    """A version.info file. `state`: ok, absent, closed (to this user), or directory (Docker makes one for a missing mount)."""

    path: str
    state: str
    values: Dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> Optional[str]:
        """Return the version the file names."""
        return self.values.get("Version") or self.values.get("version")

    def ranges(self, key: str) -> List[Tuple[str, str]]:
        """Return the [low,high] pairs under a key; a single value is a pair of itself."""
        return parse_ranges(self.values.get(key, ""))


@dataclass(frozen=True)
class Versions:
    """The version files of a host."""

    install: VersionFile
    driver: VersionFile
    firmware: VersionFile
    cann: VersionFile

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for the module's result."""
        return {
            "driver": {"version": self.driver.version, **_described(self.driver, "compatible_version_fw")},
            "firmware": {
                "version": self.firmware.version,
                "package_version": self.firmware.values.get("package_version"),
                **_described(self.firmware, "compatible_version_drv"),
            },
            "cann": {"version": self.cann.version, **_described(self.cann, "")},
            "install": {"path": self.install.path, "state": self.install.state, "values": self.install.values},
        }


def _described(file: VersionFile, key: str) -> Dict[str, Any]:
    return {"path": file.path, "state": file.state, "compatible": [list(pair) for pair in file.ranges(key)]}


def parse_version_file(text: str) -> Dict[str, str]:
    """Read `key=value` lines; others are passed over."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key.strip(): value.strip() for key, equals, value in pairs if equals and key.strip()}


def parse_ranges(text: str) -> List[Tuple[str, str]]:
    """Read `[7.0.0,7.2.99],[8.0.0]` into pairs."""
    found = []
    for inside in _RANGE.findall(text):
        parts = [part.strip() for part in inside.split(",") if part.strip()]
        found += [(parts[0], parts[-1])] if parts else []
    return found


def version_key(version: str) -> Optional[VersionKey]:
    """Return what versions sort by: `24.1.rc3` before `24.1.0`, `25.0.rc1` before `25.0.rc1.1`. None for another spelling."""
    parts: List[Tuple[int, int]] = []
    for text in version.strip().strip(".").split("."):
        found = _PART.fullmatch(text)
        if not found:
            return None
        name = (found.group(1) or "").lower()
        if name == "b":
            continue  # a build of the same version
        parts.append((_RANKS[name], int(found.group(2))))
    while parts and parts[-1] == (0, 0):
        parts.pop()
    return tuple(parts)


def older(version: str, minimum: str) -> Optional[bool]:
    """Say whether a version is older than another; None where one of them cannot be compared."""
    left, right = version_key(version), version_key(minimum)
    if left is None or right is None:
        return None
    length = max(len(left), len(right))
    return _padded(left, length) < _padded(right, length)


def _padded(key: VersionKey, length: int) -> VersionKey:
    return key + ((0, 0),) * (length - len(key))


def within(version: str, low: str, high: str) -> Optional[bool]:
    """Say whether a version is in [low, high]; `high` with a trailing dot also takes everything that starts with it."""
    below, above = older(version, low), older(high, version)
    if below is None or above is None:
        return None
    return not below and (not above or (high.endswith(".") and version.lower().startswith(high.lower())))


def read_versions(host: Host) -> Versions:
    """Read the version files of a host, from where its driver says it is installed."""
    install = _read(host, INSTALL_INFO)
    driver_root = _installed(install, "Driver_Install_Path_Param")
    firmware_root = _installed(install, "Firmware_Install_Path_Param")
    return Versions(
        install,
        _read(host, os.path.join(driver_root, "driver", "version.info")),
        _read(host, os.path.join(firmware_root, "firmware", "version.info")),
        _read_cann(host, driver_root),
    )


def _installed(install: VersionFile, key: str) -> str:
    folded = {name.lower(): value for name, value in install.values.items()}
    return folded.get(key.lower()) or DEFAULT_ROOT


def _read(host: Host, path: str) -> VersionFile:
    try:
        if host.is_dir(path):
            return VersionFile(path, "directory")
        text = host.read_text(path)
    except PermissionError:
        return VersionFile(path, "closed")
    return VersionFile(path, "absent") if text is None else VersionFile(path, "ok", parse_version_file(text))


def _read_cann(host: Host, root: str) -> VersionFile:
    """Find the toolkit's file: since 8.5 under `cann`, before under `ascend-toolkit/latest`. Servers often have neither."""
    for folder in (os.path.join(root, "cann"), os.path.join(root, "ascend-toolkit", "latest")):
        for architecture in ("aarch64-linux", "x86_64-linux"):
            path = os.path.join(folder, architecture, "ascend_toolkit_install.info")
            found = _read(host, path)
            if found.state != "absent":
                return found
    return VersionFile(os.path.join(root, "ascend-toolkit"), "absent")
