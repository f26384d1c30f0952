# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a run impossible or wrong: checks of the recipe against the model and the NPUs.

Each check notes its refusal and goes on, so that one report names everything. Upstream would mostly start, convert or train
without complaint and fail, or compute something else, much later.
"""

from __future__ import annotations

import re
from typing import List, Mapping, Optional, Sequence

from .plan_arguments import derived_values, typed_derived
from .plan_findings import Findings, around, as_int, counted, divisors, either, multiples_around
from .plan_hosts import PlanHost
from .plan_placement import Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape, sliding_window

# With any of these upstream makes its masks for each sample anew.
MASK_FLAGS = ("reset-position-ids", "reset-attention-mask", "eod-mask-loss")

FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
SHELL_VARIABLE = re.compile(r"\$[A-Za-z_{(]")


def settle_sizes(recipe: Recipe, hosts: Sequence[PlanHost], findings: Findings) -> Optional[Sizes]:
    """Return the parallel sizes that fill the NPUs exactly, or None with the reason among the findings."""
    world = sum(len(host.npus) for host in hosts)
    model = recipe.tp * recipe.pp * recipe.cp
    product = f"TP {recipe.tp} x PP {recipe.pp} x CP {recipe.cp}"
    if world == 0:
        return None
    if world % model:
        findings.refuse(
            "world-size",
            f"{counted(world, 'NPU')} on {counted(len(hosts), 'host')} cannot be divided into groups of {product} = {model}.",
            f"{either(multiples_around(world, model))} NPUs",
            "Change training_tp, training_pp or the NPUs of the hosts.",
        )
        return None
    if recipe.dp and recipe.dp != world // model:
        findings.refuse(
            "world-size",
            f"DP {recipe.dp} asks for {product} x DP {recipe.dp} = {model * recipe.dp} ranks, and there are {world} NPUs.",
            f"DP {world // model}",
        )
        return None
    return Sizes(recipe.tp, recipe.pp, recipe.cp, world // model)


def refuse_unshardable(shape: ModelShape, recipe: Recipe, findings: Findings) -> None:
    """Refuse sizes that the model's layers, heads and vocabulary cannot be divided by."""
    _tensor_parallel(shape, recipe.tp, findings)
    _pipeline(shape, recipe, findings)
    _vocabulary(shape, recipe, findings)


def _tensor_parallel(shape: ModelShape, tp: int, findings: Findings) -> None:
    working = [size for size in divisors(shape.kv_groups) if shape.heads % size == 0 and shape.ffn % size == 0]
    parts = (
        ("attention heads", shape.heads),
        ("key/value groups", shape.kv_groups),
        ("feed-forward columns", shape.ffn),
    )
    bad = [f"{count} {what}" for what, count in parts if count % tp]
    if bad:
        findings.refuse(
            "tensor-parallel",
            f"TP {tp} does not divide the model's {' and '.join(bad)}; the converter would leave no files and exit 0.",
            f"TP {either(around(tp, working))}",
            "Change training_tp.",
        )


def _pipeline(shape: ModelShape, recipe: Recipe, findings: Findings) -> None:
    stages, pp = recipe.layers_per_stage, recipe.pp
    if stages is None and shape.layers % pp:
        findings.refuse(
            "pipeline",
            f"{shape.layers} layers cannot be divided evenly into PP {pp} stages, and no layers_per_stage is given; the "
            "converter would leave out files and exit 0.",
            _pipeline_choices(shape.layers, pp),
            "Change training_pp or give layers_per_stage.",
        )
    if stages is not None and (len(stages) != pp or sum(stages) != shape.layers or pp == 1):
        listed = ",".join(str(count) for count in stages)
        findings.refuse(
            "layers-per-stage",
            f"layers_per_stage {listed} gives {len(stages)} stages with {sum(stages)} layers; PP is {pp} and the model has "
            f"{shape.layers} layers.",
            _even_list(shape.layers, pp) if 1 < pp <= shape.layers else "no list",
        )


def _pipeline_choices(layers: int, pp: int) -> str:
    sizes = either([f"PP {size}" for size in around(pp, divisors(layers))])
    return f"{sizes}, or layers_per_stage {_even_list(layers, pp)}" if pp <= layers else sizes


def _even_list(layers: int, pp: int) -> str:
    """Return the list closest to even, with the smaller stages at both ends, where embedding and head are."""
    small, extra = divmod(layers, pp)
    counts = [small] * pp
    inner_first = sorted(range(pp), key=lambda stage: (abs(2 * stage - pp + 1), stage))
    for stage in inner_first[:extra]:
        counts[stage] += 1
    return ",".join(str(count) for count in counts)


