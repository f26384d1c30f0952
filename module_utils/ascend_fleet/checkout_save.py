# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hard reset would destroy, put where it stays: changes as patches, untracked files and whole directories moved aside."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import List, Optional, Sequence, Set

from .errors import RefusedError
from .git import EMPTY_TREE, Git
from .host import Host

SAVED = ".saved"  # below the directory of the trees
# Made by Python, pip and upstream's compiler runs, and made again by them: the only untracked things that are ever removed.
BUILD_PRODUCTS = ("__pycache__", "*.py[co]", "*.egg-info", "*.so", "build")


def is_build_product(path: str) -> bool:
    """Say whether a relative path is, or lies in, a build product."""
    return any(fnmatch(part, pattern) for part in path.split("/") for pattern in BUILD_PRODUCTS)


@dataclass
class Rescue:
    """What is saved of one tree."""

    host: Host
    git: Git
    root: str
    name: str
    keep: Sequence[str]

    @property
    def path(self) -> str:
        """The tree's directory."""
        return os.path.join(self.root, self.name)

    def save_patch(self, head: Optional[str]) -> str:
        """Write the changes of tracked files as a patch against `head` and return its path.

        Git writes the file itself, so that bytes which are no UTF-8 survive. Equal changes give one patch, named by its content.
        """
        folder = os.path.join(self.root, SAVED)
        self.host.make_dirs(folder)
        new = os.path.join(folder, f".{self.name}.patch.new")
        options = ["--binary", "--full-index", "--no-ext-diff", "--no-textconv", "--no-color"]
        prefixes = ["--src-prefix=a/", "--dst-prefix=b/"]
        self.git.run(self.path, ["diff", *options, *prefixes, f"--output={new}", head or EMPTY_TREE])
        base = (head or EMPTY_TREE)[:12]
        patch = os.path.join(folder, f"{self.name}-{base}-{self.host.sha256(new)[:12]}.patch")
        self.host.rename(new, patch)
        return patch

    def move_whole(self) -> str:
        """Move the whole directory aside and return where it is now."""
        aside = self._aside()
        self.host.make_dirs(os.path.dirname(aside))
        self.host.rename(self.path, aside)
        return aside

    def clear_the_way(self, commit: str) -> List[str]:
        """Move untracked things aside that lie where the commit has files; build products are removed. Return where they are now.

        Raises RefusedError, before anything is moved, where that would touch a directory that is to be kept.
        """
        obstacles = self.obstacles(commit)
        kept = [path for path in obstacles if path.split("/")[0] in self.keep]
        if kept:
            raise RefusedError(
                f"Commit {commit} of {self.name} has files at {', '.join(kept)}, where untracked data of yours is.",
                f"Move {os.path.join(self.path, kept[0])} away yourself, or take it out of mindspeed_source_keep.",
            )
        aside = self._aside()
        moved = []
        for path in obstacles:
            if is_build_product(path):
                self.host.remove(os.path.join(self.path, path))
                continue
            target = os.path.join(aside, path)
            self.host.make_dirs(os.path.dirname(target))
            self.host.rename(os.path.join(self.path, path), target)
            moved.append(target)
        return moved

    def obstacles(self, commit: str) -> List[str]:
        """Return the untracked paths that `git checkout --force` would delete or replace."""
        now, then = set(self.git.tracked_now(self.path)), self.git.tracked_in(self.path, commit)
        found: Set[str] = set()
        looked: Set[str] = set()
        for path in sorted(now.union(then)):
            obstacle = self._blocking_parent(path, now, looked)
            full = os.path.join(self.path, path)
            if obstacle is None and (path not in now or self._is_plain_directory(full)) and self._exists(full):
                obstacle = path
            if obstacle is not None:
                found.add(obstacle)
        return sorted(found)

    def _blocking_parent(self, path: str, tracked: Set[str], looked: Set[str]) -> Optional[str]:
        """Return the parent that is there but is no plain directory (a file, or a link to somewhere else)."""
        parts = path.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            parent = "/".join(parts[:count])
            if parent in looked:
                continue
            full = os.path.join(self.path, parent)
            if self._exists(full) and not self._is_plain_directory(full):
                return None if parent in tracked else parent
            looked.add(parent)
        return None

    def _exists(self, path: str) -> bool:
        return self.host.stat(path) is not None or self.host.read_link(path) is not None

    def _is_plain_directory(self, path: str) -> bool:
        return self.host.is_dir(path) and self.host.read_link(path) is None

    def _aside(self) -> str:
        """Return a free place to move things of this tree to."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        place = os.path.join(self.root, SAVED, f"{self.name}-{stamp}")
        number = 1
        while self._exists(place):
            number += 1
            place = os.path.join(self.root, SAVED, f"{self.name}-{stamp}-{number}")
        return place
