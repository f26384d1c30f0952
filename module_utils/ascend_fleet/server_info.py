# SPDX-License-Identifier: GPL-3.0-or-later
"""Module npu_server_info: the whole driver check of one host in one call."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List

from .driver_findings import ERROR, as_dicts, has_errors
from .hccn_info import hccn_info
from .host import Host
from .npu import npu_info
from .npu_wanted import expected
from .outcome import Outcome
from .receipt import RECEIPT
from .server_facts import assess_facts, read_facts


def server_info(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Look at NPUs, their network and the host side by side. Reading only; what is wrong is a finding."""
    facts = read_facts(
        host, params["interface"], params["sent_at"]
    )  # first: the clock is compared with the time of sending
    with ThreadPoolExecutor(2) as pool:
        npus = pool.submit(npu_info, host, _of_npus(params), check_mode)
        ports = pool.submit(hccn_info, host, _of_ports(params), check_mode)
        seen, network = npus.result().values, ports.result().values
    own = assess_facts(facts, params["interface"])
    findings = [*seen["findings"], *_network_findings(seen, network), *as_dicts(own)]
    failed = has_errors(own) or any(finding["severity"] == ERROR for finding in findings)
    return Outcome(
        values={
            "status": ERROR if failed else "ok",
            "findings": findings,
            "chips": seen["chips"],  # where npu_info has them too, for those who read chips from either
            "npus": {key: value for key, value in seen.items() if key != "chips"},
            "network": network,
            "server": facts.as_dict(),
            "asked": dict(params),  # Ansible keeps no `invocation` in a registered result
            "unfinished_runs": unfinished_runs(host, params["work_root"]) if params["work_root"] else [],
        }
    )


def _of_npus(params: Dict[str, Any]) -> Dict[str, Any]:
    names = ("npu_smi", "timeout", "expected_chips", "allowed_container", "minimum_driver", "docker_cli", "details")
    return {name: params[name] for name in names}


def _of_ports(params: Dict[str, Any]) -> Dict[str, Any]:
    names = ("hccn_tool", "hccn_conf", "timeout", "optical", "mtu")
    return {"npus": sorted(expected(params["expected_chips"]).chips), **{name: params[name] for name in names}}


def _network_findings(seen: Dict[str, Any], network: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Leave out what is said of the network of a chip that is not there: that it is not there has been said."""
    absent = {finding["chip"] for finding in seen["findings"] if finding["code"] == "chip.missing"}
    return [finding for finding in network["findings"] if finding["chip"] not in absent]


def unfinished_runs(host: Host, work_root: str) -> List[str]:
    """Return the training runs below the work root that were started and have no receipt: the fleet must not change under them."""
    root = os.path.join(work_root, "run")
    found = []
    for name in host.list_dir(root):
        directory = os.path.join(root, name)
        files = host.list_dir(directory) if host.read_link(directory) is None else []
        if any(file.startswith("launch-") for file in files) and RECEIPT not in files:
            found.append(name)
    return found