def _vocabulary(shape: ModelShape, recipe: Recipe, findings: Findings) -> None:
    made, asked = shape.padded_vocab(recipe.tp, recipe.vocab_divisible_by), recipe.padded_vocab_size
    if asked is not None and asked != made:
        step = recipe.vocab_divisible_by * recipe.tp
        findings.refuse(
            "vocabulary",
            f"padded_vocab_size {asked} is not what the converter makes of a vocabulary of {shape.vocab}: a multiple of "
            f"{recipe.vocab_divisible_by} x TP {recipe.tp} = {step}. The checkpoint would not load.",
            str(made),
            "Leave padded_vocab_size out.",
        )


def refuse_batches(recipe: Recipe, sizes: Sizes, findings: Findings) -> None:
    """Refuse a global batch that the data-parallel ranks cannot share evenly."""
    step = recipe.micro_batch_size * sizes.dp
    if recipe.global_batch_size % step:
        findings.refuse(
            "global-batch",
            f"Global batch {recipe.global_batch_size} is not a multiple of micro batch {recipe.micro_batch_size} x DP "
            f"{sizes.dp} = {step}.",
            either(multiples_around(recipe.global_batch_size, step)),
            "Change global_batch_size or micro_batch_size.",
        )


def refuse_sequence(shape: ModelShape, recipe: Recipe, config: Mapping[str, object], findings: Findings) -> None:
    """Refuse a sequence length that the model or the way it is divided does not allow."""
    window, length = sliding_window(config), recipe.seq_length
    if length > shape.positions:
        findings.refuse(
            "sequence",
            f"Sequence length {length} is longer than the model's {shape.positions} positions (max_position_embeddings).",
            str(shape.positions),
            "Change seq_length.",
        )
    if window is not None and length > window:
        findings.refuse(
            "sequence",
            f"The model attends to {window} tokens (sliding_window), upstream to all {length}.",
            str(window),
            "Change seq_length.",
        )
    if recipe.switched_on("sequence-parallel") and length % recipe.tp:
        findings.refuse(
            "sequence",
            f"Sequence length {length} cannot be divided over TP {recipe.tp} (sequence-parallel).",
            either(multiples_around(length, recipe.tp)),
        )


def refuse_context_parallel(shape: ModelShape, recipe: Recipe, findings: Findings) -> None:
    """Refuse a context-parallel size that upstream's own validation stops at, on every rank."""
    cp, step = recipe.cp, 2 * recipe.cp
    if cp == 1 and recipe.switched_on("use-fused-ring-attention-update"):
        findings.refuse(
            "context-parallel",
            "use-fused-ring-attention-update needs context parallel, and CP is 1.",
            remedy="Take the argument out or set cp.",
        )
    if cp > 1 and recipe.seq_length % step:
        findings.refuse(
            "context-parallel",
            f"Sequence length {recipe.seq_length} is not a multiple of 2 x CP {cp} = {step}.",
            either(multiples_around(recipe.seq_length, step)),
        )
    algorithm = recipe.arguments.get("context-parallel-algo", "ulysses_cp_algo")
    degree = cp if algorithm == "ulysses_cp_algo" else as_int(recipe.arguments.get("ulysses-degree-in-cp", 1)) or 1
    if cp > 1 and shape.heads % (degree * recipe.tp):
        findings.refuse(
            "context-parallel",
            f"{shape.heads} attention heads cannot be divided over TP {recipe.tp} x {degree} parts of {algorithm}.",
            remedy="Use context-parallel-algo megatron_cp_algo or another CP.",
        )


def refuse_arguments(shape: Optional[ModelShape], recipe: Recipe, findings: Findings) -> None:
    """Refuse arguments of a recipe that the plan derives, or that need a checkpoint nobody makes here."""
    made = derived_values(shape, recipe)
    for flag, source in typed_derived(recipe):
        findings.refuse(
            "argument-derived",
            f"The recipe types {flag} = {recipe.arguments[flag]!r}, which comes from {source}.",
            made.get(flag, ""),
            "Take it out of the recipe's arguments.",
        )
    for flag, value in recipe.arguments.items():
        residue = _shell_residue(flag, value)
        if residue:
            findings.refuse(
                "argument-shell",
                f"The recipe's argument {flag} = {value!r} has {residue}, which came along from a shell script: no shell reads "
                "the arguments, and upstream would be given it as it stands.",
                remedy="Write the bare flag and its value; a comment belongs behind a # of the YAML file.",
            )
    if recipe.arguments.get("num-layers-per-virtual-pipeline-stage"):
        findings.refuse(
            "virtual-stages",
            "num-layers-per-virtual-pipeline-stage, which four of upstream's 72B examples set, needs a checkpoint divided into "
            "virtual stages, and the conversion here lays out plain ones: the weights would not load.",
            remedy="Take it out of the recipe's arguments; the plain pipeline computes the same, with a larger bubble.",
        )


