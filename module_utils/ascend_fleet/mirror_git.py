# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare mirror of a git repository that has a pinned commit: from the network, a local clone or a bundle."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping

from .errors import CommandError, FleetError, InputError
from .git import FULL_COMMIT, Git
from .host import Host
from .mirror_record import Mirrored, Record, converge_mirrored, partial
from .outcome import Outcome
from .receipt import Verdict

FETCH_LIMIT = 4 * 3600.0  # seconds
# Branches and tags, not the requests and pull requests that a `clone --mirror` of a forge would bring.
REFSPECS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
# Keeps the pinned commit when its branch is rewritten one day and the mirror is fetched again.
PIN = "refs/ascend-fleet"
LEFT_OVER = "FETCH_HEAD"


class RepositoryMirror:
    """One repository: where it comes from, where it goes, and the commit that has to be in it."""

    def __init__(self, host: Host, params: Mapping[str, Any]) -> None:
        self.host = host
        self.url: str = params["url"]
        self.place: str = params["directory"].rstrip("/")
        self.artifact = Mirrored(Record(host, params["record"]), self.place)
        self.branch: str = params["branch"]
        self.commit: str = params["commit"]
        self.content: bool = params["verify"] == "content"
        # A neutral git for what is here; only the fetch itself uses the person's own configuration, with its proxies and logins.
        self.git = Git(host, os.path.dirname(self.place))

    def build(self, verdict: Verdict) -> Dict[str, Any]:
        """Have the commit in a whole repository at its place; return origin and commits."""
        fetched = False
        if not self._whole(self.place):
            target = partial(self.place)
            self._prepare(target)
            with self.artifact.followed("fetching"):
                self._fetch(target)
            self._verify(target)
            self.host.remove(self.place)
            self.host.rename(target, self.place)
            fetched = True
        self.git.run(self.place, ["update-ref", f"{PIN}/{self.commit}", self.commit])
        return {"url": self.url, "fetched": fetched, "commit": self.commit, **self._branch_head()}

    def _whole(self, path: str) -> bool:
        """Say whether what somebody left here is a repository in which everything of the commit is there."""
        if (
            not self.host.is_dir(path)
            or self.git.run(path, ["rev-parse", "--git-dir"], check=False).stdout.strip() != "."
        ):
            return False
        return self.git.has_commit(path, self.commit) and self._check(path).rc == 0

    def _check(self, path: str) -> Any:
        depth: List[str] = [] if self.content else ["--connectivity-only"]
        return self.git.run(path, ["fsck", "--no-dangling", *depth, self.commit], check=False)

    def _prepare(self, target: str) -> None:
        """Have an empty repository, or the one that an interrupted run left with what it had fetched."""
        if self.host.is_dir(self.place) and not self.host.is_dir(target):
            known = self.git.run(self.place, ["rev-parse", "--git-dir"], check=False).stdout.strip() == "."
            if known and self._sound(self.place):
                self.host.rename(self.place, target)
        if not self.host.is_dir(os.path.join(target, "objects")):
            self.host.remove(target)
            self.host.make_dirs(os.path.dirname(target))
            # Without templates: sample hooks would travel to every server.
            self.host.run(
                ["git", "init", "--quiet", "--bare", "--template=", target], remedy="Install git on this machine."
            )
        self.git.run(target, ["symbolic-ref", "HEAD", f"refs/heads/{self.branch}"])

    def _sound(self, path: str) -> bool:
        """Say whether an older mirror is worth fetching into: what it has is whole, only the commit is not there yet."""
        return self.git.run(path, ["fsck", "--no-dangling", "--connectivity-only"], check=False).rc == 0

    def _fetch(self, target: str) -> None:
        self._git_fetch(target, list(REFSPECS))
        if not self.git.has_commit(target, self.commit):
            # No branch has it any more; most forges give out any commit by its name.
            try:
                self._git_fetch(target, [f"{self.commit}:{PIN}/{self.commit}"])
            except FleetError as error:
                raise InputError(
                    f"{self.url} has no commit {self.commit}: no branch or tag leads to it, and it is not given out by name "
                    f"({error.message}).",
                    "Check the url and the commit of the release row; staging_mirror_urls replaces the url.",
                ) from error

    def _git_fetch(self, target: str, refspecs: List[str]) -> None:
        arguments = ["-c", "gc.auto=0", "fetch", "--quiet", "--no-tags", self.url, *refspecs]
        remedy = "Check the url, the way to the internet (https_proxy) and run again: what arrived is kept."
        if self.url.startswith(("/", "file://")):
            # A clone or bundle that a person named; that it may belong to somebody else is no reason to refuse it.
            self.git.run(target, arguments, remedy=remedy)
        else:
            env = {"GIT_TERMINAL_PROMPT": "0", "GIT_CEILING_DIRECTORIES": os.path.dirname(target)}
            self.host.run(["git", "-C", target, *arguments], timeout=FETCH_LIMIT, env=env, remedy=remedy)
        self._tidy(target)

    def _tidy(self, target: str) -> None:
        """Remove what a fetch that was interrupted left half-written: it would travel to every server."""
        left = [
            path
            for path, _ in self.host.walk_files(target)
            if os.path.basename(path).startswith("tmp_") or path == LEFT_OVER
        ]
        for path in left:
            self.host.remove(os.path.join(target, path))

    def _verify(self, target: str) -> None:
        done = self._check(target)
        if done.rc != 0:
            argv = ["git", "-C", target, "fsck", self.commit]
            raise CommandError(argv, done.rc, done.stdout, done.stderr, remedy=f"Remove {target} and run again.")

    def _branch_head(self) -> Dict[str, Any]:
        """Return where the branch is now: a pinned commit that is no longer its head is worth knowing, and no problem."""
        done = self.git.run(self.place, ["rev-parse", "--verify", "--quiet", f"refs/heads/{self.branch}"], check=False)
        head = done.stdout.strip() or None
        return {"branch": self.branch, "branch_head": head, "moved": head != self.commit}


def mirror_repository(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of module git_mirror; `params` are its options."""
    if not FULL_COMMIT.match(params["commit"]):
        raise InputError(
            f"Commit {params['commit']!r} of {params['url']} is not a full one (40 hexadecimal digits).",
            "Pin the full commit: names and short commits move.",
        )
    mirror = RepositoryMirror(host, params)
    inputs = {"url": mirror.url, "branch": mirror.branch, "commit": mirror.commit}
    return converge_mirrored(mirror.artifact, inputs, mirror.build, params["verify"], check_mode)
