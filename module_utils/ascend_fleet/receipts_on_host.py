# SPDX-License-Identifier: GPL-3.0-or-later
"""All receipts in use on a host, in the order of the pipeline: what a report shows."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List

from .host import Host
from .outcome import Outcome
from .receipt import RECEIPT, Store, read_receipt

# Artifacts that a report speaks of. The source tree works in place and the container is none of ours to name: both have their receipt
# directly in their directory.
STAGES = (
    "image",
    "container",
    "mirror",
    "source",
    "weights",
    "checkpoint",
    "corpus",
    "dataset",
    "reference",
    "run",
    "export",
)


def in_pipeline_order(stages: Iterable[str]) -> List[str]:
    """Return each of the stages once, as the pipeline has them one after the other."""
    named = set(stages)
    return [stage for stage in STAGES if stage in named]


def gather(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Return the summaries of all receipts in use (action of module receipt_info)."""
    root = params["work_root"]
    found: List[Dict[str, Any]] = []
    for stage in STAGES:
        receipt = Store(host, root, stage).current_receipt() or read_receipt(host, os.path.join(root, stage, RECEIPT))
        if receipt is not None:
            found.append(receipt.summary())
    return Outcome(values={"receipts": found})
