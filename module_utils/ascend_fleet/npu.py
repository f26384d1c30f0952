# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_info: one look at a host's NPUs and what it means."""

from __future__ import annotations

from typing import Any, Dict

from .driver_findings import ERROR, as_dicts, has_errors
from .host import Host
from .npu_answers import assess_answers
from .npu_assess import assess
from .npu_chips import known_chips
from .npu_details import ask_details, assess_details
from .npu_survey import Survey, survey
from .npu_wanted import Wanted, check_timeout, expected
from .outcome import Outcome


def npu_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Look and judge. Reading only, so check mode is the same. A sick host is a result with findings, not a failed module."""
    check_timeout(params["timeout"], "npu-smi")
    expects = expected(params["expected_chips"])
    seen = survey(host, params)
    chips = known_chips(seen)
    wanted = Wanted(expects.chips, params["allowed_container"], params["minimum_driver"], expects.count)
    findings, causes = assess(seen, chips, wanted)
    details = ask_details(host, host.which(params["npu_smi"]), chips, params["details"], params["timeout"])
    silent = [*seen.unanswered, *(item for detail in details for item in detail.unanswered)]
    findings += assess_details(details, wanted) + assess_answers(silent, chips, wanted)
    values: Dict[str, Any] = {
        "status": ERROR if has_errors(findings) else "ok",
        "chips": [known.as_dict() for known in chips],
        "findings": as_dicts(findings),
        "details": [detail.as_dict() for detail in details],
        "causes": [cause.as_dict() for cause in causes],
        **_described(seen),
    }
    return Outcome(values=values)


def _described(seen: Survey) -> Dict[str, Any]:
    """Return what identifies the host's driver and devices."""
    return {
        "tool": {
            "argv": list(seen.run.argv),
            "rc": seen.run.rc,
            "version": seen.table.tool_version,
            "driver_version": seen.table.driver_version,
        },
        "versions": seen.versions.as_dict(),
        "device_nodes": [node.phy_id for node in seen.nodes if node.is_device],
        "pci_devices": seen.pci,
    }
