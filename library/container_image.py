#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module container_image."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: Have an image on the server, by its id
description:
  - Brings an image to the engine of this server where no image has the wanted id, from an archive made by C(docker save) or from a registry
    by digest, gives it the wanted name, and verifies that the name stands for that id afterwards.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.docker]
options:
  reference:
    description: Name that the image has, or gets, on this server.
    type: str
    required: true
  source:
    description: Where the image comes from when it is absent.
    type: str
    choices: [archive, registry]
    default: archive
  ids:
    description:
      - Ids of the wanted image; having one of them is enough. C(image_archive_info) returns them.
      - With O(source=archive), an empty list reads them from O(archive).
    type: list
    elements: str
    default: []
  archive:
    description: The archive on this server. It need not be there while the image is.
    type: path
    default: ''
  digest:
    description: With O(source=registry), the digest C(sha256:...) of the image in its registry.
    type: str
    default: ''
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison and changes nothing.
  diff_mode:
    support: full
    description: Shows the id behind the name before and after.
  idempotent:
    support: full
    description: Does nothing when the name stands for the wanted id.
"""

EXAMPLES = r"""
- name: Load the training image
  container_image:
    reference: mindspeed-llm:2025.rc1-arm
    archive: /data/ascend-fleet/image/current/mindspeed-llm-2025.rc1-arm.tar

- name: Pull the training image by digest
  container_image:
    reference: registry.example.com/ascendhub/mindspeed-llm:2025.rc1-arm
    source: registry
    digest: sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0
"""

RETURN = r"""
found:
  description: What was found before, one of V(ok), V(untagged) (there under another name), V(absent).
  returned: success
  type: str
reference:
  description: Name of the image.
  returned: success
  type: str
ids:
  description: Ids of which the image has to have one.
  returned: success
  type: list
  elements: str
image:
  description: The image as it is on the server; null where it is only predicted.
  returned: success
  type: dict
  contains:
    id:
      description: Id of the image.
      type: str
    tags:
      description: Its names.
      type: list
      elements: str
    digests:
      description: Its digests in registries.
      type: list
      elements: str
    size:
      description: Size in bytes.
      type: int
actions:
  description: What was done, or would be, one line a step.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.image import ensure_image
from ansible.module_utils.ascend_fleet.options import DOCKER


def main() -> None:
    """Run the module."""
    run_module(
        {
            **DOCKER,
            "reference": {"type": "str", "required": True},
            "source": {"type": "str", "choices": ["archive", "registry"], "default": "archive"},
            "ids": {"type": "list", "elements": "str", "default": []},
            "archive": {"type": "path", "default": ""},
            "digest": {"type": "str", "default": ""},
        },
        ensure_image,
    )


if __name__ == "__main__":
    main()
