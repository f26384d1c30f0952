# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters of role staging_mirror: where requirements stand, and what is told about what was mirrored."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.conftest import load_plugin

PLUGIN = load_plugin("filter/staging_mirror.py")
SOURCES = {"MindSpeed": {"commit": "a" * 40}, "MindSpeed-LLM": {"commit": "b" * 40}}


def test_requirements_of_the_mirrored_repositories() -> None:
    assert PLUGIN.mirror_requirements(["MindSpeed-LLM"], "/s/git", SOURCES) == [
        {"repository": "/s/git/MindSpeed-LLM.git", "commit": "b" * 40}
    ]
    with pytest.raises(
        AnsibleFilterError, match="Unknown sources: Megatron. Those of the release: MindSpeed, MindSpeed-LLM"
    ):
        PLUGIN.mirror_requirements(["Megatron"], "/s/git", SOURCES)


def result(**made: Any) -> dict[str, Any]:
    return {"place": "/s/x", "found": "absent", "files": 2, "bytes": 3 << 20, "made_with": made or None}


@pytest.mark.parametrize(
    ("made", "lines"),
    [
        ({}, ["/s/x: would be fetched (absent)"]),
        ({"commit": "c1"}, ["/s/x: c1, 2 files, 3.0 MiB"]),
        (
            {"commit": "c1", "moved": True, "branch": "2.0.0", "branch_head": "c9"},
            ["/s/x: c1, 2 files, 3.0 MiB", "  branch 2.0.0 has moved on to c9; the pinned commit is kept"],
        ),
        ({"id": "sha256:1"}, ["/s/x: sha256:1, 2 files, 3.0 MiB"]),
        (
            {"built": ["a.whl"], "missing": [{"requirement": "b==1", "reason": "no such thing"}]},
            ["/s/x: 2 files, 3.0 MiB", "  built here: a.whl", "  cannot be had: b==1 (no such thing)"],
        ),
        (
            {"surplus": ["README.local"]},
            ["/s/x: 2 files, 3.0 MiB", "  also there, and not of this model: README.local"],
        ),
    ],
)
def test_what_is_told(made: dict[str, Any], lines: list[str]) -> None:
    assert PLUGIN.mirror_lines([result(**made)]) == lines
