# SPDX-License-Identifier: GPL-3.0-or-later
"""How a stage finds what the stages before it left on this host."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from .errors import FleetError
from .host import Host
from .outcome import Outcome
from .receipt import Receipt, Store, fingerprint

# stage directory -> the tag that makes it
TAG_OF = {
    "weights": "weights",
    "corpus": "preprocessing",
    "checkpoint": "conversion",
    "dataset": "preprocessing",
    "run": "training",
}


def predecessor(host: Host, work_root: str, stage: str) -> Receipt:
    """Return the receipt of the artifact of `stage` that is in use here; FleetError with the tag to run where there is none."""
    receipt = Store(host, work_root, stage).current_receipt()
    if receipt is None:
        raise FleetError(
            f"There is no {stage} artifact with a receipt in {work_root}/{stage}/current.",
            f"Run the stage before this one: --tags {TAG_OF.get(stage, stage)}.",
        )
    return receipt


def prediction(host: Host, work_root: str, stage: str, needs: List[str]) -> Optional[Outcome]:
    """In check mode: what to report when the stages that this one builds on have not run yet, None where they have."""
    missing = [name for name in needs if Store(host, work_root, name).current_receipt() is None]
    return predicted(Store(host, work_root, stage), missing) if missing else None


def predicted(store: Store, missing: List[str]) -> Outcome:
    """Return what check mode reports of a stage that waits for what is missing."""
    action = f"{store.stage}: would be made once {' and '.join(missing)} is there"
    # What those stages leave decides about the inputs; these stand in for them, so that the hosts which get a copy can predict theirs.
    inputs = {"to come": missing}
    values: Dict[str, Any] = {
        "artifact": None,
        "found": "absent",
        "fingerprint": None,
        "directory": store.path(fingerprint(inputs)),
        "inputs": inputs,
        "parents": {},
    }
    return Outcome(True, before={"found": ["absent"]}, after={"found": []}, actions=[action], values=values)
