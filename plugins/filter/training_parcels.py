# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter training_parcels: which shards of a run have to be brought to which host before it can go on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# On the controller module_utils is a directory like any other.
sys.path.append(str(Path(__file__).resolve().parents[2] / "module_utils"))

from ascend_fleet.training_bring import parcels


def training_parcels(looks: Sequence[Mapping[str, Any] | None], new_run: bool) -> dict[str, list[dict[str, Any]]]:
    """Return host -> [{from, source, stage, patterns}], for role artifact_transfer; hosts that lack nothing are left out.

    `looks` are the `look` of module training_job_info on every host. In check mode a host may have nothing to look at yet: then nothing
    is known, and nothing is brought.
    """
    there = [look for look in looks if look]
    return parcels(there, new_run) if len(there) == len(looks) else {}


class FilterModule:
    """Filters of role pretraining."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"training_parcels": training_parcels}
