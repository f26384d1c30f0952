# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an artifact on the host that serves it: what it consists of, and whether it is whole.

Hashing a model takes minutes, so hashes are kept between runs in a file outside of the artifact (which may be read-only) and hold
as long as size and time of a file do.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence

from .errors import InputError, ProblemsError
from .host import Host
from .manifest import FileEntry, Manifest
from .outcome import Outcome
from .receipt import RECEIPT, read_receipt
from .serve import allowed_roots, is_below
from .weights_check import file_problem, index_problems, model_problems


@dataclass(frozen=True)
class Survey:
    """What was found below `root`: files, empty directories (a bare git repository needs its own), how many were hashed now."""

    root: str
    kind: str  # file | directory
    manifest: Manifest
    directories: Sequence[str] = ()
    hashed: int = 0


def show_manifest(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module artifact_manifest; `params` are its options."""
    if check_mode and params["predicted"]:
        # The real run makes or repairs the source before it gets here: what its receipt promises is what will be there.
        receipt = read_receipt(host, os.path.join(params["path"], RECEIPT))
        if receipt or host.stat(params["path"]) is None:
            return _result(Survey(params["path"], "directory", receipt.outputs if receipt else Manifest({})))
    known = _known(host, params["cache_dir"], params["path"])
    survey = survey_artifact(host, params["path"], known, params["verify"])
    problems = index_problems(host, survey.root, survey.manifest)
    if params["expect"] == "model":
        problems += model_problems(survey.manifest, survey.root, params["allow_pickle"])
    if problems:
        raise ProblemsError(problems, "Nothing was transferred; repair the source and run again.")
    if survey.hashed and params["cache_dir"] and not check_mode:
        _keep(host, params["cache_dir"], params["path"], survey.manifest)
    return _result(survey)


def _result(survey: Survey) -> Outcome:
    return Outcome(
        values={
            "root": survey.root,
            "kind": survey.kind,
            "manifest": survey.manifest.as_dict(),
            "contents": survey.manifest.contents(),
            "directories": list(survey.directories),
            "files": len(survey.manifest.files),
            "bytes": survey.manifest.total_bytes,
            "hashed": survey.hashed,
        }
    )


def survey_artifact(host: Host, path: str, known: Optional[Manifest] = None, verify: str = "stat") -> Survey:
    """Return files and empty directories of an artifact. Raises InputError (absent) or ProblemsError (all broken files)."""
    found = _found(host, path)
    root = path if found.kind == "directory" else os.path.dirname(path)
    files: Dict[str, FileEntry] = {}
    problems: List[str] = []
    hashed = 0
    roots = allowed_roots(root)
    for relative, entry in sorted(found.manifest.files.items()):
        full = os.path.join(root, relative)
        old = known.files.get(relative) if known else None
        if old and verify != "content" and (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns):
            files[relative] = old
            continue
        problem = _link_problem(full, roots) or file_problem(host, full, entry.size)
        if problem:
            problems.append(problem)
            continue
        files[relative] = replace(entry, sha256=host.sha256(full))
        hashed += 1
    if problems:
        raise ProblemsError(problems, "Nothing was transferred; repair the source and run again.")
    return replace(found, manifest=Manifest(files), hashed=hashed)


def _found(host: Host, path: str) -> Survey:
    """List what is at the path; sizes and times, no hashes yet."""
    found = host.stat(path)
    if found is None:
        raise InputError(
            f"{path} is not there.", "Check the path in the inventory, and that the source was brought to this host."
        )
    if host.is_file(path):
        entry = FileEntry(found.st_size, found.st_mtime_ns, "")
        return Survey(os.path.dirname(path), "file", Manifest({os.path.basename(path): entry}))
    files = {
        relative: FileEntry(stat.st_size, stat.st_mtime_ns, "")
        for relative, stat in host.walk_files(path)
        if relative != RECEIPT
    }
    if not files:
        raise InputError(
            f"{path} has no files.", "Check the path in the inventory, and that the source was brought to this host."
        )
    return Survey(path, "directory", Manifest(files), _empty_directories(path))


def _empty_directories(root: str) -> List[str]:
    return sorted(
        os.path.relpath(folder, root) for folder, folders, names in os.walk(root) if not folders and not names
    )


def _link_problem(path: str, roots: Sequence[str]) -> Optional[str]:
    """A link out of the directory would not be served: say so before anything is sent."""
    if is_below(path, roots):
        return None
    return f"{path} is a link out of its directory, to {os.path.realpath(path)}: put the file itself there"


def _cache_path(cache_dir: str, path: str) -> str:
    name = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:16]
    return os.path.join(cache_dir, f"manifest-{name}.json")


def _known(host: Host, cache_dir: str, path: str) -> Optional[Manifest]:
    """Return the hashes of an earlier run: from the artifact's own receipt, else from the cache. Damage means: none."""
    places = [os.path.join(path, RECEIPT)] + ([_cache_path(cache_dir, path)] if cache_dir else [])
    for place in places:
        try:
            return Manifest.from_dict(json.loads(host.read_text(place) or "")["outputs"])
        except (ValueError, KeyError, TypeError, InputError):
            continue
    return None


def _keep(host: Host, cache_dir: str, path: str, manifest: Manifest) -> None:
    text = json.dumps({"path": os.path.realpath(path), "outputs": manifest.as_dict()}, sort_keys=True)
    host.write_text(_cache_path(cache_dir, path), text + "\n")
