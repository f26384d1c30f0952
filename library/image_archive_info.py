#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module image_archive_info."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_archive_info
short_description: Read which image an archive holds
description:
  - Reads the ids and names of the wanted image from an archive made by C(docker save), without unpacking it and without Docker. An archive
    that is cut off fails.
  - A plain tar is read in milliseconds whatever its size. A compressed one has to be read whole; what was found is then kept in a hidden
    file beside it, where that directory can be written.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.reads]
options:
  archive:
    description: The archive, on the host that the module runs on.
    type: path
    required: true
  reference:
    description: Name of the wanted image. An archive with one image only is taken under whatever name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Read which image the archive holds
  image_archive_info:
    archive: /srv/ascend/images/mindspeed-llm-2025.rc1-arm.tar
    reference: swr.cn-south-1.myhuaweicloud.com/ascendhub/mindspeed-llm:2025.rc1-arm
  delegate_to: staging-1
  run_once: true
  register: archived
"""

RETURN = r"""
ids:
  description: Ids that the image can have once it is loaded, depending on the engine's store.
  returned: success
  type: list
  elements: str
references:
  description: Names that the archive gives to the image.
  returned: success
  type: list
  elements: str
archive:
  description: The archive.
  returned: success
  type: str
size:
  description: Size of the archive in bytes.
  returned: success
  type: int
actions:
  description: Always empty.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.image_archive import image_archive_info


def main() -> None:
    """Run the module."""
    run_module(
        {
            "archive": {"type": "path", "required": True},
            "reference": {"type": "str", "required": True},
        },
        image_archive_info,
    )


if __name__ == "__main__":
    main()
