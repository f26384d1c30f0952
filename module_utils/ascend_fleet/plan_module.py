# SPDX-License-Identifier: GPL-3.0-or-later
"""The module run_plan: its parameters become a call of the pure function."""

from __future__ import annotations

from typing import Any, Dict

from .host import Host
from .outcome import Outcome
from .plan import Choice, Site, plan
from .plan_table import plan_lines


def run_plan(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Plan the run. Nothing is touched, with or without check mode, so it never changes anything."""
    del host, check_mode
    site = Site(
        work_root=params["work_root"],
        master_port=params["master_port"],
        architecture=params["architecture"],
        conversion_host=params["conversion_host"],
        shared_storage=params["shared_storage"],
        physical_ids=params["physical_ids"],
        connect_timeout=params["connect_timeout"],
        environment=params["environment"],
        release_overrides=params["release_overrides"],
    )
    choice = Choice(params["release_name"], params["known_releases"], params["recipe_name"], params["known_recipes"])
    made = plan(
        params["release"], params["recipe"], params["hosts"], params["model_config"], params["overrides"], site, choice
    )
    return Outcome(values={"plan": made, "table": plan_lines(made)})
