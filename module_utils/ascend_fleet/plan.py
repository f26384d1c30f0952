# SPDX-License-Identifier: GPL-3.0-or-later
"""The run plan: release row, recipe, hosts and the model's own config.json become everything that the stages need to agree on.

A pure function: no host is touched, nothing is read. Either everything fits and the plan is returned, or every reason against it
is raised at once, with what would fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .errors import ProblemsError
from .plan_assemble import Settled, Site, assemble, refused
from .plan_findings import Findings, closest, counted
from .plan_fit import check_memory, gib
from .plan_foreign import refuse_foreign, refuse_recompute
from .plan_hosts import PlanHost, read_hosts
from .plan_placement import Sizes, place
from .plan_recipe import Recipe, check_overrides, read_recipe
from .plan_refusals import (
    refuse_arguments,
    refuse_batches,
    refuse_context_parallel,
    refuse_eod_as_pad,
    refuse_index_cache,
    refuse_no_eod,
    refuse_sequence,
    refuse_unshardable,
    refuse_validation,
    settle_sizes,
)
from .plan_release import check_choice, read_release
from .plan_search import Fleet, best_choices, best_sizes, enough, suggestions
from .plan_shape import ModelShape, read_shape, refuse_unreadable
from .plan_warnings import (
    warn_dataset,
    warn_model,
    warn_packed,
    warn_placement,
    warn_resume,
    warn_schedule,
    warn_validation,
)

# Refusals that other sizes of the same run may not have.
OF_SIZES = {"world-size", "tensor-parallel", "pipeline", "layers-per-stage", "global-batch", "index-cache"}

__all__ = ["Choice", "Model", "Site", "plan"]


@dataclass(frozen=True)
class Choice:
    """The names by which release and recipe were asked for, and those that exist (none: nothing to compare with)."""

    release: str = ""
    releases: Sequence[str] = ()
    recipe: str = ""
    recipes: Sequence[str] = ()


@dataclass(frozen=True)
class Model:
    """The model's own files: config.json, and tokenizer_config.json where it is at hand."""

    config: Mapping[str, Any]
    tokenizer: Optional[Mapping[str, Any]] = None


def plan(
    release: Mapping[str, Any],
    recipe: Mapping[str, Any],
    hosts: Sequence[Mapping[str, Any]],
    model: Model,
    overrides: Mapping[str, Any],
    site: Site,
    choice: Optional[Choice] = None,
) -> Dict[str, Any]:
    """Return the run plan as plain data, or raise ProblemsError with every refusal, what fits instead, and the plan so far.

    `release` and `recipe` are the rows of releases/ and recipes/, `hosts` a list of {name, address, npus, interface, hbm_mb} in
    rank order, `overrides` flat changes to the recipe (tp, pp, iterations, ...).
    """
    findings = Findings()
    chosen = choice or Choice()
    check_choice("release", chosen.release, chosen.releases, findings)
    check_choice("recipe", chosen.recipe, chosen.recipes, findings)
    check_overrides(overrides, findings)
    for kind, given, name in (("release", release, chosen.release), ("recipe", recipe, chosen.recipe)):
        if name and not given and not findings.refusals:
            findings.refuse(
                f"{kind}-empty", f"The file of {kind} {name!r} is empty.", remedy=f"Write it, or choose another {kind}."
            )
    row = read_release(release, site.release_overrides, site.architecture, site.chip, findings) if release else {}
    wanted = read_recipe(recipe, overrides, findings) if recipe else None
    fleet = read_hosts(hosts, site.hbm_mb, findings)
    shape = read_shape(model.config, findings)
    if refuse_unreadable(model.tokenizer or {}, findings):
        model = replace(model, tokenizer=None)
    _check_site(site, fleet, findings)
    if site.search and wanted is not None and shape is not None and not findings.refusals:
        wanted = _searched(wanted, shape, fleet, model, site, findings)
    if wanted is not None:
        refuse_validation(wanted, row, findings)
    sought = any(finding.code == "search" for finding in findings.refusals)
    # Where a search found nothing, the recipe's own sizes are not those that were asked for.
    sizes = _check_fit(wanted, None if sought else shape, () if sought else fleet, model, site, findings)
    instead = _other_sizes(wanted, shape, fleet, site, findings)
    if wanted is None or shape is None or sizes is None or not row:
        _raise(findings, refused(fleet), instead)
        raise ValueError("plan() was given an empty release or recipe without saying that its name is unknown")
    if findings.refusals:
        _raise(findings, refused(fleet), instead)
    return _fitted(Settled(row, wanted, shape, sizes, fleet, place(sizes, fleet), site), findings)


