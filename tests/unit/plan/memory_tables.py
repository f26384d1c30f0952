# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of docs/memory.md: `python -m tests.unit.plan.memory_tables` writes them anew; a test compares them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from tests import conftest  # noqa: F401 - sets the path of the library
from tests.unit.plan.memory_data import Baseline, baselines, given, published, rows

PAGE = given.ROOT / "docs" / "memory.md"
CARD = 64 << 30  # bytes; every example is for cards of 64 GB

# Why the estimate exceeds the card, where it does. None of them changes a constant.
LIKELY = {
    "llama2/pretrain_llama2_13b_pack_ptd_o2": "keeps gradients and moments in bf16 (O2), which is not modelled",
    "llama2/pretrain_llama2_7b_pack_ptd_o2": "keeps gradients and moments in bf16 (O2), which is not modelled",
    "llama3/tune_llama3_8b_full_ptd": "fine-tuning: batches are as long as their longest sample, not the sequence length",
    "llama31/tune_llama31_8b_4k_full_ptd": "fine-tuning: batches are as long as their longest sample, not the sequence length",
    "llama31/pretrain_llama31_70b_128k_ptd": "unknown: nothing in the script lowers it (six micro batches in flight, no recomputation)",
    "qwen25/tune_qwen25_0point5b_4k_full_ptd": "fine-tuning: batches are as long as their longest sample, not the sequence length",
    "qwen25/tune_qwen25_7b_full_ptd": "fine-tuning: batches are as long as their longest sample, not the sequence length",
    "qwen25/tune_qwen25_32b_4k_full_ptd": "fine-tuning: batches are as long as their longest sample, not the sequence length",
    "qwen3/pretrain_qwen3_8b_4K_ptd_fsdp2_A3": "FSDP2 shares out parameters too, which is not modelled",
}


def grouped(items: Iterable[Baseline], key: Callable[[Baseline], tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """Return what is shown of a run -> the branches where it is the same."""
    found: dict[tuple[str, ...], list[str]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item.row["branch"])
    return found


def table(head: str, lines: Iterable[str]) -> str:
    columns = head.split("|")
    ruler = "|".join("---:" if "%" in name or "GiB" in name or "MiB" in name else "---" for name in columns)
    return "\n".join([f"| {' | '.join(columns)} |", f"|{ruler}|", *lines])


def off(estimate: float, measured: float) -> str:
    return f"{100 * (estimate / measured - 1):+.1f}"


def sizes(item: Baseline) -> str:
    parts = item.sizes
    named = {"TP": parts.tp, "PP": parts.pp, "CP": parts.cp, "DP": parts.dp}
    return " ".join(f"{name}{size}" for name, size in named.items() if size > 1) or "one NPU"


def measured(item: Baseline) -> tuple[str, ...]:
    fullest, least, peak = item.number("allocated_most"), item.number("allocated_least"), item.number("peak_most")
    estimate = item.static
    return (
        item.row["name"],
        sizes(item),
        f"{fullest:.0f}",
        off(estimate[0], fullest),
        off(estimate[1], least) if least else "",
        f"{peak:.0f}",
        off(item.first_peak, peak) + (" (short samples)" if item.row["samples"] == "short" else ""),
    )


def baseline_table() -> str:
    lines = [f"| {' | '.join(key)} | {', '.join(names)} |" for key, names in grouped(baselines(), measured).items()]
    head = "run|sizes|static, measured MiB|fullest rank %|emptiest rank %|first peak, measured MiB|peak %|branches"
    return table(head, lines)


def verdict(item: Baseline) -> tuple[str, ...]:
    worst = max(item.stages, key=lambda stage: stage.total)
    says = "fits" if worst.total <= CARD else f"**does not fit**: {LIKELY[short(item)]}"
    static, step, total = (f"{value / 2**30:.1f}" for value in (worst.static, worst.activation, worst.total))
    batch = f"{item.row['seq']} x {item.row['micro']}"
    return (short(item), sizes(item), batch, static, step, total, says)


def short(item: Baseline) -> str:
    return item.row["script"].removeprefix("mcore/").removesuffix(".sh")


def published_table() -> str:
    lines = [f"| {' | '.join(key)} | {', '.join(names)} |" for key, names in grouped(published(), verdict).items()]
    return table("script|sizes|tokens x micro batch|static GiB|step GiB|total GiB|on 64 GB|branches", lines)


def left_out_table(name: str) -> str:
    counts: dict[str, list[str]] = {}
    for row in rows(name):
        counts.setdefault(row["why"], []).append(row.get("name") or row["script"])
    lines = [
        f"| {why} | {len(names)} | {', '.join(sorted({title.removeprefix('mcore/').removesuffix('.sh') for title in names}))} |"
        for why, names in sorted(counts.items(), key=lambda item: -len(item[1]))
    ]
    return table("why|rows|names", lines)


TABLES = {
    "baselines": baseline_table,
    "baselines-left-out": lambda: left_out_table("left_out.csv"),
    "published": published_table,
    "published-left-out": lambda: left_out_table("published_left_out.csv"),
}


def rendered(text: str) -> str:
    """Return the page with its tables made anew; each stands between two comments with its name."""
    for name, make in TABLES.items():
        pattern = re.compile(rf"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert len(pattern.findall(text)) == 1, f"docs/memory.md has no place for the table {name}"
        start, end = pattern.findall(text)[0]
        before, after = pattern.split(text)[0], pattern.split(text)[-1]
        text = f"{before}{start}\n{make()}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
