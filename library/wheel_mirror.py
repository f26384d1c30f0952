#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module wheel_mirror."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheel_mirror
short_description: Keep the wheels of a list of requirements for another Python and architecture
description:
  - Has pip choose and fetch wheels for the Python and the architecture of the training image, with all that they need.
  - Where not all requirements can be had together each is fetched alone; packages without a wheel are built here and kept if they are pure
    Python; what cannot be had is named in RV(missing) and is no failure.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.mirror]
options:
  directory:
    description: Directory of the wheels.
    type: path
    required: true
  requirements:
    description: Requirements as pip writes them.
    type: list
    elements: str
    default: []
  sources:
    description: Files of requirements in bare git repositories.
    type: list
    elements: dict
    default: []
    suboptions:
      repository:
        description: The bare repository.
        type: path
        required: true
      commit:
        description: Full commit.
        type: str
        required: true
      file:
        description: Path of the file in it.
        type: str
        default: requirements.txt
  python:
    description: Python version of the image, such as V(3.8).
    type: str
    required: true
  architecture:
    description: Architecture of the image, V(aarch64) or V(x86_64).
    type: str
    default: aarch64
  build:
    description: Build packages that have no wheel. Runs their setup on this machine.
    type: bool
    default: true
  index_url:
    description: Package index; empty takes what pip is configured for.
    type: str
    default: ""
  find_links:
    description: Directories or pages with packages beside the index.
    type: list
    elements: str
    default: []
  no_index:
    description: Use O(find_links) alone.
    type: bool
    default: false
  pip:
    description: How pip is called on this machine.
    type: list
    elements: str
    default: [python3, -m, pip]
"""

EXAMPLES = r"""
- name: Fetch the wheels of the pinned MindSpeed-LLM
  wheel_mirror:
    directory: /data/staging/wheels
    sources:
      - repository: /data/staging/git/MindSpeed-LLM.git
        commit: b626d239cd49b7e681a170ba8c3472f713596476
    python: "3.8"
    record: /data/staging/mirror.json
  register: wheels
"""

RETURN = r"""
place:
  description: Path of what is mirrored.
  returned: success
  type: str
found:
  description:
    - What was found before, one of V(ok), V(absent), V(unsealed) (there, but not recorded), V(other) (something else was asked for
      then) and V(damaged).
  returned: success
  type: str
made_with:
  description: Wheels, which of them were built here, and the index; null when it is only predicted.
  returned: success
  type: dict
files:
  description: Number of files.
  returned: success
  type: int
bytes:
  description: Their sizes added up, in bytes.
  returned: success
  type: int
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
missing:
  description: Requirements that could not be had, with pip's reason.
  returned: success
  type: list
  elements: dict
  contains:
    requirement:
      description: The requirement.
      type: str
    reason:
      description: Why it cannot be had.
      type: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.mirror_wheels import mirror_wheels
from ansible.module_utils.ascend_fleet.options import MIRROR


def main() -> None:
    """Run the module."""
    run_module(
        {
            "directory": {"type": "path", "required": True},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "sources": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "repository": {"type": "path", "required": True},
                    "commit": {"type": "str", "required": True},
                    "file": {"type": "str", "default": "requirements.txt"},
                },
            },
            "python": {"type": "str", "required": True},
            "architecture": {"type": "str", "default": "aarch64"},
            "build": {"type": "bool", "default": True},
            "index_url": {"type": "str", "default": ""},
            "find_links": {"type": "list", "elements": "str", "default": []},
            "no_index": {"type": "bool", "default": False},
            "pip": {"type": "list", "elements": "str", "default": ["python3", "-m", "pip"]},
            **MIRROR,
        },
        mirror_wheels,
    )


if __name__ == "__main__":
    main()
