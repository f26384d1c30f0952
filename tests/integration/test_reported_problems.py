# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible itself reports, for real: one run over hosts that each have another trouble, and the report that comes of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runs import patient_ssh, run_playbook

from .conftest import STARTUPS, Sshd

PLAYBOOK = """
- name: Meet every trouble
  hosts: all
  gather_facts: false
  tasks:
    - name: Call the host
      ansible.builtin.ping:
    - name: Crash
      crash:
      when: inventory_hostname == 'crash'
    - name: Fill a file system
      fill:
      when: inventory_hostname == 'full'
    - name: Use a variable
      ansible.builtin.assert:
        that: ascend_npus is iterable
    - name: Compute
      ansible.builtin.debug:
        msg: "{{ braces }}"
      when: inventory_hostname == 'expression'
    - name: Read a file of the controller
      ansible.builtin.include_vars: /nowhere/vars.yml
      when: inventory_hostname == 'no-file'
    - name: Read a file that is no YAML
      ansible.builtin.include_vars: "{{ playbook_dir }}/broken.yml"
      when: inventory_hostname == 'no-yaml'
    - name: Take long
      ansible.builtin.command: sleep 30
      timeout: 1
      changed_when: false  # it only waits
      when: inventory_hostname == 'slow'
    - name: Ask somebody else
      ansible.builtin.slurp:
        src: /nowhere
      delegate_to: "{{ helper }}"
      when: inventory_hostname == 'asking'
"""
HEAD = "from ansible.module_utils.basic import AnsibleModule\n\nmodule = AnsibleModule(argument_spec={})\n"
CRASH = HEAD + "raise KeyError('nobody expected this')\n"
FILL = HEAD + "open('/dev/full', 'wb', buffering=0).write(b'x')\n"
# A Python 3.7 is not on every machine. This one says that it is, and what it runs is Ansible's own answer to that.
LOOKALIKE = """#!/bin/sh
exec {python} -c '
import sys
sys.version_info, sys.version = (3, 7, 16, "final", 0), "3.7.16 (lookalike)"
exec(compile(sys.stdin.read(), "<stdin>", "exec"))
'
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def old_python(tmp_path: Path) -> str:
    """A real Python 3.7 where the machine has one, else one that says so."""
    home = Path(os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv")), "versions")
    for real in [*map(str, home.glob("3.7.*/bin/python3.7")), shutil.which("python3.7") or ""]:
        if real and subprocess.run([real, "-c", ""], capture_output=True, check=False).returncode == 0:
            return real
    path = tmp_path / "python3.7"
    path.write_text(LOOKALIKE.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def hosts(sshd: Sshd, tmp_path: Path, silent: int, refusing_port: int) -> dict[str, Any]:
    """Each host is this machine; what differs is what stands in its way."""
    login, stranger, other = (make_key(tmp_path / name) for name in ("login", "stranger", "other"))
    sshd.authorized_keys.write_text(login.with_name("login.pub").read_text(encoding="utf-8"), encoding="utf-8")
    address = f"[127.0.0.1]:{sshd.port}"
    known = {
        "right": " ".join(sshd.host_key.read_text(encoding="utf-8").split()[:2]),
        "wrong": " ".join(other.with_name("other.pub").read_text(encoding="utf-8").split()[:2]),
    }
    for name, key in known.items():
        (tmp_path / name).write_text(f"{address} {key}\n", encoding="utf-8")
    (tmp_path / "empty").touch()
    ssh = patient_ssh(tmp_path)

    def over_ssh(key: Path = login, hosts: str = "right", **more: Any) -> dict[str, Any]:
        files = (
            f"-o UserKnownHostsFile={tmp_path / hosts} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
        )
        return {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": sshd.port,
            "ansible_user": sshd.user,
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": f"-o IdentitiesOnly=yes -o IdentityAgent=none {files}",
            "ansible_ssh_args": "-o ControlMaster=no -o ControlPath=none",
            "ansible_ssh_executable": ssh,
            **more,
        }

    return {
        "fine": over_ssh(),
        "asking": {},
        "refused": over_ssh(ansible_port=refusing_port),
        "silent": over_ssh(ansible_port=silent, ansible_timeout=2),
        "nameless": over_ssh(ansible_host="nowhere.invalid"),
        "stranger": over_ssh(stranger),
        "changed-key": over_ssh(hosts="wrong"),
        "unknown-key": over_ssh(hosts="empty"),
        "no-python": {"ansible_python_interpreter": "/nowhere/python3"},
        "old-python": {"ansible_python_interpreter": old_python(tmp_path)},
        "no-sudo": {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": "/nowhere/sudo"},
        "crash": {},
        "full": {},
        "expression": {"braces": "{{ 1 + 'a' }}"},
        "no-file": {},
        "no-yaml": {},
        "slow": {},
        "typo": {"ascend_npus": "{{ the_cards_of_this_host }}"},
    }


@pytest.fixture
def problems(hosts: dict[str, Any], tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Run once over all of them; return host -> its entry of the report."""
    project = tmp_path / "project"
    library = project / "library"
    library.mkdir(parents=True)
    (project / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    (project / "broken.yml").write_text("a: [1\n", encoding="utf-8")
    (library / "crash.py").write_text(f"#!/usr/bin/python\n{CRASH}", encoding="utf-8")
    (library / "fill.py").write_text(f"#!/usr/bin/python\n{FILL}", encoding="utf-8")
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ascend_npus": [0],
        "helper": "fine",
    }
    inventory = {"all": {"hosts": hosts, "vars": variables}}
    # All of them are one sshd, which turns away who comes while STARTUPS others have not logged in yet.
    environment = {"ANSIBLE_LIBRARY": str(library), "ANSIBLE_FORKS": str(STARTUPS - 1)}
    done = run_playbook(tmp_path, "play.yml", inventory, project=project, environment=environment)
    assert done.rc != 0
    assert "PROBLEMS" in done.output
    found = {}
    for problem in done.problems:
        for host in problem["hosts"]:
            assert host not in found, f"{host} is reported twice"
            found[host] = problem
    return found


