# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the export: which iteration of a run it can be, where its shards are, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

Saved = Mapping[str, Sequence[str]]


def export_choice(
    looks: Sequence[Mapping[str, Any] | None], writers: Mapping[str, Sequence[str]], wanted: int = 0
) -> dict[str, Any]:
    """Return `fingerprint`, `iteration` and `hosts` (host -> shards it has to give) of what can be exported.

    `looks` are the `look` of module training_job_info on every host, `writers` the plan's; `wanted` is an iteration, or 0 for the last one
    of which every shard is there. In check mode a host may have nothing to look at yet: then the iteration is 0.
    """
    there = [look for look in looks if look]
    if len(there) < len(looks) or not there:
        return {"fingerprint": "", "iteration": 0, "hosts": {}}
    names = {str(look["fingerprint"]) for look in there}
    if len(names) > 1:
        raise AnsibleFilterError(f"The hosts are in different runs ({', '.join(sorted(names))}). Run --tags training.")
    saved: dict[str, Saved] = {str(look["host"]): look["saved"] for look in there}
    needed = {host: list(shards) for host, shards in writers.items() if shards}
    complete = sorted(
        iteration
        for iteration in {int(key) for found in saved.values() for key in found}
        if all(set(shards) <= set(saved.get(host, {}).get(str(iteration), ())) for host, shards in needed.items())
    )
    if not complete or (wanted and wanted not in complete):
        raise AnsibleFilterError(_nothing(names.pop(), saved, complete, wanted))
    return {"fingerprint": names.pop(), "iteration": wanted or complete[-1], "hosts": needed}


def _nothing(run: str, saved: Mapping[str, Saved], complete: Sequence[int], wanted: int) -> str:
    there = "; ".join(
        f"{host}: {', '.join(f'{len(shards)} shards of {number}' for number, shards in sorted(found.items())) or 'none'}"
        for host, found in saved.items()
    )
    what = f"no whole checkpoint of iteration {wanted}" if wanted else "no checkpoint of which every shard is there"
    instead = f" Whole are: {', '.join(map(str, complete))}." if complete else ""
    return f"Run {run} has {what} ({there}).{instead} Remedy: run --tags training to its end, or set model_export_iteration."


def export_places(hosts: Mapping[str, Sequence[str]], exporter: str, trained: str, gathered: str) -> dict[str, str]:
    """Return shard -> its directory on the exporting host: where it was trained there, or where it was gathered from another host."""
    return {
        shard: f"{trained}/{shard}" if host == exporter else f"{gathered}/{host}/current/{shard}"
        for host, shards in hosts.items()
        for shard in shards
    }


def export_lines(result: Mapping[str, Any], host: str) -> list[str]:
    """Return what to tell about an exported model, given the result of module hf_export."""
    made = result["artifact"]["made_with"]
    loaded, compared = made["loaded"], made["compared"]
    lines = [f"Iteration {result['inputs']['iteration']} as a Hugging Face model: {host}:{result['directory']}"]
    lines.append(f"loaded as {loaded['architecture']} on {loaded['device']}, {loaded['parameters']} parameters")
    if compared.get("equal"):
        return [
            *lines,
            f"equal to the trained shards in all {compared['tensors']} tensors of {compared['ranks']} ranks",
        ]
    return [*lines, f"not compared with the shards again: {compared['why']}"]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"export_choice": export_choice, "export_places": export_places, "export_lines": export_lines}
