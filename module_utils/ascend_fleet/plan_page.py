# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as one HTML page that needs nothing else: which rank is where, and how full each NPU gets."""

from __future__ import annotations

from html import escape
from typing import Any, Dict, List, Mapping, Sequence

from .plan_fit import gib

PARTS = (
    ("static", "parameters, gradients, optimizer", "#3b6ea5"),
    ("activation", "activations", "#e08e45"),
    ("communication", "communication buffers", "#7aa974"),
    ("runtime", "driver and runtime", "#9a9a9a"),
)
STAGES = ("#3b6ea5", "#e08e45", "#5f9e6e", "#b55d60", "#857aab", "#8d7866", "#d095bf", "#62a5b8")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid #ddd; padding: .2rem .8rem; text-align: left; }
pre { background: #f5f5f5; padding: .8rem; white-space: pre-wrap; } .bad { color: #a02020; } svg text { font: 12px sans-serif; }
.key { display: inline-block; width: .8rem; height: .8rem; margin: 0 .3rem 0 1rem; }
"""
BAR = 560  # width of an NPU's whole memory
ROW = 24  # height of a memory bar with its gap
CELL = 46  # width of a rank
LABELLED = 512  # more ranks are drawn without their numbers
MOST_BARS = 64  # more ranks than this share the bar of their stage


def page(plan: Mapping[str, Any]) -> str:
    """Return the page; a plan that was refused early has its problems and no pictures."""
    parts = [_head(plan), _list("Problems", plan["problems"], "bad"), _suggestions(plan["suggestions"])]
    if plan["ranks"]:
        parts += [_memory(plan), _placement(plan), _hosts(plan), _launch(plan)]
    parts.append(_list("Warnings", plan["warnings"], ""))
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Run plan</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _head(plan: Mapping[str, Any]) -> str:
    if "model" not in plan:
        return f"<h1>Run plan: refused</h1><p>{plan['world_size']} NPUs were declared.</p>"
    model, train, release = plan["model"], plan["train"], plan["release"]
    mixed = f" (mixed: {', '.join(release['mixed'])})" if release["mixed"] else ""
    title = "Run plan: refused" if plan["problems"] else "Run plan"
    sizes = f"TP {plan['tp']} x PP {plan['pp']} x CP {plan['cp']} x DP {plan['dp']} = {plan['world_size']} ranks"
    lines = [
        f"Release {release['name']}{mixed}, recipe {plan['recipe']}, image {release['image']}",
        f"{model['type']}: {model['layers']} layers, hidden {model['hidden']}, {model['heads']} heads in {model['kv_groups']} groups, "
        f"vocabulary {model['padded_vocab']}, {model['dtype']}",
        f"{sizes} on {plan['nnodes']} hosts; {train['iterations']} iterations of {train['global_batch_size']} x "
        f"{train['seq_length']} tokens, micro batch {train['micro_batch_size']}",
    ]
    return f"<h1>{title}</h1><p>{'<br>'.join(escape(line) for line in lines)}</p>"


def _list(title: str, lines: Sequence[str], style: str) -> str:
    if not lines:
        return ""
    return f'<h2>{title}</h2><ul class="{style}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _suggestions(items: Sequence[Mapping[str, Any]]) -> str:
    return _list("What fits instead", [str(item["text"]) for item in items], "")


def _memory(plan: Mapping[str, Any]) -> str:
    rows = _bars(plan)
    longest = max(row["capacity"] for _, row in rows)
    scale = BAR / max(longest, max(row["total"] for _, row in rows))
    drawn = [_bar(name, row, number * ROW, scale) for number, (name, row) in enumerate(rows)]
    keys = "".join(f'<span class="key" style="background:{color}"></span>{what}' for _, what, color in PARTS)
    return (
        f"<h2>Memory of each NPU, by estimate</h2><p>{keys}; the line is what the NPU has.</p>"
        f'<svg width="{BAR + 420}" height="{len(rows) * ROW + 4}" role="img">{"".join(drawn)}</svg>'
    )


def _bars(plan: Mapping[str, Any]) -> List[Any]:
    """Return (name, memory) of each rank, or, of many, of each stage and size of NPU."""
    if len(plan["ranks"]) <= MOST_BARS:
        return [(f"rank {rank['rank']} on {rank['host']}", need) for rank, need in zip(plan["ranks"], plan["memory"])]
    groups: Dict[Any, List[Any]] = {}
    for rank, need in zip(plan["ranks"], plan["memory"]):
        groups.setdefault((rank["pp"], need["capacity"]), []).append(need)
    return [(f"stage {stage}: {len(needs)} ranks", needs[0]) for (stage, _), needs in groups.items()]


def _bar(name: str, need: Mapping[str, int], top: int, scale: float) -> str:
    left, drawn = 190.0, [f'<text x="0" y="{top + 15}">{escape(name)}</text>']
    for part, what, color in PARTS:
        width = need[part] * scale
        title = f"{what}: {gib(need[part])}"
        drawn.append(
            f'<rect x="{left:.1f}" y="{top + 2}" width="{width:.1f}" height="18" fill="{color}"><title>{title}</title></rect>'
        )
        left += width
    end = 190 + need["capacity"] * scale
    figures = f"{gib(need['total'])} of {gib(need['capacity'])}"
    style = ' fill="#a02020"' if need["total"] > need["capacity"] else ""
    drawn.append(f'<line x1="{end:.1f}" x2="{end:.1f}" y1="{top}" y2="{top + 22}" stroke="#a02020" stroke-width="2"/>')
    drawn.append(f'<text x="{max(left, end) + 8:.1f}" y="{top + 15}"{style}>{figures}</text>')
    return "".join(drawn)


def _placement(plan: Mapping[str, Any]) -> str:
    """Return a row for each host, a cell for each of its ranks, coloured by pipeline stage."""
    labelled = len(plan["ranks"]) <= LABELLED
    height = 34 if labelled else 10
    rows = {host["name"]: number for number, host in enumerate(plan["hosts"])}
    drawn = [
        f'<text x="0" y="{number * height + height - 4}">{escape(name)}</text>'
        for name, number in rows.items()
        if labelled
    ]
    drawn += [_cell(rank, rows[rank["host"]] * height, height, labelled) for rank in plan["ranks"]]
    width = 190 + plan["nproc_per_node"] * (CELL if labelled else 12)
    keys = "".join(
        f'<span class="key" style="background:{_color(stage)}"></span>stage {stage}'
        for stage in range(min(plan["pp"], 16))
    )
    return (
        f"<h2>Which rank is where</h2><p>A row is a host, a cell a rank with its number and its place in TP and DP;{keys}</p>"
        f'<svg width="{width}" height="{len(rows) * height + 4}" role="img">{"".join(drawn)}</svg>'
    )


def _color(stage: int) -> str:
    return STAGES[stage % len(STAGES)]


def _cell(rank: Mapping[str, Any], top: int, height: int, labelled: bool) -> str:
    width = CELL if labelled else 12
    left = (190 if labelled else 0) + rank["local_rank"] * width
    where = f"rank {rank['rank']} on {rank['host']}: tp {rank['tp']}, cp {rank['cp']}, dp {rank['dp']}, pp {rank['pp']}"
    box = (
        f'<rect x="{left}" y="{top + 1}" width="{width - 2}" height="{height - 2}" fill="{_color(rank["pp"])}">'
        f"<title>{escape(where)}</title></rect>"
    )
    if not labelled:
        return box
    return (
        f'{box}<text x="{left + 4}" y="{top + 14}" fill="#fff">{rank["rank"]}</text>'
        f'<text x="{left + 4}" y="{top + 28}" fill="#fff">t{rank["tp"]} d{rank["dp"]}</text>'
    )


def _hosts(plan: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("node", "host", "address", "interface", "NPUs", "shards"))
    rows = []
    for host in plan["hosts"][:LABELLED]:
        npus, shards = ",".join(str(npu) for npu in host["npus"]), " ".join(plan["shards"][host["name"]])
        cells = (host["node_rank"], host["name"], host["address"], host["interface"], npus, shards)
        rows.append("".join(f"<td>{escape(str(cell))}</td>" for cell in cells))
    return f"<h2>Hosts</h2><table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _launch(plan: Mapping[str, Any]) -> str:
    first = plan["hosts"][0]["name"]
    words = [plan["launch"]["launcher"], *plan["launch"]["arguments"][first], plan["launch"]["script"]]
    values = "\n".join(f"{name}={value}" for name, value in sorted(plan["environment"][first].items()))
    return (
        f"<h2>Launch, as on {escape(first)}</h2><pre>{escape(values)}</pre>"
        f"<pre>{escape(' '.join([*words, *plan['training_arguments']]))}</pre>"
    )
