# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the three bare repositories of the stand-in upstream: python -m lab.upstream.build --out DIR.

Commits are the same everywhere: they are written object by object with fixed authors and dates, and nothing of the
machine's git configuration is read. Each branch goes on past the commit that a release pins, to code that the pinned
trees of the other two do not fit: who checks out a branch instead of a commit finds out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).parent
# Objects are never put through filters, so that line ends and dates stay ours.
_CRLF_UNDER = "examples/mcore/qwen25_coder/"
_SKIPPED = ("__pycache__", ".egg-info", ".mypy_cache", ".ruff_cache")
_PINNED_AT = 1743465600  # 2025-04-01, seconds
_DAY = 86400


@dataclass(frozen=True)
class Repository:
    """One upstream repository: its branch, the files of its first commit, and what changes after the pin."""

    name: str
    branch: str
    first_files: tuple[str, ...]
    changed_file: str
    addition: str


REPOSITORIES = (
    Repository(
        "MindSpeed",
        "2.0.0_core_r0.8.0",
        ("README.md", ".gitignore"),
        "mindspeed/megatron_adaptor.py",
        "\nimport megatron.core.packed_seq_params  # the next Megatron has it\n",
    ),
    Repository(
        "MindSpeed-LLM",
        "2.0.0",
        ("README.md", ".gitignore"),
        "mindspeed_llm/training/arguments.py",
        "\nimport megatron.core.packed_seq_params  # the next Megatron has it\n",
    ),
    Repository(
        "Megatron-LM",
        "core_r0.8.0",
        ("README.md", ".gitignore"),
        "megatron/core/__init__.py",
        '\n__version__ = "0.9.0rc0"\n',
    ),
)


def build_repositories(target_dir: Path) -> dict[str, str]:
    """Make {MindSpeed,MindSpeed-LLM,Megatron-LM}.git below `target_dir` anew and return the commit to pin of each."""
    target_dir.mkdir(parents=True, exist_ok=True)
    return {repository.name: _build(repository, target_dir / f"{repository.name}.git") for repository in REPOSITORIES}


def _build(repository: Repository, target: Path) -> str:
    partial = target.with_name(f"{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    _git(partial, "init", "--quiet", "--bare", f"--initial-branch={repository.branch}", str(partial), inside=False)
    files = _tree(SOURCES / repository.name)
    beginning = {path: files[path] for path in repository.first_files}
    commits: list[str] = []
    _commit(partial, beginning, f"Start {repository.name}", commits)
    _commit(partial, files, f"Add what release {repository.branch} holds", commits)
    pinned = commits[-1]
    moved_on = {**files, repository.changed_file: files[repository.changed_file] + repository.addition.encode()}
    _commit(partial, moved_on, "Move on to the next release", commits)
    _git(partial, "update-ref", f"refs/heads/{repository.branch}", commits[-1])
    _git(partial, "update-ref", f"refs/tags/v{repository.branch}", pinned)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return pinned


def _tree(source: Path) -> dict[str, bytes]:
    """Return the files of a repository by their path in it; example scripts get the CRLF line ends of upstream's."""
    found = {}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.is_file() and not any(part in name for part in _SKIPPED):
            content = path.read_bytes()
            found[name] = content.replace(b"\n", b"\r\n") if name.startswith(_CRLF_UNDER) else content
    return found


def _commit(repository: Path, files: dict[str, bytes], message: str, commits: list[str]) -> None:
    """Append a commit with exactly these files; its date is a day after the one before."""
    listing = []
    for name, content in files.items():
        blob = _git(repository, "hash-object", "-w", "--no-filters", "--stdin", data=content)
        listing.append(f"{'100755' if name.endswith('.sh') else '100644'} {blob}\t{name}\n")
    _git(repository, "read-tree", "--empty")
    _git(repository, "update-index", "--add", "--index-info", data="".join(listing).encode())
    tree = _git(repository, "write-tree")
    parents = ["-p", commits[-1]] if commits else []
    date = _PINNED_AT + _DAY * len(commits)
    commits.append(_git(repository, "commit-tree", tree, *parents, "-m", message, date=date))
    (repository / "index").unlink()


def _git(
    repository: Path, *arguments: str, data: bytes | None = None, date: int = _PINNED_AT, inside: bool = True
) -> str:
    """Run git without any configuration but the repository's own and return what it prints."""
    stamp = f"{date} +0000"
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TEMPLATE_DIR": "",
        "GIT_DEFAULT_HASH": "sha1",
        "GIT_AUTHOR_NAME": "Lab",
        "GIT_AUTHOR_EMAIL": "lab@example.invalid",
        "GIT_AUTHOR_DATE": stamp,
        "GIT_COMMITTER_NAME": "Lab",
        "GIT_COMMITTER_EMAIL": "lab@example.invalid",
        "GIT_COMMITTER_DATE": stamp,
    }
    where = [f"--git-dir={repository}"] if inside else []
    command = [
        "git",
        "-c",
        "core.autocrlf=false",
        "-c",
        "commit.gpgsign=false",
        "-c",
        f"core.hooksPath={os.devnull}",
        *where,
        *arguments,
    ]
    done = subprocess.run(command, input=data or b"", env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout.decode().strip()


def main(arguments: list[str] | None = None) -> int:
    """Make the repositories below --out and print the commits to pin as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m lab.upstream.build", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for the bare repositories")
    print(json.dumps(build_repositories(parser.parse_args(arguments).out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