def _fitted(settled: Settled, findings: Findings) -> Dict[str, Any]:
    """Return the whole plan, or raise with it and what would fit, when its memory is too small."""
    recipe, sizes, site, around = settled.recipe, settled.sizes, settled.site, settled.environment
    made = assemble(settled)
    noted = Findings()
    fits = check_memory(settled.shape, recipe, sizes, settled.ranks, settled.hosts, around, noted)
    instead = [] if fits else suggestions(settled.shape, recipe, sizes, Fleet.of(settled.hosts, around))
    for finding in noted.refusals:
        if site.memory_check == "refuse":
            findings.refuse(finding.code, finding.what, "; ".join(item["text"] for item in instead[:2]), _ways(instead))
        else:
            findings.warn(finding.code, finding.what)
    _raise(findings, made, instead)
    warnings = [finding.text for finding in findings.warnings]
    return {**made, "problems": [], "warnings": warnings, "suggestions": instead}


def _ways(instead: Sequence[Mapping[str, Any]]) -> str:
    if not instead:
        return "Nothing was found that fits on these NPUs: use more of them, or a smaller model."
    return "Change seq_length, training_tp, training_pp or micro_batch_size, or set plan_search: true and let the plan choose."


def _raise(findings: Findings, made: Mapping[str, Any], instead: List[Dict[str, Any]]) -> None:
    """Raise every refusal, if there is one, with the plan as far as it goes."""
    if not findings.refusals:
        return
    problems = [finding.text for finding in findings.refusals]
    warnings = [finding.text for finding in findings.warnings]
    whole = {**made, "problems": problems, "warnings": warnings, "suggestions": instead}
    raise ProblemsError(
        problems,
        "Nothing was touched; change what is named and plan again.",
        refusals=[finding.as_dict() for finding in findings.refusals],
        plan_warnings=warnings,
        suggestions=instead,
        plan=whole,
    )


def _searched(
    recipe: Recipe, shape: ModelShape, hosts: Sequence[PlanHost], model: Model, site: Site, findings: Findings
) -> Recipe:
    """Return the recipe with the best choice of sizes that fits; with none, the recipe as it is, and why."""
    fleet = Fleet.of(hosts, _around(recipe, site))
    choices = best_choices(shape, recipe, fleet)
    if not choices:
        own = Findings()  # uneven stages, which no search tries, may still do
        _check_fit(recipe, shape, hosts, model, site, own)
        _nothing_found(recipe, shape, fleet, bool({finding.code for finding in own.refusals} & OF_SIZES), findings)
        return recipe
    best = choices[0]
    text = best.as_dict("sizes", min(host.hbm_mb for host in hosts) << 20)["text"]
    findings.warn("searched", f"Sizes were chosen by the plan (plan_search): {text}.")
    return replace(best.recipe, dp=None)


