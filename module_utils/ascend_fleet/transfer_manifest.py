# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at an artifact on the host that serves it: what it consists of, and whether it is whole.

Hashing a model takes minutes, so hashes are kept between runs in a file outside of the artifact (which may be read-only) and hold
as long as size and time of a file do. Whoever wants to say how far it is gives the time that one look may take, and looks again with what
is known so far.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, Dict, List, Optional, Sequence

from .errors import InputError, ProblemsError
from .host import Host
from .manifest import FileEntry, Manifest
from .outcome import Outcome
from .progress import progress_line
from .receipt import RECEIPT, read_receipt
from .serve import allowed_roots, is_below
from .weights_check import file_problem, index_problems, model_problems

# What lies beside a model and is none of it: notes, and the directories of git and of the hub's client, which change by themselves.
BESIDE_A_MODEL = (".*", "*.md", "LICENSE*", "NOTICE*")


@dataclass(frozen=True)
class Survey:
    """What was found below `root`: files, empty directories (a bare git repository needs its own), how many were hashed now.

    `left` are the bytes of files that are not hashed yet; they are not in the manifest.
    """

    root: str
    kind: str  # file | directory
    manifest: Manifest
    directories: Sequence[str] = ()
    hashed: int = 0
    left: int = 0


def show_manifest(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Action of the module artifact_manifest; `params` are its options."""
    if check_mode and params["predicted"]:
        # The real run makes or repairs the source before it gets here: what its receipt promises is what will be there.
        receipt = read_receipt(host, os.path.join(params["path"], RECEIPT))
        if receipt or host.stat(params["path"]) is None:
            return _result(Survey(params["path"], "directory", receipt.outputs if receipt else Manifest({})))
    started = time.monotonic()
    sure = Manifest.from_dict(params["known"])
    known = _known(host, params["cache_dir"], params["path"]) if params["verify"] == "stat" else Manifest({})
    known = Manifest({**known.files, **sure.files})
    survey = survey_artifact(
        host,
        params["path"],
        known,
        params["seconds"] or math.inf,
        BESIDE_A_MODEL if params["expect"] == "model" else (),
    )
    if survey.hashed and params["cache_dir"] and not check_mode:
        _keep(host, params["cache_dir"], params["path"], survey.manifest)
    if survey.left:
        return _unfinished(survey, known, time.monotonic() - started)
    problems = index_problems(host, survey.root, survey.manifest)
    if params["expect"] == "model":
        problems += model_problems(survey.manifest, survey.root, params["allow_pickle"])
    if problems:
        raise ProblemsError(problems, "Nothing was transferred; repair the source and run again.")
    return _result(survey)


def _unfinished(survey: Survey, known: Manifest, seconds: float) -> Outcome:
    done = survey.manifest.total_bytes
    new = sum(entry.size for path, entry in survey.manifest.files.items() if known.files.get(path) is not entry)
    line = progress_line("hashing", done, done + survey.left, new, seconds)
    values = {"bytes_left": survey.left, "hashed": survey.hashed, "progress": line, "known": survey.manifest.as_dict()}
    return Outcome(values=values)


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
            "bytes_left": 0,
        }
    )


def survey_artifact(
    host: Host, path: str, known: Manifest, seconds: float = math.inf, beside: Sequence[str] = ()
) -> Survey:
    """Return files and empty directories of an artifact; a file whose size and time equal `known` keeps its hash.

    What has a name that matches `beside`, or lies below such a directory, is no part of it.

    After `seconds` no further file is begun. Raises InputError (absent) or ProblemsError (all broken files, before any is hashed).
    """
    found = _found(host, path, beside)
    root = path if found.kind == "directory" else os.path.dirname(path)
    listed = sorted(found.manifest.files.items())
    files = {
        relative: known.files[relative] for relative, entry in listed if _is_known(entry, known.files.get(relative))
    }
    unknown = {os.path.join(root, relative): relative for relative, _ in listed if relative not in files}
    roots = allowed_roots(root)
    sizes = found.manifest.files
    problems = [
        problem
        for full, relative in unknown.items()
        for problem in [_link_problem(full, roots) or file_problem(host, full, sizes[relative].size)]
        if problem
    ]
    if problems:
        raise ProblemsError(problems, "Nothing was transferred; repair the source and run again.")
    digests = host.sha256_of(list(unknown), seconds)
    files.update({unknown[full]: replace(sizes[unknown[full]], sha256=digest) for full, digest in digests.items()})
    left = sum(entry.size for relative, entry in listed if relative not in files)
    return replace(found, manifest=Manifest(files), hashed=len(digests), left=left)


def _is_known(entry: FileEntry, old: Optional[FileEntry]) -> bool:
    return old is not None and (old.size, old.mtime_ns) == (entry.size, entry.mtime_ns)


def _found(host: Host, path: str, beside: Sequence[str]) -> Survey:
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
        if relative != RECEIPT and not _is_beside(relative, beside)
    }
    if not files:
        raise InputError(
            f"{path} has no files.", "Check the path in the inventory, and that the source was brought to this host."
        )
    return Survey(path, "directory", Manifest(files), _empty_directories(path, beside))


def _empty_directories(root: str, beside: Sequence[str]) -> List[str]:
    empty = (os.path.relpath(folder, root) for folder, folders, names in os.walk(root) if not folders and not names)
    return sorted(relative for relative in empty if not _is_beside(relative, beside))


def _is_beside(relative: str, beside: Sequence[str]) -> bool:
    return any(fnmatch(part, pattern) for part in relative.split(os.sep) for pattern in beside)


def _link_problem(path: str, roots: Sequence[str]) -> Optional[str]:
    """A link out of the directory would not be served: say so before anything is sent."""
    if is_below(path, roots):
        return None
    return f"{path} is a link out of its directory, to {os.path.realpath(path)}: put the file itself there"


def _cache_path(cache_dir: str, path: str) -> str:
    name = hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:16]
    return os.path.join(cache_dir, f"manifest-{name}.json")


def _known(host: Host, cache_dir: str, path: str) -> Manifest:
    """Return the hashes of an earlier run: from the artifact's own receipt, else from the cache. Damage means: none."""
    places = [os.path.join(path, RECEIPT)] + ([_cache_path(cache_dir, path)] if cache_dir else [])
    for place in places:
        try:
            return Manifest.from_dict(json.loads(host.read_text(place) or "")["outputs"])
        except (ValueError, KeyError, TypeError, InputError):
            continue
    return Manifest({})


def _keep(host: Host, cache_dir: str, path: str, manifest: Manifest) -> None:
    text = json.dumps({"path": os.path.realpath(path), "outputs": manifest.as_dict()}, sort_keys=True)
    host.write_text(_cache_path(cache_dir, path), text + "\n")
