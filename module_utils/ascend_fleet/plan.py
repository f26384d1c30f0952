# SPDX-License-Identifier: GPL-3.0-or-later
"""The run plan: release row, recipe, hosts and the model's own config.json become everything that the stages need to agree on.

A pure function: no host is touched, nothing is read. Either everything fits and the plan is returned, or every reason against it
is raised at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .plan_arguments import Paths, training_arguments
from .plan_findings import Findings, closest
from .plan_hosts import PlanHost, read_hosts
from .plan_placement import (
    Rank,
    Rendezvous,
    Sizes,
    environment,
    place,
    shards_by_host,
    torchrun_arguments,
    visible_devices,
)
from .plan_recipe import Recipe, read_recipe
from .plan_refusals import (
    refuse_arguments,
    refuse_batches,
    refuse_context_parallel,
    refuse_index_cache,
    refuse_sequence,
    refuse_unshardable,
    settle_sizes,
)
from .plan_release import check_choice, read_release
from .plan_shape import ModelShape, read_shape
from .plan_warnings import warn_model, warn_placement, warn_resume, warn_schedule

SCRIPT = "pretrain_gpt.py"


@dataclass(frozen=True)
class Site:
    """What only the site can say. `connect_timeout` in seconds; names are inventory names."""

    work_root: str
    master_port: int = 6000
    architecture: str = "aarch64"
    conversion_host: str = ""  # empty: the first host
    shared_storage: bool = False
    physical_ids: bool = False  # the training container is privileged
    connect_timeout: int = 1800
    environment: Mapping[str, str] = field(default_factory=dict)
    release_overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """The names by which release and recipe were asked for, and those that exist (none: nothing to compare with)."""

    release: str = ""
    releases: Sequence[str] = ()
    recipe: str = ""
    recipes: Sequence[str] = ()


@dataclass(frozen=True)
class _Settled:
    """Everything that was read and found to fit."""

    release: Mapping[str, Any]
    recipe: Recipe
    shape: ModelShape
    sizes: Sizes
    hosts: Sequence[PlanHost]
    ranks: Sequence[Rank]
    site: Site


def plan(
    release: Mapping[str, Any],
    recipe: Mapping[str, Any],
    hosts: Sequence[Mapping[str, Any]],
    model_config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    site: Site,
    choice: Optional[Choice] = None,
) -> Dict[str, Any]:
    """Return the run plan as plain data, or raise ProblemsError with every refusal.

    `release` and `recipe` are the rows of releases/ and recipes/, `hosts` a list of {name, address, npus, interface} in rank order,
    `model_config` the model's config.json, `overrides` flat changes to the recipe (tp, pp, iterations, ...).
    """
    findings = Findings()
    chosen = choice or Choice()
    check_choice("release", chosen.release, chosen.releases, findings)
    check_choice("recipe", chosen.recipe, chosen.recipes, findings)
    row = read_release(release, site.release_overrides, site.architecture, findings) if release else {}
    wanted = read_recipe(recipe, overrides, findings) if recipe else None
    fleet = read_hosts(hosts, findings)
    shape = read_shape(model_config, findings)
    _check_site(site, fleet, findings)
    sizes = _check_fit(wanted, shape, fleet, model_config, site, findings)
    findings.stop_if_refused()
    if wanted is None or shape is None or sizes is None or not row:
        raise ValueError("plan() was given an empty release or recipe without saying that its name is unknown")
    settled = _Settled(row, wanted, shape, sizes, fleet, place(sizes, fleet), site)
    return {**_assemble(settled), "problems": [], "warnings": [finding.text for finding in findings.warnings]}


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
    if not site.work_root.startswith("/"):
        findings.refuse(
            "work-root", f"Work root {site.work_root!r} is not an absolute path.", remedy="Change ascend_work_root."
        )


def _check_fit(
    recipe: Optional[Recipe],
    shape: Optional[ModelShape],
    hosts: Sequence[PlanHost],
    model_config: Mapping[str, Any],
    site: Site,
    findings: Findings,
) -> Optional[Sizes]:
    """Check everything against everything else that could be read."""
    if recipe is None:
        return None
    refuse_arguments(recipe, findings)
    warn_resume(recipe, findings)
    if shape is not None:
        refuse_unshardable(shape, recipe, findings)
        refuse_sequence(shape, recipe, model_config, findings)
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


def _assemble(settled: _Settled) -> Dict[str, Any]:
    recipe, sizes, hosts, site = settled.recipe, settled.sizes, settled.hosts, settled.site
    meet = Rendezvous(hosts[0].address, site.master_port, site.connect_timeout, site.physical_ids)
    no_shared_storage = len(hosts) > 1 and not site.shared_storage
    paths = Paths.below(site.work_root, recipe)
    return {
        "release": dict(settled.release),
        "recipe": recipe.name,
        "work_root": site.work_root,
        "world_size": sizes.world,
        "nnodes": len(hosts),
        "nproc_per_node": len(hosts[0].npus),
        "tp": sizes.tp,
        "pp": sizes.pp,
        "cp": sizes.cp,
        "dp": sizes.dp,
        "hosts": _hosts(hosts, site),
        "ranks": [rank.as_dict() for rank in settled.ranks],
        "shards": shards_by_host(settled.ranks, sizes.pp, hosts),
        "writers": shards_by_host([rank for rank in settled.ranks if rank.writes], sizes.pp, hosts),
        "training_arguments": training_arguments(settled.shape, recipe, sizes, paths, no_shared_storage),
        "environment": environment(hosts, meet, recipe.environment, site.environment),
        "launch": {
            "launcher": "torchrun",
            "arguments": torchrun_arguments(hosts, meet),
            "script": SCRIPT,
            "master_addr": meet.master_addr,
            "master_port": meet.master_port,
        },
        "model": _model(settled),
        "conversion": _conversion(settled),
        "dataset": _dataset(recipe),
        "train": _train(recipe),
    }


def _hosts(hosts: Sequence[PlanHost], site: Site) -> List[Dict[str, Any]]:
    return [
        {
            "name": host.name,
            "address": host.address,
            "interface": host.interface,
            "node_rank": node,
            "npus": list(host.npus),
            "visible_devices": visible_devices(host, site.physical_ids),
        }
        for node, host in enumerate(hosts)
    ]


def _model(settled: _Settled) -> Dict[str, Any]:
    shape, recipe = settled.shape, settled.recipe
    return {
        "type": shape.type,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kv_groups": shape.kv_groups,
        "head_dim": shape.head_dim,
        "ffn": shape.ffn,
        "vocab": shape.vocab,
        "padded_vocab": shape.padded_vocab(settled.sizes.tp, recipe.vocab_divisible_by),
        "positions": shape.positions,
        "rope_theta": shape.rope_theta,
        "norm_epsilon": shape.norm_epsilon,
        "tied": shape.tied,
        "qkv_bias": shape.qkv_bias,
        "dtype": recipe.dtype,
    }


def _conversion(settled: _Settled) -> Dict[str, Any]:
    """Return what the converter needs: the same sizes as the training by construction."""
    recipe, sizes = settled.recipe, settled.sizes
    even = [settled.shape.layers // sizes.pp] * sizes.pp
    return {
        "host": settled.site.conversion_host or settled.hosts[0].name,
        "tp": sizes.tp,
        "pp": sizes.pp,
        "dtype": recipe.dtype,
        "layers_per_stage": list(recipe.layers_per_stage or even),
        "vocab_divisible_by": recipe.vocab_divisible_by,
    }


def _dataset(recipe: Recipe) -> Dict[str, Any]:
    data = recipe.dataset
    return {"name": data.name, "keys": list(data.keys), "train_key": data.train_key, "append_eod": data.append_eod}


def _train(recipe: Recipe) -> Dict[str, Any]:
    return {
        "iterations": recipe.iterations,
        "global_batch_size": recipe.global_batch_size,
        "micro_batch_size": recipe.micro_batch_size,
        "seq_length": recipe.seq_length,
        "seed": recipe.seed,
        "split": recipe.split,
        "save_interval": recipe.save_interval,
    }
