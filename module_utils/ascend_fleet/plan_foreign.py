# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of upstream that train something else than this pipeline prepares: another task, another model, another layout."""

from __future__ import annotations

import re
from typing import Mapping, Tuple

from .plan_findings import Findings
from .plan_recipe import Recipe

_TUNING = "fine-tuning, which needs another dataset and prompt template than the pretraining documents prepared here"
_LORA = "LoRA, which trains and saves adapters that the conversion and the export here do not know"
_EXPERTS = "a mixture of experts; the model that is converted here is dense"
_LATENT = "multi-latent attention; the model that is converted here has plain attention"
_SHAPE = "another model than its config.json describes: the plan takes positions, norms, activation and head width from there"
_LAYOUT = "a layout of the weights that the conversion here does not make"

# What a flag's whole name looks like -> what it asks for. Anchored, since flags of a plain run share words with these.
FOREIGN: Tuple[Tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"is-instruction-dataset|is-pairwise-dataset|stage|full-shuffle-instruction-dataset", _TUNING),
        (r"prompt-type(-.*)?|handler-name|neat-pack|dpo-.*|ref-model|reward-model", _TUNING),
        (r"lora(-.*)?|qlora(-.*)?", _LORA),
        (r"num-experts|n-shared-experts|expert-.*|moe(-.*)?|first-k-dense-replace|topk-group|n-group", _EXPERTS),
        (r"num-moe-.*|use-moe|norm-topk-prob|routed-scaling-factor|shared-expert-.*", _EXPERTS),
        (r"multi-latent-attention|multi-head-latent-attention|mla-.*|q-lora-rank|kv-lora-rank", _LATENT),
        (r"qk-rope-head-dim|qk-nope-head-dim|v-head-dim", _LATENT),
        (r"rotary-(percent|interleaved|seq-len-interpolation-factor)|(use-)?rope-scaling(-.*)?|use-glm-rope", _SHAPE),
        (r"longrope-.*|(long|short)-(factor|mscale)|(low|high)-freq-factor|dynamic-factor|beta-(fast|slow)", _SHAPE),
        (r"original-max-position-embeddings|no-position-embedding|(interleave-)?sliding-window", _SHAPE),
        (r"square-alibi-mask|fill-neg-inf|kv-channels|(en|de)coder-num-layers|vocab-size", _SHAPE),
        (r"apply-layernorm-1p|apply-residual-connection-post-layernorm|post-norm|no-post-layer-norm", _SHAPE),
        (r"embed-layernorm|input-embeds-norm|add-rmsnorm-offset|add-dense-bias", _SHAPE),
        (r"openai-gelu|squared-relu|geglu|gelu-tanh|scale-(emb|depth)|dim-model-base|query-pre-attn-scalar", _SHAPE),
        (r"(embedding|output)-multiplier-scale|(attn|output)-logit-softcapping", _SHAPE),
        (r"qk-layernorm", "a layer norm of queries and keys, which the model that is converted here does not have"),
        (r"tp-2d|tp-[xy]|noop-layers|num-layers-in-first-pipeline-stage|schedules-method|mtp-.*", _LAYOUT),
    )
)
_SAME: Mapping[str, object] = {"stage": "pt"}  # upstream's word for pretraining


def refuse_foreign(recipe: Recipe, findings: Findings) -> None:
    """Refuse arguments that turn the run into another than the one that is planned."""
    for flag, value in recipe.arguments.items():
        if flag in _SAME and value == _SAME[flag]:
            continue
        for pattern, reason in FOREIGN:
            if pattern.fullmatch(flag):
                findings.refuse(
                    "argument-foreign",
                    f"The recipe's argument {flag} = {value!r} asks for {reason}.",
                    remedy="Take it out of the recipe's arguments (run_plan_overrides).",
                )
                break


def refuse_recompute(recipe: Recipe, findings: Findings) -> None:
    """Refuse recomputation that upstream stops at or the memory estimate cannot read."""
    layers, given = recipe.arguments.get("recompute-num-layers"), recipe.arguments
    if layers is not None and not re.fullmatch(r"[1-9][0-9]{0,3}", str(layers)):
        findings.refuse(
            "recompute",
            f"recompute-num-layers is {layers!r}, not a whole number above 0.",
            remedy="Give the number of layers, or take it out of the recipe's arguments.",
        )
    if given.get("recompute-granularity") == "full" and given.get("recompute-method") not in ("block", "uniform"):
        findings.refuse(
            "recompute",
            f"recompute-granularity full comes with recompute-method {given.get('recompute-method')!r}.",
            "block or uniform",
            "Set recompute-method in the recipe's arguments.",
        )
