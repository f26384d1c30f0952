# SPDX-License-Identifier: GPL-3.0-or-later
"""Three mirrors with a history of their own, and the source root of one server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ModuleResult, RunModule
from tests.unit.modules.local_engine import LocalEngine

NAMES = ("Megatron-LM", "MindSpeed", "MindSpeed-LLM")
IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


def git(tree: Path, *arguments: str) -> str:
    line = ["git", "-c", "safe.directory=*", "-C", str(tree), *arguments]
    return subprocess.run(
        line, env={**os.environ, **IDENTITY}, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(tree: Path, files: Mapping[str, bytes | None]) -> str:
    for name, content in files.items():
        path = tree / name
        if content is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    git(tree, "add", "--all", "--force")
    git(tree, "commit", "--quiet", "--message", "x")
    return git(tree, "rev-parse", "HEAD")


@dataclass
class Site:
    """Mirrors with a history of their own, and the source root of one server."""

    root: Path
    engine: LocalEngine
    run_library: RunModule
    commits: dict[str, str]
    older: dict[str, str]

    @property
    def source(self) -> Path:
        return self.root / "source"

    def tree(self, name: str = "MindSpeed-LLM") -> Path:
        return self.source / name

    def run(self, check_mode: bool = False, **more: Any) -> ModuleResult:
        params = {
            "root": str(self.source),
            "mirror": str(self.root / "mirror"),
            "commits": self.commits,
            "branches": dict.fromkeys(self.commits, "2.0.0"),
            "container": self.engine.name,
            "docker_cli": self.engine.cli,
            **more,
        }
        return self.run_library("pinned_checkout", params, check_mode=check_mode)

    def heads(self) -> dict[str, str]:
        return {name: git(self.tree(name), "rev-parse", "HEAD") for name in NAMES}


def make_mirror(folder: Path, name: str) -> tuple[str, str]:
    """Make a bare mirror; return an older commit and the one to pin. Its branch goes on past the pin."""
    work = folder / f"{name}.work"
    work.mkdir(parents=True)
    git(work, "init", "--quiet", "--initial-branch", "2.0.0")
    (work / ".git" / "info" / "attributes").write_text("* -text -filter\n")  # CRLF gets into the commit as it is
    older = commit(work, {"README.md": name.encode(), "old/gone.py": b"1\n", "run.sh": b"echo\r\n"})
    pinned = commit(
        work,
        {
            "old/gone.py": None,
            "run.sh": b"#!/bin/bash\r\necho hello\r\n",
            "new/module.py": b"print(1)\n",
            "latin.txt": b"caf\xe9\n",
            ".gitignore": b"/megatron/\n/model_from_hf/\n__pycache__/\n",
            ".gitattributes": b"*.sh text eol=lf\n*.bin filter=lfs\n",
        },
    )
    commit(work, {"README.md": b"moved on\n"})
    git(work, "clone", "--quiet", "--bare", str(work), str(folder / f"{name}.git"))
    return older, pinned


@pytest.fixture(scope="session")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Mirrors made once; every test has a copy."""
    folder = tmp_path_factory.mktemp("mirrors")
    return folder, {name: make_mirror(folder, name) for name in NAMES}


@pytest.fixture
def site(tmp_path: Path, run_library: RunModule, mirrors: tuple[Path, dict[str, tuple[str, str]]]) -> Site:
    folder, made = mirrors
    shutil.copytree(folder, tmp_path / "mirror")
    commits = {name: pinned for name, (_, pinned) in made.items()}
    older = {name: old for name, (old, _) in made.items()}
    return Site(tmp_path, LocalEngine(tmp_path / "engine"), run_library, commits, older)
