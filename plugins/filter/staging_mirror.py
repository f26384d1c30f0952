# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of role staging_mirror: where requirements stand, and what was mirrored, in lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def mirror_requirements(
    names: Sequence[str], git_root: str, sources: Mapping[str, Mapping[str, str]]
) -> list[dict[str, str]]:
    """Return the repositories and commits whose requirements.txt counts."""
    unknown = sorted(set(names) - set(sources))
    if unknown:
        raise AnsibleFilterError(f"Unknown sources: {', '.join(unknown)}. Those of the release: {', '.join(sources)}.")
    return [{"repository": f"{git_root}/{name}.git", "commit": sources[name]["commit"]} for name in names]


def mirror_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each result of a module that mirrors, and one for all that is worth knowing about it."""
    return [line for result in results for line in _lines(result)]


def _lines(result: Mapping[str, Any]) -> list[str]:
    made = result.get("made_with")
    if not made:
        return [f"{result.get('place', '')}: would be fetched ({result.get('found', 'absent')})"]
    facts = [made.get("commit"), made.get("id")]
    size = f"{result['files']} files, {result['bytes'] / 2**20:.1f} MiB"
    lines = [f"{result['place']}: {', '.join([*(str(fact) for fact in facts if fact), size])}"]
    if made.get("moved"):
        lines.append(f"  branch {made['branch']} has moved on to {made['branch_head']}; the pinned commit is kept")
    if made.get("surplus"):
        lines.append(f"  also there, and not of this model: {', '.join(made['surplus'])}")
    if made.get("built"):
        lines.append(f"  built here: {', '.join(made['built'])}")
    return lines + [f"  cannot be had: {item['requirement']} ({item['reason']})" for item in made.get("missing", [])]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return name -> function."""
        return {"mirror_requirements": mirror_requirements, "mirror_lines": mirror_lines}