def _shell_residue(flag: str, value: object) -> str:
    """Say what of an argument only a shell would understand; empty for none."""
    if not FLAG.fullmatch(flag):
        return "more than a flag before the colon"
    text = " ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
    if text.rstrip().endswith("\\"):
        return "a backslash at its end"
    if text.startswith("#") or " #" in text:
        return "a comment in its value"
    return "a variable of the shell" if SHELL_VARIABLE.search(text) else ""


def refuse_no_eod(recipe: Recipe, tokenizer: Optional[Mapping[str, object]], findings: Findings) -> None:
    """Refuse a tokenizer that has no end of document where one is to be written or looked for."""
    asked = [
        name
        for name, on in (
            ("dataset.append_eod", recipe.dataset.append_eod),
            *((flag, recipe.switched_on(flag)) for flag in MASK_FLAGS),
        )
        if on
    ]
    if tokenizer is not None and asked and not tokenizer.get("eos_token"):
        findings.refuse(
            "tokenizer-eod",
            f"{' and '.join(asked)} {'need' if len(asked) > 1 else 'needs'} an end of document, and the tokenizer names none "
            "(eos_token in tokenizer_config.json).",
            remedy="Add eos_token to the model's tokenizer_config.json, or switch that off in the recipe.",
        )


def refuse_eod_as_pad(recipe: Recipe, tokenizer: Optional[Mapping[str, object]], findings: Findings) -> None:
    """Refuse documents that end in what upstream takes for padding, where it keeps its mask between samples; else warn.

    Upstream's dataset counts no label that is padding and computes with token 0 in its place. It makes the mask of what counts once and
    switches positions off in place, unless one of MASK_FLAGS makes it anew for each sample.
    """
    if tokenizer is None or not recipe.dataset.append_eod or not tokenizer.get("eos_token"):
        return
    end, pad = (_token(tokenizer.get(name)) for name in ("eos_token", "pad_token"))
    if pad not in ("", end):
        return
    what = f"dataset.append_eod ends each document with {end!r}, " + (
        "which is the tokenizer's pad_token, too"
        if pad
        else "which upstream pads with, as the tokenizer has no pad_token"
    )
    if any(recipe.switched_on(flag) for flag in MASK_FLAGS):
        findings.warn(
            "eod-as-pad",
            f"{what}: no loss is computed for it and it is read as token 0, so the model does not learn where documents end.",
            "Give the tokenizer a pad_token of its own if it should.",
        )
        return
    findings.refuse(
        "eod-as-pad",
        f"{what}: wherever a document has ended in one sample, no later sample's loss counts, until no position is left.",
        f"dataset.append_eod false, or {MASK_FLAGS[0]}",
        "Change the recipe (run_plan_overrides), or give the model's tokenizer_config.json a pad_token of its own.",
    )


def refuse_validation(recipe: Recipe, release: Mapping[str, object], findings: Findings) -> None:
    """Refuse a dataset of its own for validation where the release's trainer cannot start with one, or where `split` makes one, too."""
    share = recipe.dataset.validation
    if not share:
        return
    if recipe.split_for_validation:
        findings.refuse(
            "validation",
            f"dataset.validation {share:g} and train.split {recipe.split} both set documents aside for validation.",
            "train.split 100,0,0",
        )
    if release and not release.get("data_paths_per_split"):
        findings.refuse(
            "validation",
            f"dataset.validation {share:g} needs --valid-data-path, and release {release.get('name')} cannot start with it: it sets "
            "--data-path itself before Megatron checks that there is one source of data.",
            f"train.split {100 - 100 * share:g},{100 * share:g},0",
            "The trainer then sets the last documents of the dataset aside.",
        )


def _token(value: object) -> str:
    """Return a special token's text; tokenizer_config.json has it plain or as the content of a mapping."""
    return str(value.get("content") or "") if isinstance(value, Mapping) else str(value or "")


def refuse_index_cache(hosts: Sequence[PlanHost], sizes: Sizes, shared_storage: bool, findings: Findings) -> None:
    """Refuse a placement in which some host has no rank that builds the dataset's index cache.

    Without shared storage upstream lets the first process of a host build it, if that is of tensor-parallel rank 0, or, where
    TP exceeds the NPUs of a host, every process of tensor-parallel rank 0. Its other readers there would find no file.
    """
    per_host = sizes.world // len(hosts)
    if shared_storage or len(hosts) == 1 or sizes.tp > per_host:
        return
    without: List[str] = [host.name for node, host in enumerate(hosts) if node * per_host % sizes.tp]
    if without:
        findings.refuse(
            "index-cache",
            f"On {', '.join(without)} no rank builds the dataset index: {per_host} NPUs per host are not a multiple of "
            f"TP {sizes.tp} and the hosts share no storage.",
            f"TP {either(around(sizes.tp, divisors(per_host)))}",
            "Change training_tp.",
        )
