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
    "conda": str,
    "launch": str,
    "converter": dict,
    "native_engines": list,
    "data_paths_per_split": bool,
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
    for tag in row["image"]["tags"].values():
        assert isinstance(tag, str) or (
            set(tag) == {"a2", "a3"} and all(isinstance(name, str) for name in tag.values())
        )
    assert row["converter"]["dialect"] in ("convert_ckpt", "convert_ckpt_v2")
    assert all(script.startswith("/") for script in row["env_scripts"])


@pytest.mark.parametrize("path", RELEASES, ids=lambda path: path.stem)
def test_releases_can_be_planned(path: Path) -> None:
    row = given.load(path)
    for architecture, tag in row["image"]["tags"].items():
        for chip in ("a2", "a3"):
            release = given.make(row=row, architecture=architecture, chip=chip)["release"]
            assert release["name"] == path.stem
            assert release["image"].endswith(f":{tag if isinstance(tag, str) else tag[chip]}")
            assert release["mixed"] == []


def test_every_release_is_there() -> None:
    assert {path.stem for path in RELEASES} == {
        *("1.0.RC3", "1.0.0", "2.0.0", "2.1.0"),
        *("2.2.0", "2.3.0", "26.0.0", "26.1.0"),
    }


def test_the_name_of_a_release_changes_everything_that_belongs_together() -> None:
    old, new = (given.make(row=given.release(name)) for name in ("2.0.0", "2.3.0"))
    for key in ("image", "commits", "branches", "env_scripts", "conda", "cann", "hdk", "torch", "torch_npu", "python"):
        assert old["release"][key] != new["release"][key], key
    assert "/usr/local/Ascend/cann/set_env.sh" in new["release"]["env_scripts"]
    assert new["release"]["conda"] == "llm_test"
    own = given.make(row={**given.release("2.3.0"), "launch": "msrun"})
    assert own["launch"]["launcher"] == own["release"]["launch"] == "msrun"


def test_a_release_without_an_image_needs_one_of_the_site() -> None:
    row = given.release("2.1.0")
    assert [item["code"] for item in given.refused(row=row)] == ["release-image"]
    made = given.make(row=row, release_overrides={"image": {"name": "registry.site/own:1"}})
    assert made["release"]["image"] == "registry.site/own:1"
    assert made["release"]["mixed"] == ["image.name"]
    assert "Release 2.1.0 is mixed: image.name come from this site" in made["warnings"][0]


def test_a_chip_that_a_release_has_no_image_for() -> None:
    (found,) = given.refused(row=given.release("2.3.0"), chip="a5")
    assert (found["code"], found["nearest"]) == ("release-image", "a2, a3")
    (found,) = given.refused(row=given.release("2.3.0"), architecture="x86_64")
    assert (found["code"], found["nearest"]) == ("release-image", "aarch64")


def model_for(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the largest published model whose name begins a recipe's, or the lab's."""
    names = [name for name in given.load(given.MODELS) if recipe["name"].startswith(name)]
    return given.model(max(names, key=len)) if names else given.config()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_can_be_planned(path: Path) -> None:
    recipe = given.load(path)
    sizes = recipe["parallel"]
    world = sizes["tp"] * sizes["pp"] * sizes.get("cp", 1)
    made = given.make(
        wanted=recipe, model=model_for(recipe), fleet=given.hosts(1, tuple(range(world))), memory_check="warn"
    )
    assert made["recipe"] == recipe["name"] == path.stem
    assert made["dp"] == 1


def test_recipes_reach_from_half_a_billion_to_72() -> None:
    names = " ".join(path.stem for path in RECIPES)
    for model in ("qwen2.5-0.5b", "1.5b", "3b", "7b", "14b", "32b", "72b", "qwen2.5-coder", "llama"):
        assert model in names


def test_the_4k_recipe_leaves_something_to_resume_from() -> None:
    recipe = given.recipe("qwen2.5-coder-7b-4k")
    made = given.make(wanted=recipe, model=given.CODER_7B)
    assert made["warnings"] == []
