# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring an artifact to this host and keep it whole: look, plan, fetch, verify, receipt.

The look compares what is here with the source's manifest by hash, never by what an earlier run said it did. Only files that are
absent or wrong travel; those whose content the artifact in use already has are shared with it. Files are fetched into the sibling
of the artifact, hashed there, and moved into place one rename each, so that neither a broken connection nor a full disk leaves
anything half-made where somebody looks.
"""

from __future__ import annotations

import os
import random
import time
from itertools import compress
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .errors import FleetError, InputError, VerificationError
from .host import Host, side_by_side
from .manifest import FileEntry, Manifest, compare
from .outcome import Outcome
from .progress import PROGRESS, measured
from .receipt import Receipt, Store, fingerprint
from .sync_plan import Plan, Request, make_plan
from .transfer import ConnectionLost, Source, TurnedAway, choose_method, pull
from .transfer_files import alone, copy, make_readable, move_into_place, set_time, share

SPARE_BYTES = 16 * 1024 * 1024  # what a file system keeps for directories and the receipt
LOCK = ".lock"  # in the stage's directory: one process fetches at a time
ATTEMPTS = 3  # connections that bring nothing and break, in a row, before a person has to look
PATIENCE = 120.0  # seconds that a serving host may turn this one away; hundreds of hosts start at the same moment
PAUSE = (0.5, 3.0)  # seconds between two attempts then


def sync_artifact(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module artifact_sync; `params` are its options."""
    store = Store(host, params["work_root"], params["stage"])
    manifest = Manifest.from_dict(params["manifest"])
    request = Request(
        inputs=params["inputs"] or {"contents": manifest.contents()},
        wanted=manifest.select(params["patterns"]),
        directories=params["directories"] if not params["patterns"] else [],
        parents=params["parents"],
        verify=params["verify"],
    )
    predicted = check_mode and bool(params["inputs"]) and not manifest.files
    if not request.wanted.files and not predicted:
        raise InputError(
            f"No file of the source matches {', '.join(params['patterns'])}.", "Check the patterns and the source."
        )
    plan = make_plan(store, request)
    outcome = predict(store, request, plan)
    if plan.state == "ok" or check_mode:
        return outcome
    started = time.monotonic()
    _check_room(store, plan)
    with alone(os.path.join(store.root, LOCK)) as waited:
        if waited:
            plan = make_plan(store, request)
        method = "none" if plan.state == "ok" else Fetcher(store, request, plan, params).run()
    outcome.values.update(method=method, seconds=round(time.monotonic() - started, 1))
    receipt = store.read(fingerprint(request.inputs))
    outcome.values["artifact"] = receipt.summary() if receipt else None
    return outcome


def predict(store: Store, request: Request, plan: Plan) -> Outcome:
    """Turn a plan into the result that check mode shows and the real run keeps to."""
    name = fingerprint(request.inputs)
    before = store.current_receipt()
    receipt = store.read(name)
    outcome = Outcome(changed=plan.state != "ok")
    outcome.values = {
        "fingerprint": name,
        "path": store.path(name),
        "found": plan.state,
        "artifact": receipt.summary() if receipt else None,
        "files_to_fetch": len(plan.fetch.files),
        "bytes_to_fetch": plan.fetch.total_bytes,
        "files_shared": len(plan.share),
        "method": "none",
        "seconds": 0.0,
    }
    if outcome.changed:
        outcome.before = {"inputs": dict(before.inputs) if before else None, "found": list(plan.lines)}
        outcome.after = {"inputs": dict(request.inputs), "found": []}
        outcome.actions = [f"{store.stage} {name}: {line}" for line in plan.lines]
    return outcome


