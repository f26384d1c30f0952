# SPDX-License-Identifier: GPL-3.0-or-later
"""A server with NPUs as files: what its tools answer, asked once of the lab's tools, and tools that only repeat it.

The lab's tools look at processes and start a Python each time; on a hundred hosts of one machine that would be most of what is measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._light_hosts import Layer

ROOT = Path(__file__).resolve().parent.parent
NPUS = 8
DRIVER, FIRMWARE = "25.0.rc1", "7.7.0.1.231"
TOPICS = ("link", "ip", "gateway", "net_health", "netdetect", "tls", "mtu")
DETAILS = ("board", "ecc")
_ANSWERS = "usr/local/Ascend/answers"
# The file's name is the command line: no process but cat, as cheap as a tool can be.
_TOOL = '#!/bin/sh\nIFS=_\nexec cat "/{answers}/{tool}/$*"\n'


def files_of_every_host() -> Layer:
    """Return the tools and what they answer on a healthy host, and the driver's files."""
    files = dict(_answers({}).files)
    for tool, path in (("npu-smi", "usr/local/sbin/npu-smi"), ("hccn_tool", "usr/local/bin/hccn_tool")):
        files[path] = (_TOOL.format(answers=_ANSWERS, tool=tool), 0o755)
    return Layer({**files, **_driver_files(DRIVER)})


def _driver_files(version: str) -> dict[str, tuple[str, int]]:
    install = "UserName=HwHiAiUser\nDriver_Install_Path_Param=/usr/local/Ascend\nDriver_Install_Status=complete\n"
    return {
        "usr/local/Ascend/driver/version.info": (f"Version={version}\ncompatible_version_fw=[7.0.0,7.7.99]\n", 0o644),
        "usr/local/Ascend/firmware/version.info": (f"Version={FIRMWARE}\n", 0o644),
        "etc/ascend_install.info": (install, 0o644),
    }


def files_of_host(number: int, faults: dict[str, Any]) -> Layer:
    """Return what only host `number` has: the addresses of its NPUs, and what its tools answer because of `faults`."""
    files: dict[str, tuple[str, int]] = {"etc/hccn.conf": (_hccn_conf(number), 0o644)}
    for npu in range(NPUS):
        text = f"ipaddr:{_address(number, npu)}\nnetmask:255.255.0.0\n"
        files[f"{_ANSWERS}/hccn_tool/-i_{npu}_-ip_-g"] = (text, 0o644)
    if faults:
        changed = _answers(faults).files
        files.update({path: value for path, value in changed.items() if not path.endswith("_-ip_-g")})
        files.update(_driver_files(faults.get("versions", {}).get("driver", DRIVER)))
    return Layer(files)


def _address(number: int, npu: int) -> str:
    return f"10.{number // 200}.{number % 200}.{npu + 1}"


def _hccn_conf(number: int) -> str:
    lines = []
    for npu in range(NPUS):
        lines += [f"address_{npu}={_address(number, npu)}", f"netmask_{npu}=255.255.0.0"]
        lines += [f"gateway_{npu}=10.255.0.1", f"netdetect_{npu}=10.255.0.1"]
    return "".join(f"{line}\n" for line in lines)


def command_lines() -> Iterator[tuple[str, ...]]:
    """Yield every command line with which the check asks one host."""
    yield ("npu-smi", "info")
    yield ("npu-smi", "info", "-m")
    for npu in range(NPUS):
        yield ("npu-smi", "info", "-t", "health", "-i", str(npu), "-c", "0")
        yield ("npu-smi", "info", "-t", "board", "-i", str(npu))
        yield ("npu-smi", "info", "-t", "ecc", "-i", str(npu), "-c", "0")
        for topic in TOPICS:
            yield ("hccn_tool", "-i", str(npu), f"-{topic}", "-g")


def _answers(faults: dict[str, Any]) -> Layer:
    """Ask the lab's tools everything about a server that is laid out for them."""
    sys.path.insert(0, str(ROOT / "lab/tools/driver/lib64"))
    from lab_driver import hccn, npu_smi  # the lab's driver is no package of this project

    tools = {"npu-smi": npu_smi.answer, "hccn_tool": hccn.answer}
    state = {"npus": {str(npu): {"net_health": "Success"} for npu in range(NPUS)}}
    for npu, fault in faults.get("npus", {}).items():
        state["npus"][npu].update(fault)
    with TemporaryDirectory() as place:
        _lay_out(Path(place), {**faults, **state})
        os.environ["ASCEND_LAB_ROOT"] = place
        try:
            texts = {argv: tools[argv[0]](list(argv[1:]))[0] for argv in command_lines()}
        finally:
            del os.environ["ASCEND_LAB_ROOT"]
    return Layer({f"{_ANSWERS}/{argv[0]}/{'_'.join(argv[1:])}": (f"{text}\n", 0o644) for argv, text in texts.items()})


def _lay_out(root: Path, state: dict[str, Any]) -> None:
    """Make the directory tree of a server that the lab's driver looks at."""
    import json

    files = dict(Layer(_driver_files(DRIVER)).files)
    files["etc/hccn.conf"] = (_hccn_conf(1), 0o644)
    files["etc/ascend-lab/state.json"] = (json.dumps(state), 0o644)
    files["proc/uptime"] = ("1000.00 1900.00\n", 0o644)
    files["proc/1/status"] = ("CapEff:\t000001ffffffffff\n", 0o644)
    Layer(files).write(root)
    (root / "proc/1/fd").mkdir()
    (root / "proc/1/ns").mkdir()
    (root / "proc/1/ns/mnt").symlink_to("mnt:[1]")
    (root / "proc/1/root").symlink_to(root)
    (root / "dev").mkdir()
    for name in ("davinci_manager", "devmm_svm", "hisi_hdc", *(f"davinci{npu}" for npu in range(NPUS))):
        (root / "dev" / name).touch()