def _nothing_found(recipe: Recipe, shape: ModelShape, fleet: Fleet, hopeless: bool, findings: Findings) -> None:
    """Say that the search found nothing; where the recipe's own sizes are hopeless, refuse and say how many NPUs would do."""
    what = (
        f"plan_search found nothing that fits {fleet.hosts * fleet.per_host} NPUs of {gib(fleet.capacity)}: no TP, PP, micro batch and "
        f"recomputation leaves room and divides the layers, the heads and the global batch {recipe.global_batch_size}."
    )
    if not hopeless:
        findings.warn("search", f"{what} The recipe's own sizes are kept.")
        return
    larger = enough(shape, recipe, fleet)
    nearest = f"{larger.hosts * larger.per_host} NPUs on {counted(larger.hosts, 'host')}" if larger else ""
    findings.refuse("search", what, nearest, _ways([]))


def _other_sizes(
    recipe: Optional[Recipe], shape: Optional[ModelShape], hosts: Sequence[PlanHost], site: Site, findings: Findings
) -> List[Dict[str, Any]]:
    """Return what would fit, where nothing but the sizes is refused."""
    codes = {finding.code for finding in findings.refusals}
    if recipe is None or shape is None or not codes or not codes <= OF_SIZES:
        return []
    if len({len(host.npus) for host in hosts}) != 1 or not hosts[0].npus:
        return []
    return best_sizes(shape, recipe, Fleet.of(hosts, _around(recipe, site)))


def _around(recipe: Recipe, site: Site) -> Dict[str, str]:
    return {**recipe.environment, **{key: str(value) for key, value in site.environment.items()}}


def _check_site(site: Site, hosts: Sequence[PlanHost], findings: Findings) -> None:
    names = [host.name for host in hosts]
    if site.conversion_host and names and site.conversion_host not in names:
        findings.refuse(
            "conversion-host",
            f"Conversion host {site.conversion_host!r} is not one of the hosts of this run.",
            closest(site.conversion_host, names),
            "Change conversion_host.",
        )
    if not 1024 <= site.master_port <= 65535:
        findings.refuse(
            "master-port",
            f"Master port {site.master_port} is not between 1024 and 65535.",
            "6000",
            "Change run_plan_master_port.",
        )
    # HCCL waits for an operation's other ranks for ever when that is 0, but never for a connection.
    for name, seconds, least in (("connect", site.connect_timeout, 1), ("execution", site.execution_timeout, 0)):
        if seconds < least:
            findings.refuse(
                "timeout",
                f"The {name} timeout is {seconds} seconds: no rank would wait for another.",
                "1800",
                f"Change run_plan_{name}_timeout.",
            )
    if not site.work_root.startswith("/"):
        findings.refuse(
            "work-root", f"Work root {site.work_root!r} is not an absolute path.", remedy="Change ascend_work_root."
        )


def _check_fit(
    recipe: Optional[Recipe],
    shape: Optional[ModelShape],
    hosts: Sequence[PlanHost],
    model: Model,
    site: Site,
    findings: Findings,
) -> Optional[Sizes]:
    """Check everything against everything else that could be read."""
    if recipe is None:
        return None
    refuse_arguments(shape, recipe, findings)
    refuse_foreign(recipe, findings)
    refuse_recompute(recipe, findings)
    refuse_no_eod(recipe, model.tokenizer, findings)
    refuse_eod_as_pad(recipe, model.tokenizer, findings)
    warn_dataset(recipe, findings)
    warn_resume(recipe, findings)
    warn_packed(recipe, findings)
    warn_validation(recipe, findings)
    if shape is not None:
        refuse_unshardable(shape, recipe, findings)
        refuse_sequence(shape, recipe, model.config, findings)
        refuse_context_parallel(shape, recipe, findings)
        warn_model(shape, recipe, findings)
    equal = len({len(host.npus) for host in hosts}) == 1
    sizes = settle_sizes(recipe, hosts, findings) if equal else None
    if sizes is not None:
        refuse_batches(recipe, sizes, findings)
        refuse_index_cache(hosts, sizes, site.shared_storage, findings)
        warn_placement(hosts, sizes, findings)
        warn_schedule(recipe, sizes, findings)
    return sizes
