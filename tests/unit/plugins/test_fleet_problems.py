# SPDX-License-Identifier: GPL-3.0-or-later
"""The report at the end of a run: each problem once, with host, value and remedy."""

from __future__ import annotations

from string import Formatter
from typing import Any

import pytest

from tests.conftest import load_plugin

plugin = load_plugin("callback/fleet_problems.py")
UNREAD = "Module result deserialization failed: No start of json char found"
# What Python 3.7 and 3.6 print of the module wrapper of ansible-core 2.19.
PYTHON_37 = """Traceback (most recent call last):
  File "<stdin>", line 274, in <module>
  File "<stdin>", line 138, in invoke_module
  File "/tmp/ansible_ping_payload_h1/ansible_ping_payload.zip/ansible/module_utils/_internal/__init__.py", line 50
    def import_controller_module(_module_name: str, /) -> t.Any:
                                                    ^
SyntaxError: invalid syntax"""
PYTHON_36 = '  File "<stdin>", line 3\nSyntaxError: future feature annotations is not defined'
PYTHON_27 = '  File "<stdin>", line 40\n    zip_data: str,\n            ^\nSyntaxError: invalid syntax'


@pytest.mark.parametrize(
    ("message", "meaning", "remedy"),
    [
        ("ssh: REMOTE HOST IDENTIFICATION HAS CHANGED! Host key verification failed.", "not the one", "ssh-keygen -R"),
        ("No ED25519 host key is known for x. Host key verification failed.", "is not known", "ssh-keygen -lf"),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "does not answer", "ansible_host"),
        ("ssh: Connection timed out during banner exchange", "does not answer", "ansible_port"),
        ("kex_exchange_identification: read: Connection reset by peer", "does not answer", "ansible_port"),
        ("root@10.0.0.9: Permission denied (publickey,password).", "did not accept the login", "authorized_keys"),
        ("ssh: Could not resolve hostname npu-9: Name or service not known", "cannot be resolved", "ansible_host"),
        ("Temporary failure in name resolution", "cannot be resolved", "ansible_host"),
        ("Missing sudo password", "may not become root without", "--ask-become-pass"),
        ("Incorrect su password", "may not become root without", "--ask-become-pass"),
        ("Timeout (12s) waiting for privilege escalation prompt:", "may not become root", "--ask-become-pass"),
        ("ops is not in the sudoers file.", "may not become root", "ansible_user"),
        ("/bin/sh: 1: sudo: not found", "tool to become root", "ansible_become_method"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "No Python was found on the server (/opt/py)", "Install python3"),
        ("The module interpreter '/opt/python3' was not found.", "no Python at /opt/python3", "Install python3"),
        ("Data could not be sent to remote host 'x'. [Errno 32] Broken pipe", "ended at once", "ssh <user>@"),
        (
            "Data could not be sent to remote host: Permission denied (publickey)",
            "did not accept the login",
            "ansible_user",
        ),
        ("[Errno 28] No space left on device: '/data/x'", "is full", "df -h"),
        ("Failed to create temporary directory. In some cases", "cannot be written", "ansible_remote_tmp"),
        (
            "Error while resolving value for '_raw_params': 'ascend_npus' is undefined",
            "variable ascend_npus",
            "inventory",
        ),
        ("'fleet_plan' is undefined", "no plan in this run", "site.yml"),
        ("object of type 'dict' has no attribute 'npu-3'", "lacks the entry npu-3", "inventory/prod"),
        ("Validation of arguments failed:\nmissing required arguments: x", "not of the type", "defaults/main.yml"),
        ("MODULE FAILURE", "broke off", "-vvv"),
        ("ssh: connect to host 10.0.0.9 port 22: Host is down", "does not answer", "ansible_port"),
        ("Received disconnect: Too many authentication failures", "did not accept the login", "authorized_keys"),
        (
            "Invalid/incorrect password: Permission denied, please try again.",
            "did not accept the login",
            "ansible_user",
        ),
        ("you must install the sshpass program", "password", "ansible_ssh_private_key_file"),
        (
            "Unable to negotiate with 10.0.0.9: no matching host key type found.",
            "no algorithm",
            "ansible_ssh_common_args",
        ),
        ("Bad owner or permissions on /root/.ssh/config", "/root/.ssh/config", "chmod 600"),
        ("unix_listener: path too long for Unix domain socket", "keep the connection", "ANSIBLE_SSH_CONTROL_PATH_DIR"),
        ("Your password has expired. Password change required", "account", "renew or unlock"),
        ("Failed to connect to the host via ssh: something new", "connection to the server failed", "ssh <user>@"),
        ("sudo: sorry, you must have a tty to run sudo", "may not become root without", "--ask-become-pass"),
        ("sudo: no tty present and no askpass program specified", "may not become root without", "--ask-become-pass"),
        ("sudo: unknown user nobody2", "nobody2, is not there", "ansible_become_user"),
        ("Timed out after 30 second(s).", "within its 30 seconds", "run again"),
        ("[Errno 12] Cannot allocate memory", "no memory", "dmesg"),
        ("A worker was found in a dead state", "ended from outside", "-f 5"),
        ("[Errno 5] Input/output error", "does not work", "dmesg"),
        ("[Errno 13] Permission denied: '/home/x/.lock'", "may not use /home/x/.lock", "ansible_become"),
        ("file is not readable: /data/config.json", "may not use /data/config.json", "ansible_become"),
        ("Could not find or access '/x.yml' on the Ansible Controller.", "on the controller: /x.yml", "Check the path"),
        ("YAML parsing failed: Tabs are usually invalid in YAML.", "YAML file cannot be read", "yamllint"),
        ("Attempting to decrypt but no vault secrets found.", "encrypted", "--ask-vault-pass"),
        ("Syntax error in template: unexpected '}'", "expression", "braces"),
        ("Error rendering template: unsupported operand type(s) for +", "expression", "type"),
        ("template error while templating string: unexpected '}'", "expression", "braces"),
        ("Recursive loop detected in template", "expression", "that the task uses"),
        ("Error while resolving value for 'msg': hostvars['nope']", "expression", "that is named"),
        ("Unsupported parameters for (x) module: y.", "not of the type", "defaults/main.yml"),
        ("value of verify must be one of: stat, content, got: all", "not of the type", "defaults/main.yml"),
    ],
)
def test_what_ansible_reports_gets_a_meaning_and_a_remedy(message: str, meaning: str, remedy: str) -> None:
    what, advice, said = plugin.explain({"msg": message}, "/opt/py")
    assert meaning in what
    assert message == said, "the value itself is never lost"
    assert remedy in advice


