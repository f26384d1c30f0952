#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module artifact_manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact_manifest
short_description: Tell what an artifact consists of and whether it is whole
version_added: "0.1.0"
description:
  - Runs on the host that serves an artifact (weights, an image archive, git mirrors, a dataset). Returns size, time and SHA-256 of
    each of its files.
  - Finds what would fail later or not at all, without reading files whole. These are git-lfs pointers, empty files, safetensors files and
    tar archives that are cut off, an index that names absent shards or tensors, and links out of the directory.
  - Hashes are kept in O(cache_dir) and hold as long as size and time of a file do.
options:
  path:
    description: A directory, or a single file.
    type: path
    required: true
  expect:
    description:
      - V(model) demands a config.json, a tokenizer and weights as safetensors as well.
      - It leaves out what lies beside a model and changes by itself. That is everything whose name begins with a dot (a clone's C(.git),
        the hub's C(.cache)), notes (C(*.md)) and licences.
    type: str
    choices: [files, model]
    default: files
  allow_pickle:
    description: Accept weights that are there only as pickles (.bin), which run code when they are loaded.
    type: bool
    default: false
  verify:
    description: V(content) hashes every file again, V(stat) those whose size or time differs from the last run.
    type: str
    choices: [stat, content]
    default: stat
  predicted:
    description:
      - In check mode, the real run makes or repairs the artifact before it gets here. The manifest is then that of its receipt, and empty
        where the artifact is absent.
    type: bool
    default: false
  cache_dir:
    description: Directory for the hashes, outside of the artifact. Empty keeps none.
    type: str
    default: /var/cache/ascend-fleet
  seconds:
    description:
      - After so many seconds no further file is begun, and RV(bytes_left) says what is left for another call. 0 reads all in one.
      - The action of the same name calls the module so, and shows how far it is.
    type: float
    default: 0
  known:
    description: What an earlier call returned as RV(known). Its files are not read again while their size and time are the same.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: The module only reads. In check mode it does not keep its hashes either.
  diff_mode:
    support: none
    description: Nothing is changed.
  idempotent:
    support: full
    description: The module only reads.
author:
  - ascend-fleet contributors (@ascend-fleet)
"""

EXAMPLES = r"""
- name: Make the manifest of the weights
  artifact_manifest:
    path: /srv/ascend/models/qwen2-lab
    expect: model
  delegate_to: staging-1
  run_once: true
  register: weights
"""

RETURN = r"""
root:
  description: Directory that the paths of the manifest are relative to; for a single file the one that holds it.
  returned: success
  type: str
  sample: /srv/ascend/models/qwen2-lab
kind:
  description: Whether the path is a V(file) or a V(directory).
  returned: success
  type: str
  sample: directory
manifest:
  description: For each relative path the C(size) in bytes, C(mtime_ns) in nanoseconds since the epoch and C(sha256) in hexadecimal.
  returned: success
  type: dict
  sample: {"config.json": {"size": 663, "mtime_ns": 1714000000000000000, "sha256": "9f86d081884c7d65..."}}
contents:
  description: SHA-256 in hexadecimal by relative path; what identifies the artifact.
  returned: success
  type: dict
  sample: {"config.json": "9f86d081884c7d65..."}
directories:
  description: Relative paths of directories without any entry. A bare git repository needs its own to be one.
  returned: success
  type: list
  elements: str
  sample: [MindSpeed.git/refs/tags]
files:
  description: Number of files.
  returned: success
  type: int
  sample: 9
bytes:
  description: Sum of the file sizes in bytes.
  returned: success
  type: int
  sample: 15231234567
hashed:
  description: Number of files that were read for their hash in this run.
  returned: success
  type: int
  sample: 0
bytes_left:
  description: Bytes of files that were not read yet, because O(seconds) were over. Unless it is 0, there is no manifest yet.
  returned: success
  type: int
  sample: 0
known:
  description: The manifest as far as it is known.
  returned: when RV(bytes_left) is not 0
  type: dict
  sample: {}
progress:
  description: How far it is, in bytes, with the rate in bytes a second and C(eta_s) in seconds.
  returned: when RV(bytes_left) is not 0
  type: dict
  sample: {"doing": "hashing", "progress": 0.4, "done": 6442450944, "total": 16106127360, "unit": "bytes", "rate": 1.2e9, "eta_s": 8.0}
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.transfer_manifest import show_manifest


def main() -> None:
    """Show the manifest."""
    run_module(
        {
            "path": {"type": "path", "required": True},
            "expect": {"type": "str", "choices": ["files", "model"], "default": "files"},
            "allow_pickle": {"type": "bool", "default": False},
            "verify": {"type": "str", "choices": ["stat", "content"], "default": "stat"},
            "predicted": {"type": "bool", "default": False},
            "cache_dir": {"type": "str", "default": "/var/cache/ascend-fleet"},
            "seconds": {"type": "float", "default": 0},
            "known": {"type": "dict", "default": {}},
        },
        show_manifest,
    )


if __name__ == "__main__":
    main()
