#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module release_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Tell what a release consists of and where it is to be had
description:
  - Lays a site's overrides over a row of C(releases/), as the plan does, and returns image, sources and Python. Reads nothing else.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.reads]
options:
  release:
    description: The row, as its file has it.
    type: dict
    required: true
  overrides:
    description: Values that replace those of the row, in its structure; C(commits) is short for the commits of the sources.
    type: dict
    default: {}
  architecture:
    description: Architecture of the servers, as the row names its images.
    type: str
    default: aarch64
  chip:
    description: Generation of the NPUs, as the row names its images where they differ by it.
    type: str
    default: a2
"""

EXAMPLES = r"""
- name: Read the release
  release_info:
    release: "{{ lookup('ansible.builtin.file', 'releases/2.0.0.yml') | from_yaml }}"
  register: release
"""

RETURN = r"""
image:
  description: Name of the image with its tag.
  returned: success
  type: str
sources:
  description: For each source its C(url), C(branch) and full C(commit).
  returned: success
  type: dict
python:
  description: Python version of the image.
  returned: success
  type: str
mixed:
  description: Values that come from the overrides and not from the row.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.plan_release import release_info


def main() -> None:
    """Run the module."""
    run_module(
        {
            "release": {"type": "dict", "required": True},
            "overrides": {"type": "dict", "default": {}},
            "architecture": {"type": "str", "default": "aarch64"},
            "chip": {"type": "str", "default": "a2"},
        },
        release_info,
    )


if __name__ == "__main__":
    main()
