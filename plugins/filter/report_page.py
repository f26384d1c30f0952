# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters report_page and plan_page: data of a run, or a run plan, as one HTML page that needs nothing else.

The templates of role run_report draw both. They are filled here and not by ansible.builtin.template for two reasons: everything they
show is escaped by itself (file names, messages of tools and users' variables are shown), and a run that failed before its report stage
gets its page from a callback, where no task runs any more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.loader import filter_loader
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).resolve().parents[2] / "roles" / "run_report" / "templates"
# Of this project's filters, those that the templates use.
USED = (
    "driver_groups",
    "finding_groups",
    "human_bytes",
    "loss_chart",
    "memory_chart",
    "placement_chart",
    "plan_host_rows",
    "receipt_chain",
    "receipt_stages",
    "report_gib",
    "report_names",
    "report_outcome",
    "report_span",
    "timeline_chart",
    "training_facts",
)


def report_page(data: Mapping[str, Any]) -> str:
    """Return the report of a run: `data` as action report_file keeps it, {piece: {at, is}} with any of the pieces."""
    return _render("report.html.j2", {name: data.get(name) for name in ("plan", "drivers", "hosts", "run", "worked")})


def plan_page(plan: Mapping[str, Any]) -> str:
    """Return the page of a plan; of one that was refused early it shows the problems and no pictures."""
    return _render("plan.html.j2", {"plan": plan})


def _render(template: str, variables: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({name: filter_loader.get(name).j2_function for name in USED})
    environment.filters.update(moment=moment, pretty=pretty)
    return environment.get_template(template).render(variables)


def moment(seconds: float) -> str:
    """Return a time since the epoch as date and time of the controller's own clock, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))


def pretty(value: Any) -> str:
    """Return data as indented JSON."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"report_page": report_page, "plan_page": plan_page}
