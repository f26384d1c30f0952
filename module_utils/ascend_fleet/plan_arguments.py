# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of pretrain_gpt.py, made of the model's shape, the recipe and the parallel sizes instead of an edited script."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .plan_placement import Sizes
from .plan_recipe import Recipe
from .plan_shape import ModelShape

# Flags that the plan derives. A recipe that types one of them would let the command line and the plan say different things.
DERIVED_FROM: Mapping[str, str] = {
    "use-mcore-models": "the pipeline",
    "use-legacy-models": "the pipeline, which trains Megatron-core models only: upstream's legacy mode reads another checkpoint layout",
    "tensor-model-parallel-size": "parallel.tp",
    "pipeline-model-parallel-size": "parallel.pp",
    "context-parallel-size": "parallel.cp",
    "num-layer-list": "parallel.layers_per_stage",
    "num-layers": "config.json",
    "hidden-size": "config.json",
    "ffn-hidden-size": "config.json",
    "num-attention-heads": "config.json",
    "group-query-attention": "config.json",
    "num-query-groups": "config.json",
    "max-position-embeddings": "train.seq_length",
    "disable-bias-linear": "config.json",
    "add-qkv-bias": "config.json",
    "swiglu": "config.json",
    "normalization": "config.json",
    "norm-epsilon": "config.json",
    "position-embedding-type": "config.json",
    "rotary-base": "config.json",
    "untie-embeddings-and-output-weights": "config.json",
    "padded-vocab-size": "config.json and the tensor-parallel size",
    "make-vocab-size-divisible-by": "train.vocab_divisible_by",
    "seq-length": "train.seq_length",
    "micro-batch-size": "train.micro_batch_size",
    "global-batch-size": "train.global_batch_size",
    "train-iters": "train.iterations",
    "split": "train.split",
    "seed": "train.seed",
    "save-interval": "train.save_interval",
    "tokenizer-name-or-path": "the work root",
    "data-path": "the work root",
    "train-data-path": "dataset.validation",
    "valid-data-path": "dataset.validation",
    "load": "the work root",
    "save": "the work root",
    "no-shared-storage": "run_plan_shared_storage",
}


@dataclass(frozen=True)
class Paths:
    """Where the training finds and leaves things; the same on every host and in the container."""

    load: str
    save: str
    data: str
    validation: str
    tokenizer: str

    @classmethod
    def below(cls, work_root: str, recipe: Recipe) -> Paths:
        """Return the paths through the `current` link of each stage."""
        name, ending = recipe.dataset.name, f"{recipe.dataset.train_key}_document"
        dataset = posixpath.join(work_root, "dataset", "current")
        return cls(
            load=posixpath.join(work_root, "checkpoint", "current"),
            save=posixpath.join(work_root, "run", "current", "checkpoints"),
            data=posixpath.join(dataset, f"{name}_{ending}"),
            validation=posixpath.join(dataset, f"{name}_valid_{ending}"),
            tokenizer=posixpath.join(work_root, "weights", "current"),
        )


def training_arguments(
    shape: ModelShape, recipe: Recipe, sizes: Sizes, paths: Paths, no_shared_storage: bool
) -> List[str]:
    """Return the arguments that follow pretrain_gpt.py, in upstream's own order of topics."""
    flags = [
        *_topology(recipe, sizes),
        *_shape(shape, recipe, sizes),
        *_batches(recipe),
        ("tokenizer-name-or-path", paths.tokenizer),
        *recipe.arguments.items(),
        *_data(recipe, paths),
        ("no-shared-storage", no_shared_storage or None),
        ("load", paths.load),
        ("save", paths.save),
        ("seed", recipe.seed),
        ("save-interval", recipe.save_interval),
    ]
    return render(flags)


def _topology(recipe: Recipe, sizes: Sizes) -> List[Tuple[str, Any]]:
    stages = ",".join(str(count) for count in recipe.layers_per_stage or ())
    return [
        ("use-mcore-models", True),
        ("tensor-model-parallel-size", sizes.tp),
        ("pipeline-model-parallel-size", sizes.pp),
        ("num-layer-list", stages or None),
        ("context-parallel-size", sizes.cp if sizes.cp > 1 else None),
    ]


def _shape(shape: ModelShape, recipe: Recipe, sizes: Sizes) -> List[Tuple[str, Any]]:
    return [
        ("num-layers", shape.layers),
        ("hidden-size", shape.hidden),
        ("ffn-hidden-size", shape.ffn),
        ("num-attention-heads", shape.heads),
        ("max-position-embeddings", recipe.seq_length),
        ("disable-bias-linear", True),
        ("add-qkv-bias", shape.qkv_bias or None),
        ("group-query-attention", shape.kv_groups < shape.heads or None),
        ("num-query-groups", shape.kv_groups if shape.kv_groups < shape.heads else None),
        ("swiglu", True),
        ("normalization", "RMSNorm"),
        ("norm-epsilon", shape.norm_epsilon),
        ("position-embedding-type", "rope"),
        ("rotary-base", shape.rope_theta),
        ("untie-embeddings-and-output-weights", not shape.tied or None),
        ("make-vocab-size-divisible-by", recipe.vocab_divisible_by),
        ("padded-vocab-size", shape.padded_vocab(sizes.tp, recipe.vocab_divisible_by)),
    ]


def _batches(recipe: Recipe) -> List[Tuple[str, Any]]:
    return [
        ("seq-length", recipe.seq_length),
        ("micro-batch-size", recipe.micro_batch_size),
        ("global-batch-size", recipe.global_batch_size),
        ("train-iters", recipe.iterations),
    ]


def _data(recipe: Recipe, paths: Paths) -> List[Tuple[str, Any]]:
    """Return where the documents are: one dataset that upstream divides, or one for each purpose, which takes no split."""
    if recipe.dataset.validation:
        return [("train-data-path", paths.data), ("valid-data-path", paths.validation)]
    return [("data-path", paths.data), ("split", recipe.split)]


def render(flags: Sequence[Tuple[str, Any]]) -> List[str]:
    """Return argv: a switch for True, nothing for None, a flag and its value or values for the rest."""
    argv: List[str] = []
    for name, value in flags:
        if value is None:
            continue
        argv.append(f"--{name}")
        if value is not True:
            argv += [_word(item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    return argv


def _word(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def typed_derived(recipe: Recipe) -> List[Tuple[str, str]]:
    """Return (flag, where its value comes from) of each derived flag that a recipe types."""
    return [(flag, DERIVED_FROM[flag]) for flag in recipe.arguments if flag in DERIVED_FROM]


def derived_values(shape: Optional[ModelShape], recipe: Recipe) -> Dict[str, str]:
    """Return flag -> the value that the plan gives it, of those flags that have one and do not depend on the NPUs."""
    sizes = Sizes(recipe.tp, recipe.pp, recipe.cp, 1)
    flags = [*_topology(recipe, sizes), *_batches(recipe), *(_shape(shape, recipe, sizes) if shape else [])]
    own = [("seed", recipe.seed), ("save-interval", recipe.save_interval), ("split", recipe.split)]
    return {name: _word(value) for name, value in [*flags, *own] if value is not None and value is not True}


def value_of(arguments: Sequence[str], flag: str) -> Optional[str]:
    """Return the word after a flag of a command line, or None where the flag is not there."""
    if f"--{flag}" not in arguments:
        return None
    position = list(arguments).index(f"--{flag}")
    return arguments[position + 1] if position + 1 < len(arguments) else ""