@pytest.mark.parametrize(
    ("result", "what", "remedy"),
    [
        ({"msg": UNREAD, "module_stderr": PYTHON_37}, "needs 3.8", "make venv ANSIBLE=2.17"),
        ({"msg": UNREAD, "module_stderr": PYTHON_36}, "is older than 3.7", "Install Python 3.7"),
        ({"msg": UNREAD, "module_stderr": PYTHON_27}, "is older than 3.7", "Install Python 3.7"),
        (
            {"msg": "ansible-core requires a minimum of Python version 3.8. Current version: 3.7.4 (default)"},
            "Python 3.7.4 (/opt/py) is too old",
            "make venv ANSIBLE=2.17",
        ),
    ],
)
def test_an_old_python_is_named_with_the_way_out(result: dict[str, Any], what: str, remedy: str) -> None:
    meaning, advice, said = plugin.explain(result, "/opt/py")
    assert "(/opt/py)" in meaning
    assert what in meaning
    assert remedy in advice
    assert said == result.get("module_stderr", result["msg"]).splitlines()[-1]


@pytest.mark.parametrize("key", ["message", "reason"])
def test_what_actions_say_in_another_place_is_shown(key: str) -> None:
    result = {key: "YAML parsing failed: While parsing a flow sequence.", "msg": "Action failed: Unknown error."}
    if key == "reason":
        del result["msg"]
    what, remedy, said = plugin.explain(result)
    assert (what, said) == ("A YAML file cannot be read.", result[key])
    assert remedy


def test_no_rule_leaves_a_name_open() -> None:
    """Each group that a text names is one of its pattern, or among what the callback always knows."""
    known = {"python", "core", "oldest", "switch"}
    for rule in plugin.RULES:
        named = {name for text in (rule.meaning, rule.remedy) for _, name, _, _ in Formatter().parse(text) if name}
        assert named <= known | set(rule.pattern.groupindex), rule.meaning


