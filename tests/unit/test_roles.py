# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of every role and playbook that no linter looks at."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
COMMENTED_OUT = re.compile(
    r"^# (\w+):", re.MULTILINE
)  # an input without a safe default stands in defaults as a comment


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.is_file() else None


def tasks_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for task in read(path) or []:
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += task.get(part, [])
    return found


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_spec_and_defaults_name_the_same_inputs(role: Path) -> None:
    defaults = role / "defaults" / "main.yml"
    named = set(read(defaults) or {}) | {
        name for name in COMMENTED_OUT.findall(defaults.read_text()) if name.startswith(role.name)
    }
    specs = read(role / "meta" / "argument_specs.yml")["argument_specs"]
    documented = set().union(*(spec.get("options", {}) for spec in specs.values()))
    assert named == documented
    assert all(name.startswith(f"{role.name}_") for name in named)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_tasks_have_no_defaults_of_their_own(role: Path) -> None:
    for path in (role / "tasks").rglob("*.yml"):
        assert not re.search(r"\|\s*d(efault)?\(", path.read_text()), f"{path}: inputs belong into defaults/"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_no_host_or_group_name_inside_a_role(role: Path) -> None:
    for path in role.rglob("*.yml"):
        assert not re.search(r"groups\[|groups\.|\bnpu-\d|\bstaging-\d", path.read_text()), path


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_change_is_never_hidden(role: Path) -> None:
    for path in (role / "tasks").rglob("*.yml"):
        text = path.read_text()
        assert "ignore_errors" not in text, path
        for line in re.findall(r"changed_when: false.*", text):
            assert "#" in line, f"{path}: changed_when: false needs its reason beside it"


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda playbook: playbook.stem)
def test_a_playbook_is_a_list_of_plays_with_tags(playbook: Path) -> None:
    for play in read(playbook):
        assert play["name"]
        if "ansible.builtin.import_playbook" in play:  # what a playbook that site.yml leaves out builds on
            assert (playbook.parent / play["ansible.builtin.import_playbook"]).is_file()
            continue
        assert play.get("gather_facts") is False, "facts cost 200 ms a host and play"
        assert play.get("tags"), "each stage can be run alone"


def test_site_only_imports_playbooks_that_exist() -> None:
    for entry in read(ROOT / "site.yml"):
        assert set(entry) <= {"name", "ansible.builtin.import_playbook"}
        assert (ROOT / entry["ansible.builtin.import_playbook"]).is_file()


def test_requirements_name_the_collections_used_and_nothing_else() -> None:
    used = set()
    for path in (ROOT / "roles").rglob("tasks/*.yml"):
        for task in tasks_of(path):
            used |= {".".join(key.split(".")[:2]) for key in task if key.count(".") >= 2}
    listed = {collection["name"] for collection in read(ROOT / "requirements.yml")["collections"]}
    assert used - {"ansible.builtin"} == listed
