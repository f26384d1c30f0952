# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement over an optical module: its values against the thresholds that it names itself. Pure, no effects."""

from __future__ import annotations

import re
from typing import Dict, List, Optional, Tuple

from .driver_findings import WARNING, Finding
from .hccn import Port

_NUMBER = re.compile(r"^-?[0-9]{1,9}(?:\.[0-9]{1,9})?(?=\s|$)")
_FLAG = re.compile(r"^0x([0-9a-fA-F]{1,8})$")
_LANE = re.compile(r"\s*[0-9]{0,2}$")

# What is measured, and how its thresholds are called. Versions number the lanes (`Rx Power0`) or do not.
_MEASURED: Dict[str, str] = {
    "tx power": "txpower",
    "rx power": "rxpower",
    "temperature": "temp",
    "temp": "temp",
    "vcc": "vcc",
}
_FLAGS = {
    "rx los flag": "receives no light",
    "tx los flag": "is given no signal to send",
    "rx lol flag": "cannot lock on what it receives",
}


def assess_optical(port: Port) -> List[Finding]:
    """Return what is wrong with a module that is there; copper has none, and then nothing was asked for."""
    values = {key.lower(): value for key, value in port.optical}
    if values.get("present") != "present":
        return []
    outside = [text for text in (_outside(key, value, values) for key, value in values.items()) if text]
    dark = [f"{what} ({key} {values[key]})" for key, what in _FLAGS.items() if _is_set(values.get(key, ""))]
    if not outside and not dark:
        return []
    message = f"NPU {port.phy_id}: its optical module {'; '.join([*dark, *outside])}."
    remedy = (
        "Clean and reseat the module and its fibre at both ends, then exchange the module; the switch port is named by "
        f"`hccn_tool -i {port.phy_id} -lldp -g`."
    )
    return [Finding("optical.values", WARNING, message, remedy, port.phy_id)]


def _outside(key: str, value: str, values: Dict[str, str]) -> Optional[str]:
    """Word a value that is beyond its threshold; None where it is not, or where the module names none."""
    name = _MEASURED.get(_LANE.sub("", key))
    measured = _number(value)
    if name is None or measured is None:
        return None
    low, high = _thresholds(name, values)
    if low is not None and measured < low:
        return f"has {key} {value}, below {low:g}"
    if high is not None and measured > high:
        return f"has {key} {value}, above {high:g}"
    return None


def _thresholds(name: str, values: Dict[str, str]) -> Tuple[Optional[float], Optional[float]]:
    return _number(values.get(f"{name} low thres", "")), _number(values.get(f"{name} high thres", ""))


def _number(text: str) -> Optional[float]:
    found = _NUMBER.match(text)
    return float(found.group(0)) if found else None


def _is_set(text: str) -> bool:
    found = _FLAG.match(text)
    return found is not None and int(found.group(1), 16) != 0
