#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module model_snapshot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_snapshot
short_description: Keep the files of a model at one revision
description:
  - Brings weights, configuration and tokenizer from a model hub or a local git clone, compares each file with the digest that its origin
    gives for it (SHA-256 of large files, git's own of the others), and puts them in place when all of them are right.
  - A download goes on at the byte where it was interrupted. Files that are right already are not fetched again.
  - Refuses git-lfs pointers, files that are cut off, and shards that do not go with their index.
author: ascend-fleet contributors (@ascend-fleet)
extends_documentation_fragment: [fleet.mirror]
options:
  directory:
    description: Directory of the model.
    type: path
    required: true
  repository:
    description: Name of the model on the hub; exclusive with O(clone).
    type: str
    default: ""
  clone:
    description: A local git clone of the model, with the files of git-lfs in it.
    type: path
    default: ""
  revision:
    description: Commit, branch or tag. What a branch stood for is in the record; it is not asked for again.
    type: str
    default: main
  endpoint:
    description: The hub.
    type: str
    default: https://huggingface.co
  token:
    description: Token for models that are not public.
    type: str
    default: ""
  exclude:
    description: Shell patterns of files that are left out. By default weights in other formats than safetensors.
    type: list
    elements: str
    default: ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "original/*"]
"""

EXAMPLES = r"""
- name: Mirror the weights
  model_snapshot:
    repository: Qwen/Qwen2.5-Coder-7B
    revision: main
    directory: /data/staging/models/Qwen2.5-Coder-7B
    record: /data/staging/mirror.json

- name: Take the weights from a clone
  model_snapshot:
    clone: /home/user/Qwen2.5-Coder-7B
    directory: /data/staging/models/Qwen2.5-Coder-7B
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
  description: Origin, commit, the origin's digest of each file, what was left out and what else lies there; null when it is only predicted.
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
from ansible.module_utils.ascend_fleet.mirror_model import mirror_model
from ansible.module_utils.ascend_fleet.options import MIRROR


def main() -> None:
    """Run the module."""
    run_module(
        {
            "directory": {"type": "path", "required": True},
            "repository": {"type": "str", "default": ""},
            "clone": {"type": "path", "default": ""},
            "revision": {"type": "str", "default": "main"},
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "default": "", "no_log": True},
            "exclude": {
                "type": "list",
                "elements": "str",
                "default": ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "original/*"],
            },
            **MIRROR,
        },
        mirror_model,
    )


if __name__ == "__main__":
    main()
