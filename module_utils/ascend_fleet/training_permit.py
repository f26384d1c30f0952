# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a plan may be carried out at all, asked before the first stage of it: a run that left something is not given up unasked.

What the stages before training will leave is not known yet. What the plan alone says of a run is: its arguments, sizes and sources.
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping

from .host import Host
from .outcome import Outcome
from .receipt import Store
from .training_decide import other_order, refuse_superseding
from .training_inputs import STAGE, planned_inputs
from .training_look import run_in_use


def permit(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Refuse what state started would refuse for the plan's sake (state permitted of module training_job). Changes nothing."""
    asked = planned_inputs(params["plan"], params["work_root"])
    store = Store(host, params["work_root"], STAGE)
    other = run_in_use(host, params["work_root"], params["host"])
    outcome = Outcome(values={"fingerprint": other.get("fingerprint"), "run_state": other.get("state", "absent")})
    if not other:
        return outcome
    if _part(other["inputs"], asked) == asked:
        _refuse_other_order(params, other)
        return outcome
    # A finished run is put in use again without being trained again, so nothing is lost by asking for it.
    if other["alive"] or not _finished(store, asked):
        refuse_superseding(params["host"], {**other, "inputs": _part(other["inputs"], asked)}, asked, params["new_run"])
    return outcome


def _refuse_other_order(params: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse what state started would: to go on with, or over, a run in which this host has another rank."""
    planned = [item["name"] for item in sorted(params["plan"]["hosts"], key=lambda item: int(item["node_rank"]))]
    order, name = other["order"], params["host"]
    same = not order or name not in planned or order.index(name) == planned.index(name)
    if same or other["state"] == "finished":
        return
    if other["alive"] or (other["holds_work"] and not params["new_run"]):
        raise other_order(name, other["state"], other["alive"], order, planned)


def _finished(store: Store, asked: Mapping[str, Any]) -> bool:
    """Say whether a finished run of these inputs lies here."""
    names = [name for name in store.host.list_dir(store.root) if not os.path.islink(store.path(name))]
    receipts = [store.read(name) for name in names]
    return any(receipt is not None and _part(receipt.inputs, asked) == asked for receipt in receipts)


def _part(inputs: Mapping[str, Any], asked: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: value for key, value in inputs.items() if key in asked}
