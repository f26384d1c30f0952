#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module image_archive."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_archive
short_description: Keep an archive of a container image
description:
  - Takes the image from this machine's engine, pulling it for the servers' platform where it is absent, and saves it into an archive that
    is read back before it gets its name.
  - An archive that holds this image already is kept as it is.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.docker, fleet.mirror]
options:
  reference:
    description: Name of the image with its tag.
    type: str
    required: true
  archive:
    description: The archive.
    type: path
    required: true
  architecture:
    description: Architecture of the servers, V(aarch64) or V(x86_64), or a platform as Docker names it.
    type: str
    default: aarch64
  digest:
    description: Digest of the image in its registry (C(sha256:...)); a tag alone may move. Empty takes what the tag stands for.
    type: str
    default: ""
  pull:
    description: Pull the image where this machine does not have it.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Save the training image
  image_archive:
    reference: swr.cn-south-1.myhuaweicloud.com/ascendhub/mindspeed-llm:2025.rc1-arm
    archive: /data/staging/images/mindspeed-llm-2025.rc1-arm.tar
    architecture: aarch64
    record: /data/staging/mirror.json
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
  description: Id, digests and platform of the image, and whether it was pulled and saved now; null when it is only predicted.
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
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.mirror_image import mirror_image
from ansible.module_utils.ascend_fleet.options import DOCKER, MIRROR


def main() -> None:
    """Run the module."""
    run_module(
        {
            "reference": {"type": "str", "required": True},
            "archive": {"type": "path", "required": True},
            "architecture": {"type": "str", "default": "aarch64"},
            "digest": {"type": "str", "default": ""},
            "pull": {"type": "bool", "default": True},
            **DOCKER,
            **MIRROR,
        },
        mirror_image,
    )


if __name__ == "__main__":
    main()
