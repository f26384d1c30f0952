# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a person reads it on a terminal."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .plan_findings import counted
from .plan_fit import gib

ARGUMENT_WIDTH = 120  # columns that a line of arguments may fill
BAR_WIDTH = 48  # columns of an NPU's whole memory
MOST_RANKS = 16  # more are shown stage by stage
MOST_HOSTS = 40  # of more, the first and the last are shown; all of them are in the JSON
PARTS = (("static", "#"), ("activation", "="), ("communication", "+"), ("runtime", "."))


def plan_lines(plan: Mapping[str, Any]) -> List[str]:
    """Return the lines of a plan: what is trained, which host does what, its memory, the launch line and what is doubtful."""
    return [*_head(plan), "", *_hosts(plan), "", *_memory(plan), "", *_launch(plan), *_warnings(plan)]


def summary_lines(plan: Mapping[str, Any]) -> List[str]:
    """Return the lines for a run that is about another stage."""
    return _head(plan) + _warnings(plan)


def _head(plan: Mapping[str, Any]) -> List[str]:
    model, train, release = plan["model"], plan["train"], plan["release"]
    mixed = " (mixed)" if release["mixed"] else ""
    return [
        f"Release {release['name']}{mixed}, recipe {plan['recipe']}, image {release['image']}",
        f"Model   {model['type']}: {model['layers']} layers, hidden {model['hidden']}, {model['heads']} heads in "
        f"{model['kv_groups']} groups, vocabulary {model['padded_vocab']}, {model['dtype']}",
        f"Run     {train['iterations']} iterations of {train['global_batch_size']} x {train['seq_length']} tokens, micro batch "
        f"{train['micro_batch_size']}",
        f"World   {plan['world_size']} = TP {plan['tp']} x PP {plan['pp']} x CP {plan['cp']} x DP {plan['dp']} on "
        f"{counted(plan['nnodes'], 'host')} with {counted(plan['nproc_per_node'], 'NPU')} each",
    ]


def _hosts(plan: Mapping[str, Any]) -> List[str]:
    rows: List[Sequence[str]] = [("node", "host", "address", "NPUs", "seen as", "ranks", "shards")]
    for host in plan["hosts"]:
        first = host["node_rank"] * plan["nproc_per_node"]
        last = first + plan["nproc_per_node"] - 1
        npus = ",".join(str(npu) for npu in host["npus"])
        ranks = str(first) if first == last else f"{first}-{last}"
        shards = " ".join(plan["shards"][host["name"]])
        rows.append(
            (str(host["node_rank"]), host["name"], host["address"], npus, host["visible_devices"], ranks, shards)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    shown = lines[1:]
    if len(shown) > MOST_HOSTS:
        half = MOST_HOSTS // 2
        shown = [*shown[:half], f"      ... {len(shown) - 2 * half} more hosts ...", *shown[-half:]]
    return [lines[0], "  ".join("-" * width for width in widths), *shown]


def _memory(plan: Mapping[str, Any]) -> List[str]:
    """Return a bar for each rank, or for each stage where there are many ranks."""
    groups = _groups(plan)
    width = max(len(name) for name, _ in groups)
    legend = "Memory of an NPU by estimate: # parameters and optimizer, = activations, + buffers, . runtime, then what is free"
    lines = [f"{name.ljust(width)}  [{_bar(need)}] {_figures(need)}" for name, need in groups]
    return [legend, *lines]


def _groups(plan: Mapping[str, Any]) -> List[Tuple[str, Mapping[str, int]]]:
    """Return (name, memory) of every rank, or of the ranks of each stage on NPUs of one size."""
    ranks = {rank["rank"]: rank for rank in plan["ranks"]}
    if len(ranks) <= MOST_RANKS:
        return [(_place(ranks[need["rank"]]), need) for need in plan["memory"]]
    groups: Dict[Tuple[int, int], List[Mapping[str, int]]] = {}
    for need in plan["memory"]:
        groups.setdefault((ranks[need["rank"]]["pp"], need["capacity"]), []).append(need)
    return [(f"stage {stage}: {len(needs)} ranks", needs[0]) for (stage, _), needs in groups.items()]


def _place(rank: Mapping[str, Any]) -> str:
    return f"rank {rank['rank']:>2} on {rank['host']} (tp {rank['tp']} pp {rank['pp']} dp {rank['dp']})"


def _bar(need: Mapping[str, int]) -> str:
    """Return a bar of fixed width; what does not fit is cut off and shown by the figures."""
    text, end = "", 0
    for part, sign in PARTS:
        end += need[part]
        text += sign * (round(end / need["capacity"] * BAR_WIDTH) - len(text))
    return text[:BAR_WIDTH].ljust(BAR_WIDTH)


def _figures(need: Mapping[str, int]) -> str:
    over = "  DOES NOT FIT" if need["total"] > need["capacity"] else ""
    return f"{gib(need['total'])} of {gib(need['capacity'])}{over}"


def _launch(plan: Mapping[str, Any]) -> List[str]:
    launch = plan["launch"]
    words = list(launch["arguments"][plan["hosts"][0]["name"]])
    words[words.index("--node_rank") + 1] = "<node>"
    start = " ".join([launch["launcher"], *words, launch["script"]])
    return ["Launch on every host, with its own node number:", f"  {start}", *_wrapped(plan["training_arguments"])]


def _wrapped(arguments: Sequence[str]) -> List[str]:
    """Return arguments in lines of a terminal's width, a flag never parted from its value."""
    pairs: List[str] = []
    for word in arguments:
        if word.startswith("--") or not pairs:
            pairs.append(word)
        else:
            pairs[-1] += f" {word}"
    lines: List[str] = []
    for pair in pairs:
        if lines and len(lines[-1]) + 1 + len(pair) <= ARGUMENT_WIDTH:
            lines[-1] += f" {pair}"
        else:
            lines.append(f"    {pair}")
    return lines


def _warnings(plan: Mapping[str, Any]) -> List[str]:
    return ["", "Warnings:", *[f"  - {text}" for text in plan["warnings"]]] if plan["warnings"] else []
