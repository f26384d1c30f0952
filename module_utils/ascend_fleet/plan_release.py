# SPDX-License-Identifier: GPL-3.0-or-later
"""The release row: which commits, image and environment belong together, with what a site changed about it."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .errors import ProblemsError
from .host import Host
from .outcome import Outcome
from .plan_findings import Findings, closest

SOURCES = ("MindSpeed-LLM", "MindSpeed", "Megatron-LM")
COMMIT = re.compile(r"[0-9a-f]{40}$")
REQUIRED = ("name", "sources", "image", "env_scripts", "python", "launch", "converter")
# Passed on as they stand: what later stages compare the servers with.
PASSED = (
    "python",
    "env_scripts",
    "conda",
    "launch",
    "converter",
    "hdk",
    "cann",
    "torch",
    "torch_npu",
    "native_engines",
    "data_paths_per_split",
)

# Below these a site may name what the row does not have; a tag is one text or one for each chip.
TAGS = "image.tags."
OPEN = (TAGS, "sources.", "commits.", "evidence.", "converter.model_type_hf.")
KINDS: Mapping[type, str] = {Mapping: "keys with values", list: "a list", str: "a single value"}


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Dict[str, Any]:
    """Return `base` with `changes` laid over it; mappings are merged, everything else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def changed_paths(base: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = "") -> List[str]:
    """Return the dotted paths at which `changes` really differ from `base`."""
    paths: List[str] = []
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            paths += changed_paths(old, value, f"{prefix}{key}.")
        elif old != value:
            paths.append(f"{prefix}{key}")
    return paths


def _spelled_out(overrides: Mapping[str, Any]) -> Dict[str, Any]:
    """Return overrides in the row's structure: `commits` (source -> commit) is short for the commits below `sources`."""
    rest = {key: value for key, value in overrides.items() if key != "commits"}
    commits = {"sources": {name: {"commit": commit} for name, commit in overrides.get("commits", {}).items()}}
    return merged(commits, rest) if overrides.get("commits") else rest


def read_release(
    row: Mapping[str, Any], overrides: Mapping[str, Any], architecture: str, chip: str, findings: Findings
) -> Dict[str, Any]:
    """Return the plan's `release`; what is missing or malformed is among the findings."""
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        findings.refuse(
            "release-row", f"Release row {row.get('name', '?')!r} has no {', '.join(missing)}.",
            remedy="Complete the file in releases/.",
        )  # fmt: skip
        return {}
    if _refuse_misfits(row, overrides, findings):
        return {}
    changes = _spelled_out(overrides)
    mixed = changed_paths(row, changes)
    if mixed:
        findings.warn(
            "release-mixed",
            f"Release {row['name']} is mixed: {', '.join(mixed)} come from this site and not from the release row.",
        )
    full = merged(row, changes)
    commits, branches = _sources(full, findings)
    return {
        "name": str(full["name"]),
        "mixed": mixed,
        "image": _image(full, architecture, chip, findings),
        "commits": commits,
        "branches": branches,
        **{key: full[key] for key in PASSED if key in full},
    }


def _refuse_misfits(row: Mapping[str, Any], overrides: Mapping[str, Any], findings: Findings) -> bool:
    """Refuse overrides that a row has no place for, or of another kind: they would be passed by, or end in a traceback."""
    template = merged({"commits": {}, "evidence": {}, "image": {"name": ""}, **dict.fromkeys(PASSED, "")}, row)
    before = len(findings.refusals)
    _compare(template, overrides, "", findings)
    return len(findings.refusals) > before


def _compare(row: Mapping[str, Any], changes: Mapping[str, Any], prefix: str, findings: Findings) -> None:
    for key, value in changes.items():
        path, old = f"{prefix}{key}", row.get(key)
        if key not in row and prefix not in OPEN:
            findings.refuse(
                "release-override", f"There is no {path!r} to override in a release row.", closest(str(key), row)
            )
        elif key in row and prefix != TAGS and _kind(old) is not _kind(value):
            findings.refuse(
                "release-override",
                f"The override {path} is {value!r}, not {KINDS[_kind(old)]}.",
                remedy="Write it as the files in releases/ do.",
            )
        elif isinstance(old, Mapping) and isinstance(value, Mapping):
            _compare(old, value, f"{path}.", findings)


def _kind(value: Any) -> type:
    return next((kind for kind in (Mapping, list) if isinstance(value, kind)), str)


def _sources(row: Mapping[str, Any], findings: Findings) -> Tuple[Dict[str, str], Dict[str, str]]:
    commits: Dict[str, str] = {}
    branches: Dict[str, str] = {}
    for name in SOURCES:
        source = row["sources"].get(name, {})
        commits[name], branches[name] = str(source.get("commit", "")), str(source.get("branch", ""))
        if not COMMIT.match(commits[name]):
            findings.refuse(
                "release-commit",
                f"Commit {commits[name]!r} of {name} is not a full one (40 hexadecimal digits).",
                remedy="Pin the full commit: names and short commits move.",
            )
    for name in sorted(set(row["sources"]) - set(SOURCES)):
        findings.refuse("release-source", f"Source {name!r} is not one of this pipeline.", closest(name, SOURCES))
    return commits, branches


def _image(row: Mapping[str, Any], architecture: str, chip: str, findings: Findings) -> str:
    """Return the image's full name: the site's own, or the release's for this architecture and, where it matters, chip."""
    image = row["image"]
    if image.get("name"):
        return str(image["name"])
    tags: Mapping[str, Any] = image.get("tags", {})
    tag = tags.get(architecture)
    for_chips = isinstance(tag, Mapping)
    if isinstance(tag, Mapping):
        tag = tag.get(chip)
    if not tag:
        wanted = f"chip {chip!r} on {architecture}" if for_chips else f"architecture {architecture!r}"
        findings.refuse(
            "release-image",
            f"Release {row['name']} has no image for {wanted}.",
            closest(chip, tags[architecture]) if for_chips else closest(architecture, tags),
            "Set run_plan_architecture and run_plan_chip, or image.name in run_plan_release_overrides.",
        )
        return ""
    return f"{image['repository']}:{tag}"


def release_info(host: Host, params: Mapping[str, Any], check_mode: bool) -> Outcome:
    """Tell what a release row and a site's overrides say together, and where it is to be had (action of module release_info)."""
    findings = Findings()
    row, overrides = params["release"], params["overrides"]
    read = read_release(row, overrides, params["architecture"], params["chip"], findings)
    if findings.refusals:
        raise ProblemsError(
            [finding.text for finding in findings.refusals], "Correct the release row or its overrides."
        )
    sources = merged(row, _spelled_out(overrides))["sources"]
    told = {
        name: {"url": str(sources[name].get("url", "")), "branch": read["branches"][name], "commit": commit}
        for name, commit in read["commits"].items()
    }
    return Outcome(
        values={"image": read["image"], "sources": told, "python": str(read["python"]), "mixed": read["mixed"]}
    )


def check_choice(kind: str, name: str, choices: Sequence[str], findings: Findings) -> None:
    """Refuse the name of a release or recipe that no file describes; with no choices given there is nothing to compare."""
    if choices and name not in choices:
        exists, nearest = ", ".join(sorted(choices)), closest(name, choices)
        findings.refuse(
            f"{kind}-unknown",
            f"There is no {kind} {name!r}.",
            "" if nearest == exists else nearest,
            f"Those that exist: {exists}.",
        )
