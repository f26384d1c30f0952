# SPDX-License-Identifier: GPL-3.0-or-later
"""The run plan as plain data, made of what was read and found to fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence

from .plan_arguments import Paths, training_arguments
from .plan_fit import rank_memory
from .plan_hosts import PlanHost
from .plan_memory import layers_of, memory_by_stage
from .plan_placement import Rank, Rendezvous, Sizes, environment, shards_by_host, torchrun_arguments, visible_devices
from .plan_recipe import Recipe
from .plan_shape import ModelShape

SCRIPT = "pretrain_gpt.py"


@dataclass(frozen=True)
class Site:
    """What only the site can say. Timeouts in seconds; names are inventory names; `hbm_mb` for hosts that do not say theirs."""

    work_root: str
    master_port: int = 6000
    architecture: str = "aarch64"
    chip: str = "a2"  # for releases whose images differ by it
    conversion_host: str = ""  # empty: the first host
    shared_storage: bool = False
    physical_ids: bool = False  # the training container is privileged
    connect_timeout: int = 1800
    execution_timeout: int = 1836
    hbm_mb: int = 65536
    memory_check: str = "refuse"  # or warn: the estimate is coarse, and a site may know better
    search: bool = False  # let the plan choose TP, PP, micro batch and recomputation
    environment: Mapping[str, str] = field(default_factory=dict)
    release_overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settled:
    """Everything that was read and found to belong together."""

    release: Mapping[str, Any]
    recipe: Recipe
    shape: ModelShape
    sizes: Sizes
    hosts: Sequence[PlanHost]
    ranks: Sequence[Rank]
    site: Site

    @property
    def environment(self) -> Dict[str, str]:
        """What recipe and site put into the environment of every host's processes."""
        return {**self.recipe.environment, **{key: str(value) for key, value in self.site.environment.items()}}


def assemble(settled: Settled) -> Dict[str, Any]:
    """Return the plan without its problems, warnings and suggestions."""
    recipe, sizes, hosts, site = settled.recipe, settled.sizes, settled.hosts, settled.site
    meet = Rendezvous(
        hosts[0].address, site.master_port, site.connect_timeout, site.physical_ids, site.execution_timeout
    )
    no_shared_storage = len(hosts) > 1 and not site.shared_storage
    paths = Paths.below(site.work_root, recipe)
    stages = memory_by_stage(settled.shape, recipe, sizes, settled.environment)
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
        "physical_ids": site.physical_ids,
        "hosts": _hosts(hosts, site),
        "ranks": [rank.as_dict() for rank in settled.ranks],
        "shards": shards_by_host(settled.ranks, sizes.pp, hosts),
        "writers": shards_by_host([rank for rank in settled.ranks if rank.writes], sizes.pp, hosts),
        "training_arguments": training_arguments(settled.shape, recipe, sizes, paths, no_shared_storage),
        "environment": environment(hosts, meet, recipe.environment, site.environment),
        "memory": rank_memory(stages, settled.ranks, hosts),
        "launch": {
            "launcher": str(settled.release.get("launch", "torchrun")),
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


def refused(hosts: Sequence[PlanHost]) -> Dict[str, Any]:
    """Return the keys of a plan that could not be made, so that a reader of its JSON finds each of them."""
    return {
        "world_size": sum(len(host.npus) for host in hosts),
        "ranks": [],
        "shards": {},
        "training_arguments": [],
        "environment": {},
        "memory": [],
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
            "hbm_mb": host.hbm_mb,
        }
        for node, host in enumerate(hosts)
    ]


def _model(settled: Settled) -> Dict[str, Any]:
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


def _conversion(settled: Settled) -> Dict[str, Any]:
    """Return what the converter needs: the same sizes as the training by construction."""
    recipe, sizes = settled.recipe, settled.sizes
    return {
        "host": settled.site.conversion_host or settled.hosts[0].name,
        "tp": sizes.tp,
        "pp": sizes.pp,
        "dtype": recipe.dtype,
        "layers_per_stage": layers_of(settled.shape, recipe, sizes.pp),
        "vocab_divisible_by": recipe.vocab_divisible_by,
    }


def _dataset(recipe: Recipe) -> Dict[str, Any]:
    data = recipe.dataset
    return {
        "name": data.name,
        "keys": list(data.keys),
        "train_key": data.train_key,
        "append_eod": data.append_eod,
        "template": data.template,
        "validation": data.validation,
    }


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
