# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a plan takes for 1,000 hosts with 8 NPUs.

    python benchmarks/plan.py [--hosts 1000]

The aim is less than 2 seconds on one core for everything that a run of the playbook computes. Exits with 1 when that is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible.module_utils
import yaml

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

from ansible.module_utils.ascend_fleet.errors import ProblemsError  # noqa: E402 - the path has to be set first
from ansible.module_utils.ascend_fleet.plan import Model, Site, plan  # noqa: E402
from ansible.module_utils.ascend_fleet.plan_table import plan_lines  # noqa: E402
from ansible.plugins.loader import filter_loader  # noqa: E402

filter_loader.add_directory(str(ROOT / "plugins" / "filter"))

AIM = 2.0  # seconds
NPUS = 8
MODEL = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "vocab_size": 152064,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fits": ({"seq_length": 4096}, {}),
    "refused, with suggestions": ({"seq_length": 32768, "arguments": {"recompute-activation-function": False}}, {}),
    "chosen by the plan": ({"seq_length": 32768}, {"search": True}),
}


def made(count: int, overrides: dict[str, Any], site: dict[str, Any]) -> dict[str, Any]:
    """Plan Qwen2.5 72B on so many hosts; also a refused plan is one."""
    release, recipe = (yaml.safe_load((ROOT / path).read_text(encoding="utf-8")) for path in SOURCES)
    hosts = [
        {
            "name": f"npu-{n:04}",
            "address": f"10.0.{n // 250}.{n % 250 + 1}",
            "npus": list(range(NPUS)),
            "interface": "eth0",
        }
        for n in range(count)
    ]
    wanted = {"tp": 8, "pp": 4, "micro_batch_size": 1, "global_batch_size": 4 * count, **overrides}
    try:
        return plan(release, recipe, hosts, Model(MODEL), wanted, Site("/data/ascend-fleet", **site))
    except ProblemsError as error:
        found: dict[str, Any] = error.details["plan"]
        return found


SOURCES = ("releases/2.0.0.yml", "recipes/qwen2.5-72b-8k-pack.yml")


def timed(work: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """Return the seconds of one call, and its result."""
    start = time.perf_counter()
    result = work(*given)
    return time.perf_counter() - start, result


def main() -> int:
    """Time every case and say whether the aim is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1000, help="the aim is for 1000")
    count, worst = parser.parse_args().hosts, 0.0
    page = filter_loader.get("plan_page").j2_function
    print(f"{count} hosts x {NPUS} NPUs; seconds for plan, table, page, JSON")
    for name, (overrides, site) in CASES.items():
        planning, found = timed(made, count, overrides, site)
        rest = [timed(work, found)[0] for work in (plan_lines, page, json.dumps)]
        total = planning + sum(rest)
        worst = max(worst, total)
        verdict = "refused" if found["problems"] else f"TP {found['tp']} PP {found['pp']} DP {found['dp']}"
        print(f"{total:6.2f}  = {' + '.join(f'{part:.2f}' for part in (planning, *rest))}  {name}: {verdict}")
    print(f"{'met' if worst < AIM else 'MISSED'}: the aim is less than {AIM:g} s")
    return 0 if worst < AIM else 1


if __name__ == "__main__":
    sys.exit(main())
