# SPDX-License-Identifier: GPL-3.0-or-later
"""The data that ships: every release row has the same form and can be planned, every recipe too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan import given

RELEASES = sorted(given.RELEASES.glob("*.yml"))
RECIPES = sorted(given.RECIPES.glob("*.yml"))

# Key -> type of a release row; every key but the first two is backed by an entry in `evidence`.
ROW: dict[str, type] = {
    "name": str,
    "evidence": dict,
    "sources": dict,
    "hdk": str,
    "cann": str,
    "torch": str,
    "torch_npu": str,
    "python": str,
    "image": dict,
    "env_scripts": list,
    "launch": str,
    "converter": dict,
    "native_engines": list,
}


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_release_rows_have_one_form(path: Path) -> None:
    row = given.load(path)
    assert {key: type(value) for key, value in row.items()} == ROW
    assert row["name"] == path.stem
    assert set(row["evidence"]) == set(ROW) - {"name", "evidence"}
    assert set(row["sources"]) == {"MindSpeed-LLM", "MindSpeed", "Megatron-LM"}
    for source in row["sources"].values():
        assert re.fullmatch(r"[0-9a-f]{40}", source["commit"])
        assert source["branch"]
        assert source["url"].startswith("https://")
    assert set(row["image"]) == {"repository", "tags"}
    assert row["converter"]["dialect"] in ("convert_ckpt", "convert_ckpt_v2")
    assert all(script.startswith("/") for script in row["env_scripts"])


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_releases_can_be_planned(path: Path) -> None:
    for architecture in given.load(path)["image"]["tags"]:
        assert given.make(row=given.load(path), architecture=architecture)["release"]["name"] == path.stem


def model_for(recipe: dict[str, Any]) -> dict[str, Any]:
    return given.CODER_7B if recipe["name"].startswith("qwen2.5-coder-7b") else given.config()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_planned(path: Path) -> None:
    recipe = given.load(path)
    world = recipe["parallel"]["tp"] * recipe["parallel"]["pp"]
    made = given.make(wanted=recipe, model=model_for(recipe), fleet=given.hosts(1, tuple(range(world))))
    assert made["recipe"] == recipe["name"] == path.stem
    assert made["dp"] == 1


def test_the_4k_recipe_leaves_something_to_resume_from() -> None:
    recipe = given.recipe("qwen2.5-coder-7b-4k")
    made = given.make(wanted=recipe, model=given.CODER_7B)
    assert made["warnings"] == []
