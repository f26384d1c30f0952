# SPDX-License-Identifier: GPL-3.0-or-later
"""A model's files at one revision, from a hub or a local clone: brought, compared with their origin's digests, put in place together."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Sequence

from .errors import FleetError, InputError, ProblemsError
from .host import Host, side_by_side
from .manifest import scan
from .mirror_clone import Clone
from .mirror_hub import Hub
from .mirror_listing import Listing, RemoteFile, matches
from .mirror_record import Mirrored, Record, converge_mirrored, partial
from .outcome import Outcome
from .receipt import Verdict
from .transfer_files import copy, make_readable, move_into_place
from .weights_check import file_problem, index_problems, model_problems

SPARE_BYTES = 64 * 1024 * 1024


class ModelMirror:
    """One model: its origin, its place, and what is left out of it."""

    def __init__(self, host: Host, params: Mapping[str, Any]) -> None:
        self.host = host
        self.params = params
        self.place: str = params["directory"].rstrip("/")
        self.artifact = Mirrored(Record(host, params["record"]), self.place)

    def inputs(self) -> Dict[str, Any]:
        """Return what is asked for; the endpoint is a way there and no part of it."""
        kind = "clone" if self.params["clone"] else "repository"
        return {kind: self.params[kind], "revision": self.params["revision"], "exclude": sorted(self.params["exclude"])}

    def build(self, verdict: Verdict) -> Dict[str, Any]:
        """Bring what is missing or wrong, prove all of it, put it in place."""
        started = time.monotonic()
        listing = self._listing()
        files = listing.select(self.params["exclude"])
        if not files:
            raise InputError(
                f"Nothing is left of {self._origin()} at {listing.commit}.", "Check the patterns to leave out."
            )
        wanted = [file for file in files if not matches(self.host, os.path.join(self.place, file.path), file)]
        self._bring(listing, wanted)
        self._prove_arrived(wanted)
        self._put_in_place(wanted)
        self._drop_former(files)
        self._prove_whole()
        return {
            "origin": self._origin(),
            "endpoint": "" if self.params["clone"] else self.params["endpoint"],
            "commit": listing.commit,
            "fetched": len(wanted),
            "left_out": sorted({file.path for file in listing.files} - {file.path for file in files}),
            "digests": {file.path: f"{file.algorithm}:{file.digest}" for file in files},
            "surplus": self._surplus(files),
            "seconds": round(time.monotonic() - started, 1),
        }

    def _origin(self) -> str:
        return str(self.params["clone"] or self.params["repository"])

    def _listing(self) -> Listing:
        if self.params["clone"]:
            return Clone(self.host, self.params["clone"]).listing(self.params["revision"])
        return self._hub().listing(self.params["repository"], self.params["revision"])

    def _hub(self) -> Hub:
        return Hub(self.params["endpoint"], self.params["token"])

    def _bring(self, listing: Listing, wanted: Sequence[RemoteFile]) -> None:
        """Have every wanted file in the partial directory, which an interruption leaves for the next run."""
        target = partial(self.place)
        self.host.make_dirs(target)
        # What a person put there by hand and is right only has to be looked at, not fetched.
        arrived = sum(min(file.size, _size(self.host, os.path.join(target, file.path))) for file in wanted)
        total = sum(file.size for file in wanted)
        self._check_room(target, total - arrived)
        with self.artifact.followed("copying" if self.params["clone"] else "downloading", total):
            if self.params["clone"]:
                places = Clone(self.host, self.params["clone"]).places(list(wanted))
                for path, place in places.items():
                    copy(place, os.path.join(target, path))
            else:
                hub, repository = self._hub(), self.params["repository"]
                side_by_side(lambda file: hub.fetch(self.host, repository, listing.commit, file, target), wanted)

    def _check_room(self, target: str, need: int) -> None:
        free = self.host.free_bytes(target)
        if free < need + SPARE_BYTES:
            raise FleetError(
                f"{target} has {free} bytes free; {self._origin()} needs {need} more.",
                "Make room, or give another mirror_directory.",
            )

    def _prove_arrived(self, wanted: Sequence[RemoteFile]) -> None:
        target = partial(self.place)
        problems = []
        for file in wanted:
            path = os.path.join(target, file.path)
            # The digest is that of the origin; that the origin itself has a pointer or a torn file is another matter.
            problem = file_problem(self.host, path, file.size) if file.size else None
            if problem:
                problems.append(problem)
        if problems:
            raise ProblemsError(
                problems, f"Nothing was put into {self.place}. Choose another revision of {self._origin()}."
            )

    def _put_in_place(self, wanted: Sequence[RemoteFile]) -> None:
        target = partial(self.place)
        for file in wanted:
            make_readable(os.path.join(target, file.path))
            move_into_place(os.path.join(target, file.path), os.path.join(self.place, file.path))
        self.host.remove(target)

    def _drop_former(self, files: Sequence[RemoteFile]) -> None:
        """Remove what an earlier revision had and this one has not: its shards would travel and be loaded with the new ones."""
        entry = self.artifact.record.read(self.artifact.name)
        for path in sorted(set(entry.files.files if entry else ()) - {file.path for file in files}):
            self.host.remove(os.path.join(self.place, path))

    def _prove_whole(self) -> None:
        manifest = scan(self.host, self.place)
        problems = model_problems(manifest, self.place, allow_pickle=True) + index_problems(
            self.host, self.place, manifest
        )
        if problems:
            raise ProblemsError(problems, "Take a repository that holds a whole model, or leave less of it out.")

    def _surplus(self, files: Sequence[RemoteFile]) -> List[str]:
        """Return files of the directory that the origin does not have: they travel to the servers, too."""
        known = {file.path for file in files}
        return sorted(path for path, _ in self.host.walk_files(self.place) if path not in known)


def mirror_model(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of module model_snapshot; `params` are its options."""
    if bool(params["clone"]) == bool(params["repository"]):
        raise InputError(
            "Either a repository of the hub or a clone has to be given.", "Set staging_mirror_weights_repository."
        )
    mirror = ModelMirror(host, params)
    return converge_mirrored(mirror.artifact, mirror.inputs(), mirror.build, params["verify"], check_mode)


def _size(host: Host, path: str) -> int:
    found = host.stat(path)
    return found.st_size if found else 0
