# SPDX-License-Identifier: GPL-3.0-or-later
"""Git in single steps, neutral against whatever a user's configuration, hooks and attributes would do to a checkout.

Servers of this project have no git; the training image has one, of any age. So nothing newer than 2.17 is used, and in particular
not GIT_CONFIG_COUNT: the versions that distributions patched take `safe.directory` from a file only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

from .errors import CommandError, UnparsedError
from .host import Completed, Runner

STEP = 1800.0  # seconds; the largest of the three repositories is fetched from the local disk in seconds
FULL_COMMIT = re.compile(r"^[0-9a-f]{40}$")
TREE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # known to every git

# These hold even against the repository's own configuration.
_SETTINGS = (
    "core.autocrlf=false",
    "core.safecrlf=false",
    "core.fileMode=false",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.sparseCheckout=false",
    "diff.renames=false",
    "status.renames=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "advice.detachedHead=false",
    "gc.auto=0",
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
)
# For .git/info/attributes: a file's bytes are those in git, no end-of-line conversion and no filter, whatever .gitattributes asks for.
ATTRIBUTES = "* -text -filter -ident -working-tree-encoding\n"

# A configuration of our own in place of the user's: trees may belong to somebody else, and a full commit may be fetched by name.
_LAUNCH = r"""
home=$(mktemp -d) || exit 122
trap 'rm -rf "$home"' EXIT
printf '[safe]\n\tdirectory = *\n[uploadpack]\n\tallowAnySHA1InWant = true\n' > "$home/.gitconfig" || exit 122
HOME=$home XDG_CONFIG_HOME=$home GIT_CONFIG_GLOBAL=$home/.gitconfig GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export HOME XDG_CONFIG_HOME GIT_CONFIG_GLOBAL GIT_CONFIG_NOSYSTEM GIT_TERMINAL_PROMPT
"$@"
"""
# Git is given as "$@". One start looks at all trees: `@name`, the records of status, `=exit status`, each ended by NUL.
_LOOK = r"""
for name in $FLEET_TREES; do
  printf '@%s\0' "$name"
  "$@" -C "$FLEET_ROOT/$name" status --porcelain=v2 --branch -z --untracked-files=no --ignore-submodules=all
  printf '=%s\0' "$?"
done
"""
_NO_REPOSITORY = 128
_NO_COMMIT = "(initial)"


@dataclass(frozen=True)
class Tree:
    """What git says about a work tree. `head` is None where there is no commit yet; `dirty` names tracked paths only."""

    name: str
    is_repository: bool
    head: Optional[str] = None
    dirty: Sequence[str] = ()


class Git:
    """Git, run by a runner (a container, or a test's own machine) on the trees below one directory."""

    def __init__(self, runner: Runner, root: str) -> None:
        self.runner = runner
        self.root = root

    def run(self, tree: str, arguments: Sequence[str], check: bool = True, remedy: str = "") -> Completed:
        """Run git in a directory."""
        return self._launch(["-C", tree, *arguments], check=check, remedy=remedy)

    def look(self, names: Sequence[str]) -> Dict[str, Tree]:
        """Look at several trees below the root with one start, without writing anything."""
        if not names:
            return {}
        env = {"GIT_OPTIONAL_LOCKS": "0", "FLEET_ROOT": self.root, "FLEET_TREES": " ".join(names)}
        done = self._launch([], prefix=["sh", "-c", _LOOK, "look"], env=env, remedy="Check that the image has git.")
        return parse_look(done.stdout)

    def tracked_in(self, tree: str, commit: str) -> List[str]:
        """Return the paths that a commit tracks; submodules, which are left alone, are none."""
        return _tracked(self.run(tree, ["ls-tree", "-r", "-z", commit]).stdout)

    def tracked_now(self, tree: str) -> List[str]:
        """Return the paths that are tracked in the work tree as it is."""
        return _tracked(self.run(tree, ["ls-files", "--stage", "-z"]).stdout)

    def has_commit(self, repository: str, commit: str) -> bool:
        """Say whether a tree or a mirror has a commit."""
        return self.run(repository, ["cat-file", "-e", f"{commit}^{{commit}}"], check=False).rc == 0

    def is_repository(self, directory: str) -> bool:
        """Say whether a directory is a repository itself, and does not merely lie in one."""
        return self.run(directory, ["rev-parse", "--git-dir"], check=False).stdout.strip() in (".", ".git")

    def _launch(
        self,
        arguments: Sequence[str],
        prefix: Sequence[str] = (),
        check: bool = True,
        env: Optional[Dict[str, str]] = None,
        remedy: str = "",
    ) -> Completed:
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        argv = ["sh", "-c", _LAUNCH, "git", *prefix, "git", *settings, *arguments]
        # A directory that is no repository must not be taken for a part of one further up.
        full = {"GIT_CEILING_DIRECTORIES": self.root, **(env or {})}
        done = self.runner.run(argv, check=False, timeout=STEP, env=full)
        if check and done.rc != 0:
            # In the words that a person would type; the settings and the launcher around them say nothing.
            raise CommandError(["git", *arguments], done.rc, done.stdout, done.stderr, remedy=remedy)
        return done


def _tracked(text: str) -> List[str]:
    """Return the paths of `mode ... TAB path NUL` records that are no submodules."""
    records = [record for record in text.split("\0") if record and not record.startswith("160000")]
    return sorted({record.split("\t", 1)[1] for record in records})


def parse_look(text: str) -> Dict[str, Tree]:
    """Read the answer of a look at several trees."""
    found: Dict[str, Tree] = {}
    records: List[str] = []
    name = ""
    for record in text.split("\0"):
        if record.startswith("@"):
            name, records = record[1:], []
        elif record.startswith("="):
            found[name] = _tree(name, int(record[1:]), records)
        elif record:
            records.append(record)
    return found


def _tree(name: str, status: int, records: Sequence[str]) -> Tree:
    if status == _NO_REPOSITORY:
        return Tree(name, False)
    if status != 0:
        raise UnparsedError(f"`git status` of {name} ended with status {status}.", "Check that the image has git.")
    heads = [record.split(" ", 2)[2] for record in records if record.startswith("# branch.oid ")]
    if not heads:
        raise UnparsedError(f"`git status` of {name} named no commit: {records[:3]!r}.", "Check the image's git.")
    dirty = [_path(record) for record in records if record[0] in "12u"]
    return Tree(name, True, None if heads[0] == _NO_COMMIT else heads[0], sorted(dirty))


def _path(record: str) -> str:
    """Return the path of a status record: what follows 8 fields (ordinary), 9 (renamed) or 10 (unmerged)."""
    return record.split(" ", {"1": 8, "2": 9, "u": 10}[record[0]])[-1]
