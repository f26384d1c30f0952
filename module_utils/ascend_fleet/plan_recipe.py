# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipe: what to train and how, with what a site changed about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Set, Tuple

from .plan_findings import LARGEST, Findings, as_int, closest
from .plan_release import merged

# Flat name of an override -> where it stands in a recipe.
OVERRIDES: Mapping[str, Tuple[str, ...]] = {
    **{key: ("parallel", key) for key in ("tp", "pp", "cp", "dp", "layers_per_stage")},
    **{
        key: ("train", key)
        for key in (
            "iterations",
            "global_batch_size",
            "micro_batch_size",
            "seq_length",
            "seed",
            "split",
            "save_interval",
            "vocab_divisible_by",
            "padded_vocab_size",
        )
    },
    "dataset": ("dataset",),
    "arguments": ("arguments",),
    "environment": ("environment",),
}
SECTIONS = ("parallel", "train", "dataset", "arguments")
KNOWN_KEYS = {"name", "title", "source", "task", "model_types", *SECTIONS, "environment"}
# What a section may hold; the flags of `arguments` are upstream's.
KEYS: Mapping[str, Set[str]] = {
    **{
        part: {path[1] for path in OVERRIDES.values() if path[0] == part and len(path) > 1}
        for part in ("parallel", "train")
    },
    "dataset": {"name", "keys", "train_key", "append_eod", "template", "validation"},
}
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*$")
SPLIT = re.compile(r"\d+(\.\d+)?(,\d+(\.\d+)?){0,2}$")


@dataclass(frozen=True)
class Dataset:
    """Which keys of the JSON lines are preprocessed and which of them is trained on."""

    name: str
    keys: Tuple[str, ...]
    train_key: str
    append_eod: bool
    template: str = ""  # makes one text of several keys; the one key is then only a name
    validation: float = 0.0  # share of the records that go into a dataset of their own


@dataclass(frozen=True)
class Recipe:
    """A recipe as read. Batch sizes in samples, `seq_length` in tokens, `save_interval` in iterations."""

    name: str
    model_types: Tuple[str, ...]
    tp: int
    pp: int
    cp: int
    dp: Optional[int]  # None: whatever the NPUs give
    layers_per_stage: Optional[Tuple[int, ...]]  # None: evenly
    iterations: int
    global_batch_size: int
    micro_batch_size: int
    seq_length: int
    seed: int
    split: str
    save_interval: int
    vocab_divisible_by: int
    padded_vocab_size: Optional[int]
    dataset: Dataset
    arguments: Mapping[str, Any]
    environment: Mapping[str, str]

    @property
    def dtype(self) -> str:
        """Data type of the parameters, as the converter names it."""
        return next((name for name in ("bf16", "fp16") if self.arguments.get(name)), "fp32")

    @property
    def split_for_validation(self) -> float:
        """Share of the documents that upstream itself sets aside for validation (`split`)."""
        shares = [float(number) for number in self.split.split(",")] + [0.0]
        return shares[1] / (sum(shares) or 1.0)

    def switched_on(self, flag: str) -> bool:
        """Say whether a switch of upstream's command line is given."""
        return bool(self.arguments.get(flag))


def read_recipe(data: Mapping[str, Any], overrides: Mapping[str, Any], findings: Findings) -> Optional[Recipe]:
    """Read a recipe; None when it cannot be used, with the reasons among the findings."""
    before = len(findings.refusals)
    _refuse_sections(data, findings)
    full = merged(data, _nested(overrides))
    _refuse_task(full, findings)
    if not _all_mappings(full, findings):
        return None
    reader = _Reader(full, findings)
    numbers: Dict[str, Any] = {
        **{key: reader.number("parallel", key, 1) for key in ("tp", "pp", "cp")},
        **{
            key: reader.number("train", key)
            for key in ("iterations", "global_batch_size", "micro_batch_size", "seq_length", "save_interval")
        },
        "vocab_divisible_by": reader.number("train", "vocab_divisible_by", 1),
        "seed": reader.number("train", "seed", least=0),
    }
    optional: Dict[str, Any] = {
        "dp": reader.optional("parallel", "dp"),
        "padded_vocab_size": reader.optional("train", "padded_vocab_size"),
    }
    stages, split, dataset = reader.stages(), reader.split(), reader.dataset()
    arguments = reader.arguments()
    if len(findings.refusals) > before or dataset is None:
        return None
    return Recipe(
        name=str(full.get("name", "")),
        model_types=tuple(full.get("model_types", ())),
        layers_per_stage=stages,
        split=split,
        dataset=dataset,
        arguments=arguments,
        environment={str(key): str(value) for key, value in (full.get("environment") or {}).items()},
        **numbers,
        **optional,
    )


def check_overrides(overrides: Mapping[str, Any], findings: Findings) -> None:
    """Refuse overrides of what no recipe has; it needs no recipe, so that a mistyped name of one hides nothing."""
    for key in overrides:
        if key not in OVERRIDES:
            findings.refuse(
                "override-unknown", f"There is no {key!r} to override in a recipe.", closest(key, OVERRIDES)
            )


def _nested(overrides: Mapping[str, Any]) -> Dict[str, Any]:
    """Return flat overrides at their places in a recipe. Nothing, an empty text and 0 mean: as the recipe says."""
    result: Dict[str, Any] = {}
    for key, value in overrides.items():
        if key in OVERRIDES and (value not in (None, "", 0, [], {}) or (key == "seed" and value == 0)):
            for step in reversed(OVERRIDES[key]):
                value = {step: value}
            result = merged(result, value)
    return result


