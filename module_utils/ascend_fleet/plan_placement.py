# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rank is where, which shards that puts on each host, and what each host's processes find in their environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Set

from .plan_hosts import PlanHost
from .shards import shard_name


@dataclass(frozen=True)
class Sizes:
    """The parallel sizes of a run; `dp` follows from the NPUs."""

    tp: int
    pp: int
    cp: int
    dp: int

    @property
    def world(self) -> int:
        """Number of ranks."""
        return self.tp * self.pp * self.cp * self.dp


@dataclass(frozen=True)
class Rank:
    """One training process: its global number, where it runs and its place in each dimension."""

    rank: int
    host: str
    local_rank: int
    tp: int
    cp: int
    dp: int
    pp: int

    @property
    def writes(self) -> bool:
        """Whether Megatron lets this rank save its shard: the first of the data-parallel group, context parallel included."""
        return self.dp == 0 and self.cp == 0

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "rank": self.rank,
            "host": self.host,
            "local_rank": self.local_rank,
            "tp": self.tp,
            "pp": self.pp,
            "dp": self.dp,
            "cp": self.cp,
        }


def place(sizes: Sizes, hosts: Sequence[PlanHost]) -> List[Rank]:
    """Number the ranks as Megatron does: tp fastest, then cp, then dp, then pp; hosts are filled in their order."""
    per_host = sizes.world // len(hosts)
    ranks: List[Rank] = []
    for number in range(sizes.world):
        rest, tp = divmod(number, sizes.tp)
        rest, cp = divmod(rest, sizes.cp)
        pp, dp = divmod(rest, sizes.dp)
        node, local = divmod(number, per_host)
        ranks.append(Rank(number, hosts[node].name, local, tp, cp, dp, pp))
    return ranks


def shards_by_host(ranks: Iterable[Rank], pp: int, hosts: Sequence[PlanHost]) -> Dict[str, List[str]]:
    """Return host -> sorted names of the shards that these ranks load or write there."""
    names: Dict[str, Set[str]] = {host.name: set() for host in hosts}
    for rank in ranks:
        names[rank.host].add(shard_name(rank.tp, rank.pp, pp))
    return {host: sorted(shards) for host, shards in names.items()}


@dataclass(frozen=True)
class Rendezvous:
    """Where the ranks meet, and how the site wants its processes to find each other."""

    master_addr: str
    master_port: int
    connect_timeout: int  # seconds; has to be equal on all hosts
    physical_ids: bool = False  # a privileged container sees all NPUs under their physical ids
    execution_timeout: int = 1836  # seconds that an operation may wait for its other ranks; equal on all hosts


def visible_devices(host: PlanHost, physical_ids: bool) -> str:
    """Return the ids by which the container knows the NPUs: dense from 0 in physical order, unless it is privileged."""
    ids = host.npus if physical_ids else range(len(host.npus))
    return ",".join(str(number) for number in ids)


def environment(
    hosts: Sequence[PlanHost], meet: Rendezvous, recipe: Mapping[str, str], site: Mapping[str, str]
) -> Dict[str, Dict[str, str]]:
    """Return host -> environment of its training processes; the recipe's and then the site's own values win."""
    return {
        host.name: {**_own(host, node, len(hosts), meet), **recipe, **{key: str(value) for key, value in site.items()}}
        for node, host in enumerate(hosts)
    }


def _own(host: PlanHost, node: int, nodes: int, meet: Rendezvous) -> Dict[str, str]:
    values = {
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "ASCEND_RT_VISIBLE_DEVICES": visible_devices(host, meet.physical_ids),
        "HCCL_CONNECT_TIMEOUT": str(meet.connect_timeout),
        "HCCL_EXEC_TIMEOUT": str(meet.execution_timeout),
        "MASTER_ADDR": meet.master_addr,
        "MASTER_PORT": str(meet.master_port),
        "NNODES": str(nodes),
        "NODE_RANK": str(node),
        "NPUS_PER_NODE": str(len(host.npus)),
    }
    if host.has_ip:
        values["HCCL_IF_IP"] = host.address
    if host.interface:
        # HCCL takes a bare name as a prefix (eth1 would also mean eth10); the equals sign makes it the whole name. Gloo knows no such sign.
        values["HCCL_SOCKET_IFNAME"] = f"={host.interface}"
        values["GLOO_SOCKET_IFNAME"] = host.interface
    return values


def torchrun_arguments(hosts: Sequence[PlanHost], meet: Rendezvous) -> Dict[str, List[str]]:
    """Return host -> the arguments of torchrun that stand before the script; only the node rank differs."""
    return {
        host.name: [
            *("--nproc_per_node", str(len(host.npus))),
            *("--nnodes", str(len(hosts))),
            *("--node_rank", str(node)),
            *("--master_addr", meet.master_addr),
            *("--master_port", str(meet.master_port)),
        ]
        for node, host in enumerate(hosts)
    }
