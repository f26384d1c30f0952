# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of module training_job."""

from __future__ import annotations

from typing import Any, Dict

from .errors import InputError
from .host import Host
from .outcome import Outcome
from .training_finish import finish
from .training_permit import permit
from .training_start import start
from .training_stop import stop


def settle(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring about the state that was asked for."""
    if params["state"] == "stopped":
        return stop(host, params, check_mode)
    if not params["plan"]:
        raise InputError(f"State {params['state']} needs the run plan.", 'Give plan: "{{ fleet_plan }}".')
    return {"permitted": permit, "started": start, "finished": finish}[params["state"]](host, params, check_mode)