def _check_room(store: Store, plan: Plan) -> None:
    """Refuse before the first byte what would end in a full disk."""
    if not plan.fetch.files:
        return
    partial = store.partial(plan.name)
    there = sum(found.st_size for path, found in store.host.walk_files(partial) if path in plan.fetch.files)
    need = plan.fetch.total_bytes - there + SPARE_BYTES
    free = store.host.free_bytes(store.root)
    if free < need:
        raise FleetError(
            f"{store.root} has {free} bytes free; {store.stage} needs {need} ({len(plan.fetch.files)} files).",
            "Make room there, or give another ascend_work_root.",
            free_bytes=free,
            needed_bytes=need,
        )


class Fetcher:
    """Carries a plan out."""

    def __init__(self, store: Store, request: Request, plan: Plan, params: Mapping[str, Any]) -> None:
        self.store = store
        self.host = store.host
        self.request = request
        self.plan = plan
        self.name = fingerprint(request.inputs)
        self.target = store.path(self.name)
        self.partial = store.partial(self.name)
        self.source = params["source"] or {}
        self.local = params["local"]
        self.method = params["method"]

    def run(self) -> str:
        """Fetch, verify, put in place, write the receipt, switch `current`; return the method used."""
        self._drop_strangers()
        try:
            for path, have in self.plan.share.items():
                share(have, self._arrival(path))
            method = self._fetch()
        except FleetError:
            self._forget_nothing()
            raise
        if self.host.is_dir(self.target):
            self._repair()
        else:
            self._seal()
        self.store.make_current(self.name)
        return method

    def _arrival(self, path: str) -> str:
        return os.path.join(self.partial, path)

    def _fetch(self) -> str:
        """Bring the files of the plan into the sibling, each with the hash that the manifest gives; return the method."""
        waiting = self._unfinished(self.plan.fetch.files)
        if not waiting:
            return "none"
        method = self._bring(waiting)
        wrong = self._unfinished(waiting, keep_parts=False)
        if wrong:
            # A file that was continued after its source changed is wrong in its first half: fetch it whole, once.
            self._bring(wrong)
            wrong = self._unfinished(wrong, keep_parts=False)
        if wrong:
            raise VerificationError(
                f"{', '.join(sorted(wrong))} arrived from {self._source_name()} with another content than its manifest gives.",
                "The file was changed on that host, or its disk is failing: compare it there with its origin, and run again with "
                "verify: content.",
                files=sorted(wrong),
            )
        return method

    def _bring(self, files: Mapping[str, FileEntry]) -> str:
        total = sum(entry.size for entry in files.values())
        with measured(
            self.host, os.path.join(self.store.root, PROGRESS), "fetching", total, lambda: self._arrived(files)
        ):
            if not self.local:
                return self._pull(self._grant(), files)
            self._copy(files)
            return "local"

    def _arrived(self, files: Mapping[str, FileEntry]) -> int:
        """Return the bytes of these files that are in the sibling."""
        found = [self.host.stat(self._arrival(path)) for path in files]
        return sum(one.st_size for one in found if one)

    def _grant(self) -> Source:
        source = Source.from_params(self.source)
        if not (source.private_key or source.socket):
            raise InputError(
                f"{self.plan.fetch.total_bytes} bytes have to come from {source.name}, but no key was given.",
                "Open a grant there with transfer_grant and pass its private_key.",
            )
        return source

    def _pull(self, source: Source, files: Mapping[str, FileEntry]) -> str:
        method = choose_method(self.host, source, self.method)
        for path in files:
            self.host.make_dirs(os.path.dirname(self._arrival(path)))
        left, lost, patient_until = dict(files), 0, time.monotonic() + PATIENCE
        while True:
            before = self._arrived(left)
            try:
                return pull(self.host, source, left, self.partial, method)
            except TurnedAway:
                if time.monotonic() > patient_until:
                    raise
                time.sleep(
                    random.uniform(*PAUSE)
                )  # the others that were turned away ask again, too, and not all at once
            except ConnectionLost:
                lost = lost + 1 if self._arrived(left) <= before else 1
                if lost == ATTEMPTS:
                    raise
                left = self._unfinished(left)

    def _copy(self, files: Mapping[str, FileEntry]) -> None:
        root = self.source.get("root")
        if not root:
            raise InputError("A local source is given without its root.", "Give source.root.")
        for path in files:
            copy(os.path.join(root, path), self._arrival(path))

    def _unfinished(self, files: Mapping[str, FileEntry], keep_parts: bool = True) -> Dict[str, FileEntry]:
        """Return the files that are not yet there with the right content; finish off those that are.

        A shorter file is kept as a beginning to go on from; one that is long enough and wrong is removed.
        """
        looked: List[int] = []

        def is_left(item: Tuple[str, FileEntry]) -> bool:
            left = not self._is_whole(*item, keep_parts=keep_parts)
            looked.append(item[1].size)
            return left

        total = sum(entry.size for entry in files.values())
        with measured(self.host, os.path.join(self.store.root, PROGRESS), "checking", total, lambda: sum(looked)):
            return dict(compress(files.items(), side_by_side(is_left, files.items())))

    def _is_whole(self, path: str, entry: FileEntry, keep_parts: bool) -> bool:
        full = self._arrival(path)
        found = self.host.stat(full)
        if found and found.st_size == entry.size and self.host.sha256(full) == entry.sha256:
            make_readable(full)
            set_time(full, entry.mtime_ns)
            return True
        if found and not (keep_parts and found.st_size < entry.size):
            self.host.remove(full)
        return False

    def _drop_strangers(self) -> None:
        """Remove what interrupted runs left: other siblings, and in this one what this plan does not want."""
        self.store.clear_partials(keep=self.name)
        expected = set(self.plan.fetch.files) | set(self.plan.share)
        self.host.make_dirs(self.partial)
        for path, _ in list(self.host.walk_files(self.partial)):
            if path not in expected:
                self.host.remove(self._arrival(path))

    def _forget_nothing(self) -> None:
        """After a refusal: a sibling in which nothing arrived has nothing to go on from."""
        if not any(True for _ in self.host.walk_files(self.partial)):
            self.host.remove(self.partial)

    def _repair(self) -> None:
        """Move what arrived into the damaged artifact and renew its receipt, if anything of it changed."""
        for path in [*self.plan.fetch.files, *self.plan.share]:
            move_into_place(self._arrival(path), os.path.join(self.target, path))
        self._make_directories(self.target)
        old = self.store.read(self.name)
        if self.plan.state != "not-current":
            self.store.write(self._receipt(self.target, old))
        self.host.remove(self.partial)

    def _seal(self) -> None:
        """Turn the sibling into the artifact; the receipt is its last file."""
        self._make_directories(self.partial)
        self.store.write(self._receipt(self.partial, None), self.partial)
        self.host.rename(self.partial, self.target)

    def _make_directories(self, root: str) -> None:
        for path in self.request.directories:
            self.host.make_dirs(os.path.join(root, path))

    def _receipt(self, root: str, old: Optional[Receipt]) -> Receipt:
        """Describe what is there now. Hashes are those just verified; sizes and times are this host's own."""
        files: Dict[str, FileEntry] = {}
        if old is not None:
            # Files from a time when this host needed more of the artifact stay on record while they are whole.
            gone = compare(self.host, root, old.outputs, "stat")
            files = {
                path: entry for path, entry in old.outputs.files.items() if path not in {*gone.missing, *gone.changed}
            }
        for path, entry in self.request.wanted.files.items():
            found = self.host.stat(os.path.join(root, path))
            if found is None:
                raise VerificationError(
                    f"{path} is not in {root} after the transfer.", "Run again; something removed it."
                )
            files[path] = FileEntry(found.st_size, found.st_mtime_ns, entry.sha256)
        made_with = {"source": self._source_name()}
        return Receipt(self.store.stage, self.request.inputs, Manifest(files), made_with, self.request.parents)

    def _source_name(self) -> str:
        return str(self.source.get("name") or self.source.get("address") or "this host")
