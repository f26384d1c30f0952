# SPDX-License-Identifier: GPL-3.0-or-later
"""Source trees at full commits, made so from local mirrors, with nothing of the user's lost.

Users keep weights, datasets and checkpoints *inside* these trees, and upstream's .gitignore covers only some of them. So nothing here
cleans a tree. What a hard reset would destroy is saved or moved aside first (checkout_save.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .checkout_save import Rescue
from .docker import Engine
from .docker_container import refuse_under_job
from .errors import FleetError, InputError, ProblemsError, VerificationError
from .git import ATTRIBUTES, FULL_COMMIT, TREE_NAME, Git, Tree
from .host import Container, Host
from .outcome import Outcome

DOWNLOADS = (
    "",
    ".zip",
    ".tar.gz",
    ".tgz",
)  # endings of what a website gives in place of a clone; none once it is unpacked


@dataclass(frozen=True)
class Pin:
    """Which commit a tree is to be at. `branch` only serves error messages."""

    name: str
    commit: str
    branch: str = ""


@dataclass
class Finding:
    """A tree compared with its pin. `state`: ok, absent, no-repository, other-commit, dirty or unknown (git could not be asked)."""

    pin: Pin
    state: str
    head: Optional[str] = None
    dirty: Sequence[str] = ()

    def before(self) -> Dict[str, Any]:
        """Return what is there, for a diff."""
        return {"state": self.state, "commit": self.head, "changed_files": list(self.dirty)}

    def action(self) -> str:
        """Return what has to be done, in words."""
        words = {
            "absent": "make the tree",
            "no-repository": "move the directory aside, since git cannot read it as a repository, and make the tree",
            "unknown": "make the tree, once the container runs that has git",
            "dirty": f"save and reset {len(self.dirty)} changed files ({', '.join(self.dirty[:5])})",
            "other-commit": f"go from commit {self.head} to {self.pin.commit}"
            + (f", saving {len(self.dirty)} changed files" if self.dirty else ""),
        }
        return f"{self.pin.name}: {words[self.state]}"


@dataclass
class Checkout:
    """The work on all trees of one server."""

    host: Host
    git: Git
    root: str
    mirror: str
    keep: Sequence[str]
    saved: List[str] = field(default_factory=list)
    moved: List[str] = field(default_factory=list)

    def look(self, pins: Sequence[Pin]) -> List[Finding]:
        """Compare every tree with its pin, with one start of git."""
        there = [pin.name for pin in pins if self.host.is_dir(self._path(pin.name))]
        trees = self.git.look(there)
        return [_compare(pin, trees.get(pin.name), pin.name in there) for pin in pins]

    def bring(self, finding: Finding) -> None:
        """Bring one tree to its commit."""
        pin, path = finding.pin, self._path(finding.pin.name)
        rescue = Rescue(self.host, self.git, self.root, pin.name, self.keep)
        if finding.state == "no-repository":
            self.moved.append(rescue.move_whole())
        if finding.state in ("absent", "no-repository"):
            self.host.make_dirs(path)
            self.git.run(path, ["init", "--quiet", "--template="])
        self._fetch(pin, path)
        self._make_neutral(path)
        if finding.dirty:
            self.saved.append(rescue.save_patch(finding.head))
        if finding.head and finding.head != pin.commit:
            self._keep_commit(pin.name, path, finding.head)
        self.moved += rescue.clear_the_way(pin.commit)
        self.git.run(path, ["checkout", "--quiet", "--force", "--detach", pin.commit])

    def require_commits(self, findings: Sequence[Finding]) -> None:
        """Raise ProblemsError where a commit can be had nowhere; asked of all trees before any of them is touched."""
        problems = [problem for problem in map(self._lack, findings) if problem]
        if problems:
            raise ProblemsError(
                problems,
                "Fetch what is missing into the mirrors on the staging host (git fetch) and run the tag source, "
                "or correct the commits in the release row. No tree was touched.",
            )

    def _lack(self, finding: Finding) -> str:
        pin, mirror = finding.pin, self._mirror(finding.pin.name)
        is_repository = finding.state in ("dirty", "other-commit")
        if is_repository and self.git.has_commit(self._path(pin.name), pin.commit):
            return ""
        if not self.host.is_dir(mirror):
            return f"the mirror {mirror}, from which {pin.name} is made, is absent{self._beside(pin)}"
        if not self.git.is_repository(mirror):
            return (
                f"{mirror}, from which {pin.name} is made, is no git repository: an unpacked download has no history and none of "
                "its commits can be proven. Put a clone there (git clone --bare)"
            )
        if self.git.has_commit(mirror, pin.commit):
            return ""
        branch = f" (branch {pin.branch})" if pin.branch else ""
        return f"commit {pin.commit} of {pin.name}{branch} is not in the mirror {mirror}"

    def _beside(self, pin: Pin) -> str:
        """Say what lies where the mirror should be and is a download in its place."""
        names = {f"{stem}{ending}" for stem in (pin.name, f"{pin.name}-{pin.branch}") for ending in DOWNLOADS}
        found = sorted(names.intersection(self.host.list_dir(self.mirror)))
        return f" ({found[0]} beside it is a download without history: git clone --bare instead)" if found else ""

    def _fetch(self, pin: Pin, path: str) -> None:
        """Get the commit from the mirror, where the tree does not have it yet."""
        if not self.git.has_commit(path, pin.commit):
            mirror = self._mirror(pin.name)
            self.git.run(
                path,
                ["fetch", "--quiet", "--no-tags", "--update-shallow", mirror, pin.commit],
                remedy="Look whether the mirror on the staging host is whole (git fsck) and clone it anew where it is not.",
            )

    def _keep_commit(self, name: str, path: str, head: str) -> None:
        """Give a commit that only this tree has a name, so that git never collects it."""
        mirror = self._mirror(name)
        if self.host.is_dir(mirror) and self.git.has_commit(mirror, head):
            return
        reference = f"refs/saved/{head}"
        self.git.run(path, ["update-ref", reference, head])
        self.saved.append(f"{path}: {reference}")

    def _make_neutral(self, path: str) -> None:
        directory = os.path.join(path, ".git")
        if not self.host.is_dir(directory):
            return  # a worktree or submodule of another repository, whose attributes are not ours to set
        attributes = os.path.join(directory, "info", "attributes")
        if self.host.read_text(attributes) != ATTRIBUTES:
            self.host.write_text(attributes, ATTRIBUTES)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def _mirror(self, name: str) -> str:
        return os.path.join(self.mirror, f"{name}.git")


def ensure_checkouts(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Bring all source trees of a server to their commits."""
    pins = _pins(params["commits"], params["branches"])
    root = params["root"]
    engine = Engine(host, params["docker_cli"])
    state = engine.container(params["container"])
    if state is None or not state.running:
        if not check_mode:
            raise FleetError(
                f"Container {params['container']}, whose git is used, does not run.", "Run the tag container before."
            )
        return _outcome(root, [_without_git(host, root, pin) for pin in pins])
    # Without the environment scripts: the libraries they bring are for CANN, and git would load them.
    git = Git(Container(host, params["container"], (), params["docker_cli"]), root)
    checkout = Checkout(host, git, root, params["mirror"], params["keep"])
    findings = checkout.look(pins)
    outcome = _outcome(root, findings)
    if outcome.changed:
        refuse_under_job(engine, state, f"its sources would change ({'; '.join(outcome.actions)})")
    if outcome.changed and not check_mode:
        _apply(checkout, pins, findings, outcome)
    return outcome


