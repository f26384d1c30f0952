# SPDX-License-Identifier: GPL-3.0-or-later
"""What was mirrored for a staging host: one JSON file beside it that says of each artifact what was asked for, where it came from, and
the digest of every file.

Mirrored things keep the names and the layout that the inventory speaks of, so they have no fingerprint directories and no receipts of their
own; for the rest the rules are those of receipts. The record is written last, artifact by artifact, so that what a broken connection left
is taken up by the next run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Callable, ContextManager, Dict, Mapping, Optional, Sequence

from .errors import InputError
from .host import Host
from .manifest import Manifest, compare, scan
from .outcome import Outcome
from .progress import PROGRESS, measured
from .receipt import Verdict

PARTIAL = ".partial"  # ending of the sibling in which an artifact is made; it survives an interruption


@dataclass(frozen=True)
class Entry:
    """One artifact: `inputs` decide whether it is what is asked for, `made_with` is reported (origin, commits, what is missing)."""

    inputs: Mapping[str, Any]
    made_with: Mapping[str, Any]
    files: Manifest

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "inputs": dict(self.inputs),
            "made_with": dict(self.made_with),
            "bytes": self.files.total_bytes,
            "files": self.files.as_dict(),
        }


class Record:
    """The file, by default `mirror.json` in the directory that everything is mirrored into."""

    def __init__(self, host: Host, path: str) -> None:
        self.host = host
        self.path = path

    def entries(self) -> Dict[str, Any]:
        """Return the artifacts by name; none where the file is absent or cannot be understood."""
        try:
            data = json.loads(self.host.read_text(self.path) or "{}")
        except ValueError:
            return {}
        found = data.get("artifacts") if isinstance(data, dict) else None
        return found if isinstance(found, dict) else {}

    def read(self, name: str) -> Optional[Entry]:
        """Return what is recorded about an artifact."""
        data = self.entries().get(name)
        try:
            return Entry(data["inputs"], data["made_with"], Manifest.from_dict(data["files"])) if data else None
        except (KeyError, TypeError, AttributeError, InputError):
            return None

    def write(self, name: str, entry: Entry) -> None:
        """Record an artifact; the others stay as they are."""
        artifacts = {**self.entries(), name: entry.as_dict()}
        self.host.write_text(self.path, json.dumps({"artifacts": artifacts}, indent=1, sort_keys=True) + "\n")


@dataclass
class Mirrored:
    """An artifact in its place: a directory, or with `file` a single file in one."""

    record: Record
    directory: str
    file: str = ""
    ignore: Sequence[str] = field(default_factory=list)

    @property
    def host(self) -> Host:
        """The machine that it is on."""
        return self.record.host

    @property
    def place(self) -> str:
        """The path that the inventory speaks of."""
        return os.path.join(self.directory, self.file) if self.file else self.directory

    @property
    def name(self) -> str:
        """Its path, relative to the record where it lies below it."""
        relative = os.path.relpath(self.place, os.path.dirname(self.record.path))
        return self.place if relative.startswith("..") else relative

    def look(self, inputs: Mapping[str, Any], verify: str) -> Verdict:
        """Compare what is there with what is recorded and asked for."""
        entry = self.record.read(self.name)
        if self.host.stat(self.place) is None:
            return Verdict("absent")
        if entry is None:
            return Verdict("unsealed")
        if entry.inputs != inputs:
            return Verdict("other")
        differences = compare(self.host, self.directory, entry.files, verify)
        return Verdict("damaged" if differences else "ok", differences)

    def followed(self, doing: str, total: int = 0) -> ContextManager[None]:
        """While the block runs, leave beside the record how many bytes its sibling has, `total` (0: not known) in the end."""
        return measured(self.host, self.record.path + PROGRESS, doing, total, self._arrived)

    def _arrived(self) -> int:
        sibling = partial(self.place)
        files = self.host.walk_files(sibling) if self.host.is_dir(sibling) else [("", self.host.stat(sibling))]
        return sum(found.st_size for _, found in files if found)

    def seal(self, inputs: Mapping[str, Any], made_with: Mapping[str, Any]) -> Entry:
        """Record what was made, with the digest of every file."""
        old = self.record.read(self.name)
        patterns = [self.file] if self.file else []
        files = scan(self.host, self.directory, patterns, old.files if old else None, self.ignore)
        entry = Entry(inputs, made_with, files)
        self.record.write(self.name, entry)
        return entry


Build = Callable[[Verdict], Mapping[str, Any]]


def converge_mirrored(
    artifact: Mirrored, inputs: Mapping[str, Any], build: Build, verify: str = "stat", check_mode: bool = False
) -> Outcome:
    """Bring about a mirrored artifact. `build(verdict)` makes it or repairs it in its place and returns `made_with`.

    Nothing of the network is needed to find that there is nothing to do.
    """
    verdict = artifact.look(inputs, verify)
    entry = artifact.record.read(artifact.name)
    outcome = Outcome(changed=not verdict.ok, values={"place": artifact.place, "found": verdict.state})
    if not verdict.ok:
        outcome.before = {"inputs": dict(entry.inputs) if entry else None, "found": verdict.lines()}
        outcome.after = {"inputs": dict(inputs), "found": []}
        outcome.actions = [f"{artifact.name}: {line}" for line in verdict.lines()]
        entry = None if check_mode else _make(artifact, inputs, build, verify)
    outcome.values.update(_summary(entry))
    return outcome


def _make(artifact: Mirrored, inputs: Mapping[str, Any], build: Build, verify: str) -> Optional[Entry]:
    """Make the artifact, unless another run did so while this one waited for it."""
    with artifact.host.lock(f"{artifact.record.path}.lock"):
        verdict = artifact.look(inputs, verify)
        return artifact.record.read(artifact.name) if verdict.ok else artifact.seal(inputs, build(verdict))


def _summary(entry: Optional[Entry]) -> Dict[str, Any]:
    if entry is None:
        return {"made_with": None, "files": 0, "bytes": 0}
    return {"made_with": dict(entry.made_with), "files": len(entry.files.files), "bytes": entry.files.total_bytes}


def partial(place: str) -> str:
    """Return the sibling in which an artifact is made."""
    return place.rstrip("/") + PARTIAL
