# SPDX-License-Identifier: GPL-3.0-or-later
"""A piece of the staging host's content: a tree below /srv/ascend that is built once and kept under a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.shell import cache_directory


@dataclass(frozen=True)
class Piece:
    """One part of the content: `build` fills an empty directory."""

    name: str
    key: str
    build: Callable[[Path], None]

    @property
    def directory(self) -> Path:
        """Where the cache keeps it."""
        return cache_directory() / f"{self.name}-{self.key}"
