# SPDX-License-Identifier: GPL-3.0-or-later
"""What one caller is told: the NPUs it can see, who holds them, or the code with which the driver refuses.

As behind the real driver: a caller in the host's mount namespace (or a privileged one) sees every NPU and is never
refused; any other sees the nodes in its own /dev, with logical ids dense in ascending physical order, and is refused
as a whole while one of them is held in a mount namespace that is neither its own nor the host's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from lab_driver import machine, models, settings
from lab_driver.machine import Holder
from lab_driver.models import Model
from lab_driver.settings import Faults

NO_DEVICE = -8005
IN_USE = -8020
MTU = 1500
_NUMBERS = ("C1", "C2", "81", "82", "01", "02", "41", "42", "9C", "9E", "37", "39", "A1", "A3", "3B", "3D")
_BUSES = tuple(f"0000:{number}:00.0" for number in _NUMBERS)


def view(root: Path, caller: int, host: int) -> Dict[str, Any]:
    """Everything the tools print for the process `caller`; `host` is a process of the host itself.

    The result can be written as JSON: `error` (a code or None), `versions`, `complete`, `in_container`, `model` and `npus`, one row
    a chip.
    """
    faults = Faults.of(root)
    admin = machine.namespace(root, caller) == machine.namespace(root, host) or machine.is_privileged(root, caller)
    seen = machine.present_npus(root, host if admin else caller)
    held = machine.holders(root)
    present = [npu for npu in seen if not faults.npu(npu).get("dropped")]
    kind = models.model(faults.chip)
    return {
        "error": _refusal(root, caller, host, seen, held, admin),
        "in_container": machine.namespace(root, caller) != machine.namespace(root, host),
        "complete": settings.installed_completely(root),
        "versions": _versions(root, faults),
        "hangs": [tool for tool in ("npu-smi", "hccn_tool") if faults.hangs(tool)],
        "model": {**vars(kind), "full_name": kind.full_name, "dies": kind.dies},
        "npus": [
            _npu(root, kind, npu, npu if admin else logic, held.get(npu, []), faults.npu(npu))
            for logic, npu in enumerate(present)
        ],
    }


def _refusal(
    root: Path, caller: int, host: int, seen: List[int], held: Dict[int, List[Holder]], admin: bool
) -> Optional[int]:
    if not seen:
        return NO_DEVICE
    own = {machine.namespace(root, caller), machine.namespace(root, host)}
    foreign = [holder for npu in seen for holder in held.get(npu, []) if holder.namespace not in own]
    return IN_USE if foreign and not admin else None


def _versions(root: Path, faults: Faults) -> Dict[str, str]:
    driver = faults.version("driver", settings.driver_version(root))
    return {
        "driver": driver,
        "tool": faults.version("tool", settings.driver_version(root)),
        "firmware": faults.version("firmware", settings.firmware_version(root)),
    }


def _npu(root: Path, kind: Model, npu: int, logic: int, held: List[Holder], fault: Dict[str, Any]) -> Dict[str, Any]:
    """One chip's row; sensors have a resting value of their own, faults replace what they name. `npu` is its physical id."""
    busy = min(100, sum(holder.cpu_percent for holder in held))
    card, chip = divmod(npu, kind.dies)
    total = int(fault.get("hbm_total", kind.hbm))
    used = kind.idle_hbm[chip] + npu % 4 + sum(holder.memory for holder in held)
    row: Dict[str, Any] = {
        "id": card,
        "chip": chip,
        "phy": npu,
        "name": kind.name,
        "logic": logic,
        "bus": _BUSES[npu % len(_BUSES)],
        "health": "OK",
        "error_code": None,
        "error_information": None,
        "power": None if chip else kind.watts + 1.7 * (npu % 4) + busy,
        "temperature": 40 + npu % 4 + busy // 5,
        "aicore": busy,
        "hbm_used": min(total, used),
        "hbm_total": total,
        "ddr_used": kind.idle_ddr,
        "ddr_total": kind.ddr,
        "link": "UP",
        "tls": 0,
        "mtu": MTU,
        "ecc_double": 0,
        "processes": [{"pid": holder.pid, "memory": holder.memory} for holder in held],
    }
    row.update(settings.network(root, npu))
    row.update({name: value for name, value in fault.items() if name != "dropped"})
    return row