def test_a_crash_shows_its_last_words() -> None:
    failed = {
        "msg": "MODULE FAILURE\nSee stdout/stderr for the exact error",
        "module_stderr": "Traceback\nKeyError: 'x'",
    }
    assert plugin.explain(failed)[2] == "KeyError: 'x'"


def test_what_the_older_ansible_adds_about_the_place_is_left_out() -> None:
    failed = {
        "msg": "An undefined variable. 'x' is undefined\n\nThe error appears to be in '/site.yml': line 3\n\n  - name"
    }
    assert plugin.explain(failed)[::2] == (
        "The variable x has no value on this host.",
        failed["msg"].partition("\n")[0],
    )


def test_a_modules_own_remedy_wins() -> None:
    result = {"msg": "x Remedy: y", "problem": "No space left on device /data", "remedy": "Use /data2."}
    assert plugin.explain(result) == ("No space left on device /data", "Use /data2.", "")


def test_a_remedy_inside_a_message_is_found() -> None:
    assert plugin.explain({"msg": "All hosts are needed. Remedy: run without --limit."}) == (
        "All hosts are needed.",
        "run without --limit.",
        "",
    )


def test_a_delegated_task_speaks_of_the_host_it_ran_on() -> None:
    assert plugin.place("npu-1", "store-1", {}) == "store-1"
    assert plugin.place("npu-1", None, {}) == "npu-1"
    assert plugin.place("npu-1", "{{ staging }}", {}) == "npu-1", "a name that was never resolved says nothing"
    resolved = {"_ansible_delegated_vars": {"ansible_delegated_host": "store-1"}}
    assert plugin.place("npu-1", "{{ staging }}", resolved) == "store-1"


def test_an_unknown_failure_is_shown_as_it_is() -> None:
    assert plugin.explain({"msg": "something else"}) == ("something else", "", "")


def test_the_same_problem_on_many_hosts_is_one_entry() -> None:
    problems: list[object] = []
    for number in range(9):
        plugin.collect(problems, f"npu-{number}", "Look", {"problem": "No driver", "remedy": "Install it."})
    plugin.collect(problems, "npu-9", "Look", {"problem": "No chip", "remedy": ""})
    report = plugin.lines(problems)
    assert report[0] == "npu-0, npu-1, npu-2, npu-3, npu-4, npu-5 and 3 more: No driver"
    assert report[1:4] == ["    while: Look", "    remedy: Install it.", "npu-9: No chip"]


def test_what_each_host_said_stands_below_what_they_share() -> None:
    problems: list[object] = []
    for host in ("npu-1", "npu-2"):
        plugin.collect(problems, host, "Look", {"msg": f"connect to host {host} port 22: Connection refused"})
    assert plugin.lines(problems)[:3] == [
        "npu-1, npu-2: The server does not answer on its ssh port.",
        "    npu-1 said: connect to host npu-1 port 22: Connection refused",
        "    npu-2 said: connect to host npu-2 port 22: Connection refused",
    ]


def test_lines_of_a_saying_are_set_in() -> None:
    problems: list[object] = []
    plugin.collect(problems, "npu-1", "Look", {"msg": "No key is known.\r\nHost key verification failed."})
    assert plugin.lines(problems)[1] == "    npu-1 said: No key is known.\n        Host key verification failed."


def test_several_problems_of_one_result_are_a_list() -> None:
    problems: list[object] = []
    refused = {"problem": "No TP 3.; No PP 3.", "problems": ["No TP 3.", "No PP 3."], "remedy": "Change them."}
    plugin.collect(problems, "localhost", "Plan", refused)
    assert plugin.lines(problems)[:3] == ["localhost: 2 problems", "    - No TP 3.", "    - No PP 3."]


def test_words_of_this_project_keep_their_remedy_whatever_they_quote() -> None:
    said = "ssh cannot forward a socket of npu-1 (Control socket connect: No such file). Remedy: keep ControlPersist in ssh_args."
    what, remedy, _ = plugin.explain({"msg": said})
    assert what == "ssh cannot forward a socket of npu-1 (Control socket connect: No such file)."
    assert remedy == "keep ControlPersist in ssh_args."
