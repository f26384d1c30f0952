#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module transfer_grant."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: transfer_grant
short_description: Let other hosts read one directory of this host for a while
version_added: "0.1.0"
description:
  - Makes an ed25519 key pair for one run and adds one line for it to the login user's authorized_keys. The line carries C(restrict),
    an expiry time and a forced command that serves files below O(root) through rsync or tar and refuses everything else.
  - Taking a grant away removes its line, and with it lines of grants that have expired. No other line is touched.
  - The private key is in the result. Give the task C(no_log=true).
options:
  state:
    description: Whether the grant is there.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Directory that may be read. Needed for O(state=present).
    type: path
  id:
    description: Name of the grant. Left out, one is made; needed for O(state=absent).
    type: str
  login_user:
    description: User that the receivers log in as. Empty means the user who logged in before become.
    type: str
    default: ""
  authorized_keys:
    description: File that sshd reads keys of that user from. Empty means C(~/.ssh/authorized_keys).
    type: str
    default: ""
  port:
    description: Port of this host's sshd, handed on in the result.
    type: int
    default: 22
  lifetime:
    description: Seconds after which sshd no longer accepts the key. It has to outlast the longest transfer's last connection.
    type: int
    default: 43200
  program_dir:
    description: Directory for the serving program. It must be readable by O(login_user) and should be writable by root alone.
    type: path
    default: /var/lib/ascend-fleet
  host_key_files:
    description: Patterns of the files with the public halves of sshd's host keys.
    type: list
    elements: str
    default: [/etc/ssh/ssh_host_*_key.pub]
attributes:
  check_mode:
    support: full
    description: Predicts; no key is made.
  diff_mode:
    support: full
    description: Shows which directory is granted, or which grants end. Keys are never shown.
  idempotent:
    support: partial
    description: O(state=absent) is. O(state=present) makes a new key each time, since a private key is never kept.
author:
  - ascend-fleet contributors (@ascend-fleet)
"""

EXAMPLES = r"""
- name: Open a grant on the weights
  transfer_grant:
    root: /srv/ascend/models/qwen2-lab
  delegate_to: staging-1
  run_once: true
  no_log: true
  register: grant

- name: Close it
  transfer_grant:
    state: absent
    id: "{{ grant.id }}"
  delegate_to: staging-1
  run_once: true
"""

RETURN = r"""
id:
  description: Name of the grant.
  returned: success
  type: str
  sample: 5f1c2d3e4a5b6c7d
user:
  description: User that receivers log in as.
  returned: success
  type: str
  sample: root
root:
  description: Directory that is granted, all links followed.
  returned: when O(state=present)
  type: str
  sample: /srv/ascend/models/qwen2-lab
port:
  description: TCP port of sshd.
  returned: when O(state=present)
  type: int
  sample: 22
host_keys:
  description: Public host keys as C(type base64), for a known_hosts file.
  returned: when O(state=present) and not in check mode
  type: list
  elements: str
  sample: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ...]
private_key:
  description: Private half of the key, in OpenSSH's format.
  returned: when O(state=present) and not in check mode
  type: str
  sample: hidden by no_log
rsync:
  description: Whether this host has rsync.
  returned: when O(state=present) and not in check mode
  type: bool
  sample: true
removed:
  description: Names of the grants that were taken away.
  returned: when O(state=absent)
  type: list
  elements: str
  sample: [5f1c2d3e4a5b6c7d]
"""

from ansible.module_utils.ascend_fleet.entry import run_module
from ansible.module_utils.ascend_fleet.grant import manage_grant

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "root": {"type": "path"},
    "id": {"type": "str"},
    "login_user": {"type": "str", "default": ""},
    "authorized_keys": {"type": "str", "default": "", "no_log": False},
    "port": {"type": "int", "default": 22},
    "lifetime": {"type": "int", "default": 43200},
    "program_dir": {"type": "path", "default": "/var/lib/ascend-fleet"},
    "host_key_files": {"type": "list", "elements": "str", "default": ["/etc/ssh/ssh_host_*_key.pub"], "no_log": False},
}


def main() -> None:
    """Open or close a grant."""
    run_module(ARGUMENTS, manage_grant, required_if=[("state", "present", ["root"]), ("state", "absent", ["id"])])


if __name__ == "__main__":
    main()
