# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipts: the one idea of the project.

A stage turns inputs into an artifact, a directory `<work root>/<stage>/<fingerprint>/`, and leaves `receipt.json` in it:

- `inputs`: content hashes, parameters, source commits. Their fingerprint names the directory; they alone decide convergence.
- `made_with`: host, versions, duration. Reported, never a reason to redo.
- `outputs`: the manifest of the directory.
- `parents`: stage -> fingerprint of the artifacts that it was made from.

`current` beside the directories points to the one in use and is switched atomically. Work goes on in a sibling that a crash leaves
behind harmlessly; the receipt is written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from .errors import FleetError, InputError
from .host import Host
from .manifest import Differences, Manifest, compare, scan
from .outcome import Outcome

RECEIPT = "receipt.json"
CURRENT = "current"
# What a person reads about an artifact in which no single file is wrong.
WORDS = {"unsealed": "no receipt", "not-current": "not in use"}
FINGERPRINT_LENGTH = 16  # hexadecimal digits; 64 bits name the artifacts of one work root safely


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """Return the name that inputs give to what is made of them."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:FINGERPRINT_LENGTH]


@dataclass(frozen=True)
class Receipt:
    """What a stage leaves beside its artifact."""

    stage: str
    inputs: Mapping[str, Any]
    outputs: Manifest
    made_with: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The name of the artifact's directory."""
        return fingerprint(self.inputs)

    def summary(self) -> Dict[str, Any]:
        """Return the receipt without the single files: what a report shows and another stage refers to."""
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "inputs": dict(self.inputs),
            "made_with": dict(self.made_with),
            "parents": dict(self.parents),
            "files": len(self.outputs.files),
            "bytes": self.outputs.total_bytes,
        }

    def as_dict(self) -> Dict[str, Any]:
        """Return plain data for JSON."""
        return {**self.summary(), "outputs": self.outputs.as_dict()}


def read_receipt(host: Host, path: str) -> Optional[Receipt]:
    """Return the receipt in a file; None where there is none or where it cannot be understood."""
    text = host.read_text(path)
    if text is None:
        return None
    try:
        data = json.loads(text)
        outputs = Manifest.from_dict(data["outputs"])
        return Receipt(data["stage"], data["inputs"], outputs, data.get("made_with", {}), data.get("parents", {}))
    except (ValueError, KeyError, TypeError, InputError):
        return None


@dataclass(frozen=True)
class Verdict:
    """What a look at an artifact found. `ok` means: nothing to do."""

    state: str  # ok | absent | unsealed (files without a receipt) | damaged | not-current
    differences: Differences = field(default_factory=Differences)
    receipt: Optional[Receipt] = None

    @property
    def ok(self) -> bool:
        """Nothing has to be done."""
        return self.state == "ok"

    def lines(self) -> List[str]:
        """Return the findings, one a line, for `actions` and `diff`."""
        return self.differences.lines() or ([] if self.ok else [WORDS.get(self.state, self.state)])


