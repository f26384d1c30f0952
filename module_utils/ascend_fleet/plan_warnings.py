# SPDX-License-Identifier: GPL-3.0-or-later
"""What upstream starts and computes as asked, and what the person may still not have meant."""

from __future__ import annotations

from typing import Sequence

from .plan_findings import Findings, as_int
from .plan_hosts import PlanHost
from .plan_placement import Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape

# What datasets of questions and answers call the questions.
QUESTIONS = ("instruction", "input", "prompt", "question", "query")


def warn_model(shape: ModelShape, recipe: Recipe, findings: Findings) -> None:
    """Warn about a model that the recipe was not written for or whose vocabulary is padded."""
    if recipe.model_types and shape.type not in recipe.model_types:
        findings.warn(
            "model-type",
            f"Recipe {recipe.name} was written for {', '.join(recipe.model_types)}; this model is a {shape.type}.",
        )
    padded = shape.padded_vocab(recipe.tp, recipe.vocab_divisible_by)
    if padded != shape.vocab:
        findings.warn(
            "vocabulary",
            f"The vocabulary of {shape.vocab} is padded to {padded} with copies of its last row, each of which takes part in "
            "the softmax.",
        )


def warn_dataset(recipe: Recipe, findings: Findings) -> None:
    """Warn about a run that learns the questions and never sees an answer."""
    dataset = recipe.dataset
    if dataset.train_key not in QUESTIONS or dataset.template:
        return
    answer = next((key for key in dataset.keys if key not in QUESTIONS), "output")
    findings.warn(
        "train-key",
        f"Training reads {dataset.train_key} alone: the model learns to write questions, and no answer takes part.",
        f'Set dataset.train_key to {answer}, or dataset.template to "{{{dataset.train_key}}}\\n{{{answer}}}" with one key.',
    )


def warn_placement(hosts: Sequence[PlanHost], sizes: Sizes, findings: Findings) -> None:
    """Warn about slow or undecided ways between the ranks."""
    per_host = sizes.world // len(hosts)
    if per_host % sizes.tp and len(hosts) > 1:
        findings.warn(
            "tensor-parallel-split",
            f"A tensor-parallel group of {sizes.tp} spans hosts of {per_host} NPUs: every layer waits for the network.",
            "Prefer a TP within one host.",
        )
    for host in hosts:
        if len(hosts) > 1 and not host.interface:
            findings.warn(
                "interface",
                f"Host {host.name} names no interface: HCCL takes the first by name.",
                "Set ascend_interface.",
            )
        if len(hosts) > 1 and not host.has_ip:
            findings.warn(
                "address",
                f"Address {host.address} of host {host.name} is a name: HCCL_IF_IP, which takes none, is left out.",
                "Set ascend_address to its IP address.",
            )


def warn_schedule(recipe: Recipe, sizes: Sizes, findings: Findings) -> None:
    """Warn about settings that upstream changes by itself or that waste the NPUs."""
    if recipe.tp == 1 and recipe.switched_on("sequence-parallel"):
        findings.warn("sequence-parallel", "sequence-parallel is on with TP 1; Megatron turns it off.")
    rounds = recipe.global_batch_size // (recipe.micro_batch_size * sizes.dp)
    if sizes.pp > 1 and rounds < sizes.pp:
        findings.warn(
            "pipeline-bubble",
            f"{rounds} micro batches a step are fewer than PP {sizes.pp} stages: some stages always wait.",
            f"Use a global batch of at least {recipe.micro_batch_size * sizes.dp * sizes.pp}.",
        )


def warn_packed(recipe: Recipe, findings: Findings) -> None:
    """Warn about packed samples that upstream's attention mixes up; its own scripts for 72B at 4096 tokens ask for it.

    dot_product_attention.py lays a micro batch out as (s b), training/utils.py counts the ends of documents as if it were (b s).
    """
    if recipe.switched_on("reset-position-ids") and recipe.micro_batch_size > 1:
        findings.warn(
            "packed-micro-batch",
            f"With reset-position-ids and micro batch {recipe.micro_batch_size}, upstream's attention cuts documents at wrong places: "
            "tokens attend to other samples of the micro batch.",
            "Set train.micro_batch_size to 1.",
        )


def warn_validation(recipe: Recipe, findings: Findings) -> None:
    """Warn about documents that are set aside and never looked at."""
    if (recipe.dataset.validation or recipe.split_for_validation) and not as_int(
        recipe.arguments.get("eval-iters", 100)
    ):
        findings.warn(
            "validation",
            "Documents are set aside for validation, and eval-iters 0 never computes a loss on them.",
            "Set the argument eval-iters, in batches, and eval-interval.",
        )


def warn_resume(recipe: Recipe, findings: Findings) -> None:
    """Warn about a run that leaves nothing to go on from."""
    if recipe.save_interval >= recipe.iterations:
        findings.warn(
            "save-interval",
            f"The first checkpoint is saved at iteration {recipe.save_interval} of {recipe.iterations}: a run that breaks off "
            "starts again from the beginning.",
        )
    unsaved = [flag for flag in ("no-save-optim", "no-save-rng") if recipe.switched_on(flag)]
    if unsaved:
        findings.warn(
            "save-state",
            f"{' and '.join(unsaved)}: a resumed run goes on with the weights, but with a fresh optimizer or random state.",
        )
