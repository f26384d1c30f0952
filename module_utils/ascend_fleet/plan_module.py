# SPDX-License-Identifier: GPL-3.0-or-later
"""The module run_plan: its parameters become a call of the pure function, and the plan is written where it is asked for."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping

from .errors import InputError, ProblemsError
from .host import Host
from .outcome import Outcome
from .plan import Choice, Model, Site, plan
from .plan_difference import differences
from .plan_table import plan_lines, summary_lines

SITE = (
    "work_root",
    "master_port",
    "architecture",
    "chip",
    "conversion_host",
    "shared_storage",
    "physical_ids",
    "connect_timeout",
    "execution_timeout",
    "hbm_mb",
    "memory_check",
    "search",
    "environment",
    "release_overrides",
)
REPAIR = "Repair what the driver check found, or change what is named; then run again. No later stage was started."


def run_plan(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Plan the run and write the plan, also one that is refused; only the files can change."""
    _refuse_output(host, params["output"])
    try:
        made = _plan(params)
    except ProblemsError as error:
        # Into the file and not into the result: the terminal shows a failed result whole, and this has a part for every rank.
        _write(host, params["output"], error.details.pop("plan"), check_mode)
        raise _without(error, params) from None
    written = _write(host, params["output"], made, check_mode)
    previous = params["previous"]
    values = {
        "plan": made,
        "summary": summary_lines(made),
        "table": plan_lines(made),
        "differences": differences(previous, made) if previous else [],
    }
    actions = [f"write {path}" for path in written]
    return Outcome(changed=bool(written), actions=actions, values=values)


def _refuse_output(host: Host, output: str) -> None:
    """Refuse a path that writing would ruin: /dev/null would become a file, and the page takes the place of a JSON file of its name."""
    if output and host.stat(output) is not None and not host.is_file(output):
        raise InputError(f"plan_output {output} is no file.", "Name a file; empty (plan_output=) writes nothing.")
    if output.endswith(".html"):
        raise InputError(
            f"plan_output {output} has the name of the page that goes beside the JSON.",
            f"Name the JSON file: {output[:-5]}.json.",
        )


def _without(error: ProblemsError, params: Mapping[str, Any]) -> ProblemsError:
    """Return the error with the hosts first whose absence made a plan impossible that was possible before."""
    left = {host["name"] for host in params["hosts"]}
    gone = [host["name"] for host in (params["previous"] or {}).get("hosts", []) if host["name"] not in left]
    if not gone:
        return error
    details = {**error.details, "left_out": gone}
    problems = details.pop("problems")
    first = f"The run does not work without {', '.join(gone)}, as the driver check left it"
    return ProblemsError([f"{first}: {problems[0]}", *problems[1:]], REPAIR, **details)


def _plan(params: Mapping[str, Any]) -> Dict[str, Any]:
    return plan(
        params["release"],
        params["recipe"],
        params["hosts"],
        Model(params["model_config"], params["tokenizer_config"]),
        params["overrides"],
        Site(**{name: params[name] for name in SITE}),
        Choice(params["release_name"], params["known_releases"], params["recipe_name"], params["known_recipes"]),
    )


def _write(host: Host, output: str, made: Mapping[str, Any], check_mode: bool) -> List[str]:
    """Write the plan as JSON to `output`; return the paths whose content is (or would be) new. The action plugin adds the page."""
    text = json.dumps(made, indent=2, sort_keys=True) + "\n"
    if not output or host.read_text(output) == text:
        return []
    if not check_mode:
        host.write_text(output, text)
    return [output]
