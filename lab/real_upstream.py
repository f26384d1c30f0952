# SPDX-License-Identifier: GPL-3.0-or-later
"""The three real repositories as the staging host holds them: bare, each with the commit that the release row pins.

They come from clones or mirrors of the user's (REHEARSAL_UPSTREAM names their directory), or with the word `download`
from where the release row says they are published. A source that lacks objects of old commits is good enough as long as
it has the pinned one.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.pieces import Piece
from lab.shell import CLONE, LabError, attempt, run, say

RELEASE = "2.0.0"
VARIABLE = "REHEARSAL_UPSTREAM"
DOWNLOAD = "download"
FORMAT = "1"
# The whole history first, as users have it; then less of it, where a mirror lacks parts. None is the whole.
DEPTHS = (None, 100, 1)
# The sending side of a directory: a commit may be asked for by name, and the directory may be somebody else's.
SENDER = "git -c uploadpack.allowAnySHA1InWant=true -c 'safe.directory=*' upload-pack"


@dataclass(frozen=True)
class Source:
    """A repository of the release row."""

    name: str
    branch: str
    commit: str
    url: str


def sources(release: str = RELEASE) -> list[Source]:
    """The repositories that a release row pins, by name."""
    import yaml

    row: dict[str, Any] = yaml.safe_load((CLONE / "releases" / f"{release}.yml").read_text(encoding="utf-8"))
    return [Source(name, one["branch"], one["commit"], one["url"]) for name, one in sorted(row["sources"].items())]


def piece() -> Piece:
    """The staging content `git`; its key is what is pinned, wherever that comes from."""
    pinned = sources()
    digest = hashlib.sha256(json.dumps([FORMAT, *(vars(source) for source in pinned)]).encode()).hexdigest()[:12]
    return Piece("git", f"real-{digest}", lambda target: build(pinned, target / "git", named()))


def named() -> str:
    """Where the user said that the repositories are; empty where nothing was said."""
    return os.environ.get(VARIABLE, "")


def build(pinned: list[Source], target: Path, upstream: str) -> None:
    """Fill `target` with a bare repository <name>.git of each source; LabError says what is missing."""
    places = {source.name: locate(source, upstream) for source in pinned}
    target.mkdir(parents=True)
    for source in pinned:
        _fetch(source, places[source.name], target / f"{source.name}.git")


def locate(source: Source, upstream: str) -> str:
    """Return where a repository is fetched from: a work tree or a bare mirror below `upstream`, or its published place."""
    if upstream == DOWNLOAD:
        return source.url
    if not upstream:
        raise LabError(f"the real repositories are needed.\n{how_to_get_them()}")
    for name in (source.name, f"{source.name}.git"):
        place = Path(upstream).expanduser().resolve() / name
        if (place / ".git").exists() or (place / "objects").is_dir():
            return str(place)
    raise LabError(f"{upstream} has neither {source.name} nor {source.name}.git.\n{how_to_get_them()}")


def how_to_get_them() -> str:
    """Say how a user gets the three repositories."""
    clones = [f"    git clone --bare {source.url} upstream/{source.name}.git" for source in sources()]
    return "\n".join(
        [
            "Get them where there is internet, bring the directory here, and name it:",
            *clones,
            "    make rehearse UPSTREAM=upstream",
            f"On a machine with internet, `make rehearse UPSTREAM={DOWNLOAD}` gets the pinned commits itself.",
        ]
    )


def _fetch(source: Source, place: str, repository: Path) -> None:
    """Make a bare repository that has the pinned commit on its branch, with as much history as can be had."""
    run(["git", "init", "--quiet", "--bare", f"--initial-branch={source.branch}", str(repository)])
    here = os.path.isdir(place)
    # An address, so that --depth counts for a directory, too.
    sender = [f"--upload-pack={SENDER}", f"file://{place}"] if here else [place]
    said = ""
    for depth in DEPTHS if here else DEPTHS[-1:]:  # of what is published, one commit is enough
        options = ["--quiet", "--no-tags", *([f"--depth={depth}"] if depth else [])]
        wanted = f"{source.commit}:refs/heads/{source.branch}"
        done = attempt(["git", f"--git-dir={repository}", "fetch", *options, *sender, wanted])
        if done.returncode == 0:
            say(f"{source.name} at {source.commit[:12]} from {place}, {_extent(depth)}")
            return
        said = done.stderr.decode(errors="replace").strip()
    raise LabError(
        f"{place} does not give commit {source.commit} of {source.name} (branch {source.branch}): {said[-500:]}\n"
        f"Fetch the branch there, or clone it anew.\n{how_to_get_them()}"
    )


def _extent(depth: int | None) -> str:
    return f"up to {depth} commits deep" if depth else "with its whole history"