# host: (a part of what is wrong, of what was said there, of the remedy)
EXPECTED = {
    "refused": ("does not answer on its ssh port", "Connection refused", "ansible_port"),
    "silent": ("does not answer on its ssh port", "timed out", "ansible_port"),
    "nameless": ("cannot be resolved", "nowhere.invalid", "ansible_host"),
    "stranger": ("did not accept the login", "Permission denied (publickey", "authorized_keys"),
    "changed-key": ("not the one that is known", "127.0.0.1", "ssh-keygen -R"),
    "unknown-key": ("ssh key is not known", "127.0.0.1", "ssh-keygen -lf"),
    "no-python": ("no Python at /nowhere/python3", "/nowhere/python3", "ansible_python_interpreter"),
    "old-python": ("is too old: this ansible-core", "", "make venv ANSIBLE=2.17"),
    "no-sudo": ("tool to become root is not there", "/nowhere/sudo", "ansible_become_method"),
    "crash": ("broke off", "nobody expected this", "-vvv"),
    "full": ("file system of the server is full", "No space left on device", "df -h"),
    "typo": ("variable the_cards_of_this_host has no value", "", "Set it in the inventory"),
    "expression": ("cannot be computed", "unsupported operand", "braces, quotes, type"),
    "no-file": ("not found on the controller: /nowhere/vars.yml", "", "Check the path"),
    "no-yaml": ("YAML file cannot be read", "flow sequence", "yamllint"),
    "slow": ("did not end within its 1 seconds", "Timed out", "mounts that hang"),
    "fine": ("not found: /nowhere", "", "Check the path"),  # the host that was asked, not the one that asks
}


def test_every_trouble_is_named_with_host_value_and_remedy(
    hosts: dict[str, Any], problems: dict[str, dict[str, Any]]
) -> None:
    assert set(problems) == set(EXPECTED)
    for host, (what, said, remedy) in EXPECTED.items():
        entry = problems[host]
        assert what in entry["what"], host
        assert said in entry["what"] + entry["details"].get(host, ""), host
        assert remedy in entry["remedy"], host
    assert problems["old-python"]["what"].count(hosts["old-python"]["ansible_python_interpreter"]) == 1
    assert problems["refused"]["hosts"] == problems["silent"]["hosts"], "one kind of problem is one entry"