def _apply(checkout: Checkout, pins: Sequence[Pin], findings: Sequence[Finding], outcome: Outcome) -> None:
    work = [finding for finding in findings if finding.state != "ok"]
    checkout.require_commits(work)
    for finding in work:
        checkout.bring(finding)
    wrong = [finding for finding in checkout.look(pins) if finding.state != "ok"]
    if wrong:
        raise VerificationError(
            f"After the checkout these trees are not at their commits: {'; '.join(one.action() for one in wrong)}.",
            "Look whether something else works in them at the same time, and run again.",
        )
    outcome.values.update(saved=checkout.saved, moved_aside=checkout.moved)
    outcome.actions += [f"saved {path}" for path in checkout.saved]
    outcome.actions += [f"moved aside to {path}" for path in checkout.moved]


def _outcome(root: str, findings: Sequence[Finding]) -> Outcome:
    wrong = [finding for finding in findings if finding.state != "ok"]
    outcome = Outcome(changed=bool(wrong), actions=[finding.action() for finding in wrong])
    if wrong:
        outcome.before = {finding.pin.name: finding.before() for finding in wrong}
        outcome.after = {
            finding.pin.name: {"state": "ok", "commit": finding.pin.commit, "changed_files": []} for finding in wrong
        }
    outcome.values = {
        "trees": {
            finding.pin.name: {
                "path": os.path.join(root, finding.pin.name),
                "commit": finding.pin.commit,
                "found": finding.before(),
            }
            for finding in findings
        },
        "saved": [],
        "moved_aside": [],
    }
    return outcome


def _pins(commits: Mapping[str, Any], branches: Mapping[str, Any]) -> List[Pin]:
    pins = [Pin(name, str(commits[name]), str(branches.get(name) or "")) for name in sorted(commits)]
    for pin in pins:
        if not TREE_NAME.match(pin.name):
            raise InputError(
                f"{pin.name!r} is no name for a source tree.", "Use letters, digits, dots, dashes and underscores."
            )
        if not FULL_COMMIT.match(pin.commit):
            raise InputError(
                f"{pin.name} is to be at {pin.commit!r}, which is no full commit.",
                "Give all 40 hexadecimal digits: a branch or a tag moves, and a short one may become ambiguous.",
            )
    return pins


def _compare(pin: Pin, tree: Optional[Tree], there: bool) -> Finding:
    if tree is None:
        return Finding(pin, "unknown" if there else "absent")
    if not tree.is_repository:
        return Finding(pin, "no-repository")
    state = "other-commit" if tree.head != pin.commit else "dirty" if tree.dirty else "ok"
    return Finding(pin, state, tree.head, tree.dirty)


def _without_git(host: Host, root: str, pin: Pin) -> Finding:
    """Predict while no git can be asked: a detached HEAD at the commit is what an earlier checkout left."""
    path = os.path.join(root, pin.name)
    if not host.is_dir(path):
        return Finding(pin, "absent")
    head = (host.read_text(os.path.join(path, ".git", "HEAD")) or "").strip()
    return Finding(pin, "ok" if head == pin.commit else "unknown", head or None)