class Store:
    """The artifacts of one stage on one host."""

    def __init__(self, host: Host, work_root: str, stage: str) -> None:
        self.host = host
        self.stage = stage
        self.root = os.path.join(work_root, stage)

    def path(self, name: str) -> str:
        """Return the directory of the artifact with this fingerprint."""
        return os.path.join(self.root, name)

    def partial(self, name: str) -> str:
        """Return the sibling in which the artifact is made."""
        return os.path.join(self.root, f".{name}.partial")

    def clear_partials(self, keep: str = "") -> None:
        """Remove the siblings that earlier work left, whatever it was to become; `keep` is the fingerprint of one to go on from.

        Only for whoever has this stage on this host for itself.
        """
        for entry in self.host.list_dir(self.root):
            path = os.path.join(self.root, entry)
            if entry.startswith(".") and entry.endswith(".partial") and path != self.partial(keep):
                self.host.remove(path)

    def current(self) -> Optional[str]:
        """Return the fingerprint of the artifact in use, if one is."""
        return self.host.read_link(os.path.join(self.root, CURRENT))

    def make_current(self, name: str) -> None:
        """Put an artifact in use."""
        if self.current() != name:
            self.host.point(os.path.join(self.root, CURRENT), name)

    def read(self, name: str) -> Optional[Receipt]:
        """Return the receipt of an artifact; None where there is none or where it cannot be understood."""
        return read_receipt(self.host, os.path.join(self.path(name), RECEIPT))

    def current_receipt(self) -> Optional[Receipt]:
        """Return the receipt of the artifact in use."""
        name = self.current()
        return self.read(name) if name else None

    def write(self, receipt: Receipt, directory: Optional[str] = None) -> None:
        """Write a receipt into its artifact's directory (or into the sibling where that is being made)."""
        folder = directory or self.path(receipt.fingerprint)
        text = json.dumps(receipt.as_dict(), indent=1, sort_keys=True) + "\n"
        self.host.write_text(os.path.join(folder, RECEIPT), text)

    def look(self, inputs: Mapping[str, Any], verify: str = "stat", expected: Iterable[str] = ()) -> Verdict:
        """Compare what is there with what the inputs ask for.

        `expected` are paths that this host has to have: elsewhere a part of the same artifact may be all that is needed.
        """
        name = fingerprint(inputs)
        if not self.host.is_dir(self.path(name)):
            return Verdict("absent")
        receipt = self.read(name)
        if receipt is None or receipt.fingerprint != name:
            return Verdict("unsealed")
        differences = compare(self.host, self.path(name), receipt.outputs, verify)
        never_here = set(expected) - set(receipt.outputs.files)
        if never_here:
            differences = replace(differences, missing=sorted({*differences.missing, *never_here}))
        if differences:
            return Verdict("damaged", differences, receipt)
        return Verdict("ok" if self.current() == name else "not-current", differences, receipt)

    def seal(
        self, name: str, inputs: Mapping[str, Any], made_with: Mapping[str, Any], parents: Mapping[str, str]
    ) -> Receipt:
        """Turn the finished sibling into the artifact: manifest, receipt, rename, `current`.

        An artifact of that name that is in the way was found damaged or unsealed by the caller; it is moved aside, never merged.
        """
        partial = self.partial(name)
        receipt = Receipt(self.stage, inputs, scan(self.host, partial, ignore=[RECEIPT]), made_with, parents)
        self.write(receipt, partial)
        if self.host.is_dir(self.path(name)):
            self.host.remove(self.path(f".{name}.replaced"))
            self.host.rename(self.path(name), self.path(f".{name}.replaced"))
        self.host.rename(partial, self.path(name))
        self.host.remove(self.path(f".{name}.replaced"))
        self.make_current(name)
        return receipt


Build = Callable[[str, Verdict], Mapping[str, Any]]


def converge(
    store: Store,
    inputs: Mapping[str, Any],
    build: Build,
    parents: Optional[Mapping[str, str]] = None,
    verify: str = "stat",
    check_mode: bool = False,
    expected: Iterable[str] = (),
) -> Outcome:
    """Bring about the artifact that the inputs ask for, with all `expected` files of it.

    `build(directory, verdict)` makes the files in an empty directory and returns `made_with`; it is called only when the look
    found that something is to be done. The result carries `directory`, `found` and `artifact`, the receipt's summary (None when
    only predicted); not `path` and `state`, which Ansible itself overwrites with facts on a file.
    """
    verdict = store.look(inputs, verify, expected)
    name = fingerprint(inputs)
    before = store.current_receipt()
    outcome = Outcome(
        changed=not verdict.ok, values={"fingerprint": name, "directory": store.path(name), "found": verdict.state}
    )
    outcome.values["artifact"] = verdict.receipt.summary() if verdict.receipt else None
    if verdict.ok:
        return outcome
    outcome.before = {"inputs": dict(before.inputs) if before else None, "found": verdict.lines()}
    outcome.after = {"inputs": dict(inputs), "found": []}
    outcome.actions = [f"{store.stage} {name}: {line}" for line in verdict.lines()]
    if check_mode:
        return outcome
    if verdict.state == "not-current":
        store.make_current(name)
        return outcome
    partial = store.partial(name)
    store.clear_partials()
    try:
        store.host.make_dirs(partial)
        made_with = build(partial, verdict)
        receipt = store.seal(name, inputs, made_with, parents or {})
    except (FleetError, OSError):
        store.host.remove(partial)  # the next attempt may well be one with other inputs, which would not look here
        raise
    outcome.values["artifact"] = receipt.summary()
    return outcome