def _refuse_sections(data: Mapping[str, Any], findings: Findings) -> None:
    for section in SECTIONS:
        if not isinstance(data.get(section), Mapping):
            findings.refuse(
                "recipe-section",
                f"Recipe {data.get('name', '?')!r} has no section {section}.",
                remedy="Complete the file in recipes/.",
            )
    for key in sorted(set(data) - KNOWN_KEYS):
        findings.refuse("recipe-key", f"A recipe has no key {key!r}.", closest(key, KNOWN_KEYS))


def _all_mappings(full: Mapping[str, Any], findings: Findings) -> bool:
    """Say whether every section is one, also after the overrides; refuse what stands in place of one, and keys that none has."""
    sections = {section: full.get(section) or {} for section in (*SECTIONS, "environment")}
    wrong = {section: value for section, value in sections.items() if not isinstance(value, Mapping)}
    for section, value in wrong.items():
        findings.refuse(
            "recipe-section",
            f"Section {section} of recipe {full.get('name', '?')!r} is {value!r}, not keys with values.",
            remedy="Correct the recipe or the override.",
        )
    for section, known in KEYS.items():
        for key in sorted(set(map(str, sections[section])) - known) if section not in wrong else ():
            findings.refuse("recipe-key", f"Section {section} of a recipe has no key {key!r}.", closest(key, known))
    return not wrong and all(isinstance(full.get(section), Mapping) for section in SECTIONS)


def _refuse_task(data: Mapping[str, Any], findings: Findings) -> None:
    task = data.get("task", "pretraining")
    if task != "pretraining":
        findings.refuse(
            "recipe-task",
            f"Task {task!r} is not planned: fine-tuning needs an instruction dataset from another handler, a prompt "
            "template and --is-instruction-dataset, and would train on something else with this pipeline's dataset.",
            "pretraining",
        )


class _Reader:
    """Reads the values of a recipe and notes what is wrong with them; a wrong value is read as a harmless one."""

    def __init__(self, data: Mapping[str, Any], findings: Findings) -> None:
        self.data = data
        self.findings = findings

    def number(self, section: str, key: str, default: Optional[int] = None, least: int = 1) -> int:
        value = self.data[section].get(key, default)
        number = as_int(value)
        if number is None or not least <= number <= LARGEST:
            self._refuse(f"{section}.{key} is {value!r}, not a whole number from {least} to {LARGEST}.")
            return max(least, 1)
        return number

    def optional(self, section: str, key: str) -> Optional[int]:
        return None if self.data[section].get(key) is None else self.number(section, key)

    def stages(self) -> Optional[Tuple[int, ...]]:
        value = self.data["parallel"].get("layers_per_stage")
        if not value:
            return None
        parts: List[Any] = list(value) if isinstance(value, (list, tuple)) else str(value).split(",")
        numbers = [as_int(part) for part in parts]
        if any(number is None or not 1 <= number <= LARGEST for number in numbers):
            self._refuse(f"parallel.layers_per_stage is {value!r}, not a list of whole numbers above 0.")
            return None
        return tuple(number for number in numbers if number is not None)

    def split(self) -> str:
        value = str(self.data["train"].get("split", "100,0,0"))
        if not SPLIT.match(value):
            self._refuse(f"train.split is {value!r}, not up to three numbers with commas, such as 100,0,0.")
        return value

    def dataset(self) -> Optional[Dataset]:
        data = self.data["dataset"]
        listed, ends = data.get("keys") or [], data.get("append_eod", False)
        if not isinstance(listed, (list, tuple)):
            self._refuse(f"dataset.keys is {listed!r}, not a list.")
            return None
        if not isinstance(ends, bool):
            self._refuse(f"dataset.append_eod is {ends!r}, not true or false.")
        name, keys = str(data.get("name", "")), tuple(str(key) for key in listed)
        train_key = str(data.get("train_key", keys[0] if keys else ""))
        for text in (name, *keys):
            if not WORD.match(text):
                self._refuse(f"dataset name or key {text!r} cannot be part of a file name.")
        if not keys or len(set(keys)) != len(keys):
            self._refuse(f"dataset.keys is {list(keys)!r}, not a list of different keys.")
        elif train_key not in keys:
            self._refuse(f"dataset.train_key {train_key!r} is not among dataset.keys {list(keys)!r}.")
        template = str(data.get("template") or "")
        if template and len(keys) != 1:
            self._refuse(
                f"dataset.template makes one text, and dataset.keys is {list(keys)!r}, not the one name of its files."
            )
        return Dataset(name, keys, train_key, bool(ends), template, self.validation())

    def validation(self) -> float:
        value = self.data["dataset"].get("validation") or 0
        try:
            share = float(value)
        except (TypeError, ValueError):
            share = -1.0
        if not 0 <= share < 1:
            self._refuse(f"dataset.validation is {value!r}, not a share below 1, such as 0.01.")
            return 0.0
        return share

    def arguments(self) -> Dict[str, Any]:
        """Return flag (without dashes, words joined by them) -> value; a value of false or nothing leaves the flag out."""
        given = {str(flag).lstrip("-").replace("_", "-"): value for flag, value in self.data["arguments"].items()}
        arguments = {flag: value for flag, value in given.items() if value is not None and value is not False}
        if arguments.get("bf16") and arguments.get("fp16"):
            self._refuse("arguments give both bf16 and fp16.")
        return arguments

    def _refuse(self, what: str) -> None:
        name = self.data.get("name", "?")
        self.findings.refuse("recipe-value", f"Recipe {name!r}: {what}", remedy="Correct the recipe or the override.")
