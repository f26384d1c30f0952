# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages on roads into the project name has to be there: variables, playbooks, tags, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PAGES = [ROOT / "docs" / name for name in ("from-the-manual-recipe.md", "staging.md")]
PREFIXES = (
    "ascend_",
    "training_",
    "run_plan_",
    "staging_mirror_",
    "dataset_preprocessing_",
    "mindspeed_",
    "model_export_",
)


def variables() -> set[str]:
    """Return every input of a role, and what the example inventory sets or shows as a comment."""
    named: set[str] = set()
    for path in (ROOT / "roles").glob("*/defaults/main.yml"):
        named |= set(yaml.safe_load(path.read_text()) or {})
    example = (ROOT / "inventory" / "prod" / "group_vars" / "all" / "fleet.yml").read_text()
    return named | set(re.findall(r"^(?:#\s+)?(\w+):", example, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    words = {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[a-z_]+_[a-z_]+", code)}
    named = {word for word in words if word.startswith(PREFIXES) and not word.endswith("_")}
    assert named
    assert named <= variables() | {"ascend_staging", "ascend_verify"}
    for playbook in re.findall(r"playbooks/[a-z-]+\.yml", text):
        assert (ROOT / playbook).is_file(), playbook
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (page.parent / link).is_file(), link


def test_the_tags_of_the_page_are_those_of_the_site() -> None:
    site = yaml.safe_load((ROOT / "site.yml").read_text())
    tags = set()
    for entry in site:
        for play in yaml.safe_load((ROOT / entry["ansible.builtin.import_playbook"]).read_text()):
            tags |= set(play.get("tags", []))
    rows = [line for line in PAGES[0].read_text().splitlines() if line.startswith("| ")][1:]
    cells = [re.sub(r"\(\[.*?\]\(.*?\)\)|\(\[.*", "", row.rsplit("|", 2)[1]) for row in rows]
    named = {word for cell in cells for word in re.findall(r"`([a-z]+)`", cell)}
    assert named and named <= tags
