#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module artifact_sync."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact_sync
short_description: Bring an artifact from another host and keep it whole
version_added: "0.1.0"
description:
  - Runs on the receiving host. Compares what is in C(<work_root>/<stage>/) with the manifest of the source, fetches only files that
    are absent or wrong, verifies every one that arrived by its SHA-256, leaves a receipt and switches C(current).
  - Files go over rsync, or over a tar stream where one side has no rsync. Both go on where an interrupted transfer ended.
  - Files whose content the artifact in use already has are shared with it and not sent again.
extends_documentation_fragment: [fleet.work_root, fleet.verify]
options:
  stage:
    description: Directory below the work root.
    type: str
    required: true
  manifest:
    description: Manifest of the source, as artifact_manifest returns it.
    type: dict
    required: true
  directories:
    description: Empty directories of the source, as artifact_manifest returns them. Made unless O(patterns) select a part.
    type: list
    elements: str
    default: []
  patterns:
    description: Which files this host needs, as shell patterns on their relative paths. Empty means all.
    type: list
    elements: str
    default: []
  inputs:
    description: Inputs of the receipt, which name the artifact's directory. Empty means the content hashes of the manifest.
    type: dict
    default: {}
  parents:
    description: Fingerprints of the artifacts that this one was made from, by stage.
    type: dict
    default: {}
  method:
    description: V(auto) takes rsync where both sides have it.
    type: str
    choices: [auto, rsync, tar]
    default: auto
  local:
    description: The source is on this very host. O(source.root) is copied from without ssh.
    type: bool
    default: false
  source:
    description: Where to fetch from, as transfer_grant returns it. Without a key the module can only predict (check mode).
    type: dict
    suboptions:
      name:
        description: Name of the serving host in messages and in the receipt.
        type: str
        default: ""
      address:
        description: Address of the serving host as seen from here.
        type: str
        default: ""
      port:
        description: TCP port of its sshd.
        type: int
        default: 22
      user:
        description: User to log in as.
        type: str
        default: ""
      host_keys:
        description: Its public host keys as C(type base64). No other key is accepted.
        type: list
        elements: str
        default: []
      private_key:
        description: Private key of the grant. It is on the disk only while the module runs, readable by its user alone.
        type: str
        default: ""
      root:
        description: Directory on the serving host that the manifest's paths are relative to.
        type: str
        default: ""
      rsync:
        description: Whether the serving host has rsync.
        type: bool
        default: true
      over:
        description: V(connection) where the source is the controller, which then serves it through Ansible's own connection to this
          host; O(source.root) is all that is needed then.
        type: str
        choices: [sshd, connection]
        default: sshd
      socket:
        description: Socket on this host behind which the controller serves. The action plugin of this name makes it and fills this in.
        type: str
        default: ""
attributes:
  check_mode:
    support: full
    description: Predicts from the same comparison; needs no key.
  diff_mode:
    support: full
    description: Shows the inputs of the artifact in use against those asked for, and what was found missing or changed.
  idempotent:
    support: full
    description: A second run changes nothing.
author:
  - ascend-fleet contributors (@ascend-fleet)
"""

EXAMPLES = r"""
- name: Bring the weights
  artifact_sync:
    work_root: /data/ascend-fleet
    stage: weights
    manifest: "{{ weights.manifest }}"
    source:
      name: staging-1
      address: 10.0.0.2
      port: "{{ grant.port }}"
      user: "{{ grant.user }}"
      host_keys: "{{ grant.host_keys }}"
      private_key: "{{ grant.private_key }}"
      root: "{{ weights.root }}"
"""

RETURN = r"""
path:
  description: Directory of the artifact.
  returned: success
  type: str
  sample: /data/ascend-fleet/weights/3b1f0c9a5d2e7f64
fingerprint:
  description: Name that the inputs give to the artifact.
  returned: success
  type: str
  sample: 3b1f0c9a5d2e7f64
found:
  description: What the look found. One of V(ok), V(absent), V(unsealed) (no receipt), V(damaged) and V(not-current).
  returned: success
  type: str
  sample: ok
artifact:
  description: Receipt without the single files; none where the artifact is only predicted.
  returned: success
  type: dict
  sample: {"stage": "weights", "fingerprint": "3b1f0c9a5d2e7f64", "files": 9, "bytes": 15231234567}
files_to_fetch:
  description: Number of files that had to come (in check mode, have to).
  returned: success
  type: int
  sample: 0
bytes_to_fetch:
  description: Their size in bytes.
  returned: success
  type: int
  sample: 0
files_shared:
  description: Number of files that the artifact in use already had.
  returned: success
  type: int
  sample: 0
method:
  description: How files came. One of V(rsync), V(tar), V(rsync+tar), V(local) and V(none).
  returned: success
  type: str
  sample: none
seconds:
  description: Duration of fetching and verifying in seconds.
  returned: success
  type: float
  sample: 0.0
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.options import VERIFY, WORK_ROOT
from ansible.module_utils.ascend_fleet.sync import sync_artifact

SOURCE = {
    "name": {"type": "str", "default": ""},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 22},
    "user": {"type": "str", "default": ""},
    "host_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "private_key": {"type": "str", "default": "", "no_log": True},
    "root": {"type": "str", "default": ""},
    "rsync": {"type": "bool", "default": True},
    "over": {"type": "str", "choices": ["sshd", "connection"], "default": "sshd"},
    "socket": {"type": "str", "default": ""},
}

ARGUMENTS = {
    **WORK_ROOT,
    **VERIFY,
    "stage": {"type": "str", "required": True},
    "manifest": {"type": "dict", "required": True},
    "directories": {"type": "list", "elements": "str", "default": []},
    "patterns": {"type": "list", "elements": "str", "default": []},
    "inputs": {"type": "dict", "default": {}},
    "parents": {"type": "dict", "default": {}},
    "method": {"type": "str", "choices": ["auto", "rsync", "tar"], "default": "auto"},
    "local": {"type": "bool", "default": False},
    "source": {"type": "dict", "options": SOURCE},
}


def main() -> None:
    """Bring the artifact."""
    run_module(ARGUMENTS, sync_artifact)


if __name__ == "__main__":
    main()
