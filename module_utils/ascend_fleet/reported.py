# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible itself reports, what that means, and what to do: for the callback fleet_problems, on the controller alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Pattern


@dataclass(frozen=True)
class Rule:
    """A text that Ansible reports, what it means, and what to do. Both may name groups of the pattern.

    Beyond those: python, the host's interpreter; core, the version of ansible-core; oldest, the Python that it needs; switch, what
    leads to another version.
    """

    pattern: Pattern[str]
    meaning: str
    remedy: str


def _rule(pattern: str, meaning: str, remedy: str) -> Rule:
    return Rule(re.compile(pattern, re.IGNORECASE | re.DOTALL), meaning, remedy)


# The first that matches counts: what is more special stands further up.
RULES = (
    _rule(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "The host's ssh key is not the one that is known.",
        "If the server was reinstalled, compare its key on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then "
        "`ssh-keygen -R <address>` and connect once by hand; if it was not, somebody else answers at this address.",
    ),
    _rule(
        r"Host key verification failed",
        "The host's ssh key is not known.",
        "Compare its key on its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) and connect once by hand to accept it.",
    ),
    # Python 3.6 and older stop at the first line, 3.7 at the first signature that it cannot read.
    _rule(
        r"future feature annotations is not defined|File \"[^\"]+\", line \d+\s+zip_data: str",
        "The server's Python ({python}) is older than 3.7; this ansible-core {core} needs {oldest}.",
        "Install Python 3.7 or newer there and set ansible_python_interpreter to it.",
    ),
    _rule(
        r"ansible-core requires a minimum of Python\d* version .*?Current version: (?P<found>[\d.]+)",
        "The server's Python {found} ({python}) is too old: this ansible-core {core} needs {oldest}.",
        "Set ansible_python_interpreter to a newer Python of that server.{switch}",
    ),
    _rule(
        r"_ansiballz.*SyntaxError|_payload\.zip/ansible/.*SyntaxError",
        "The server's Python ({python}) is too old: this ansible-core {core} needs {oldest}.",
        "Set ansible_python_interpreter to a newer Python of that server.{switch}",
    ),
    _rule(
        r"module interpreter '(?P<path>[^']+)' was not found",
        "There is no Python at {path}.",
        "Install python3 there, or set ansible_python_interpreter to its path.",
    ),
    _rule(
        r"python\S*: (command )?not found|No python interpreters found|python[\d.]*: No such file",
        "No Python was found on the server ({python}).",
        "Install python3 there, or set ansible_python_interpreter to its path.",
    ),
    _rule(
        r"(?P<tool>sudo|su|doas)(:| exe\S*)? (command )?not found|(?P<path>\S*/(sudo|su|doas)): No such file",
        "The tool to become root is not there.",
        "Install it, choose another ansible_become_method, or log in as root.",
    ),
    _rule(
        r"(Missing|Incorrect) \w+ password|a password is required|Duplicate become password|privilege escalation prompt|"
        r"Authentication failure\b|must be run from a terminal|a terminal is required|must have a tty|no tty present|"
        r"incorrect password attempt",
        "The login may not become root without a password.",
        "Allow sudo for that user without one, or run with --ask-become-pass.",
    ),
    _rule(
        r"is not in the sudoers|may not run sudo|is not allowed to execute",
        "The login may not become root.",
        "Allow sudo for that user, or log in as another one (ansible_user).",
    ),
    _rule(
        r"(sudo: unknown user:?|su: user) (?P<user>[\w-]+)",
        "The user to become, {user}, is not there.",
        "Set ansible_become_user to one that is, or leave it out to become root.",
    ),
    _rule(
        r"install the sshpass program|sshpass does not support",
        "ssh is to log in with a password, which it does through sshpass alone, and only to hosts whose key is known.",
        "Log in with a key (ansible_ssh_private_key_file), or install sshpass here and connect once by hand to each host.",
    ),
    _rule(
        r"Unable to negotiate|no matching (host key|key exchange|cipher|MAC)",
        "The server's sshd and the controller's ssh have no algorithm in common.",
        "Update sshd there, or allow for this host what it offers: ansible_ssh_common_args with -o HostKeyAlgorithms=+<name>, "
        "-o KexAlgorithms=+<name> or the like.",
    ),
    _rule(
        r"Bad owner or permissions on (?P<path>\S+)",
        "ssh on the controller does not take {path}, which others may write.",
        "Make it yours alone there: chown and chmod 600.",
    ),
    _rule(
        r"Control socket|ControlPath|too long for Unix domain socket",
        "ssh on the controller cannot keep the connection open for the next task.",
        "Set ANSIBLE_SSH_CONTROL_PATH_DIR to a directory with a short path that you may write.",
    ),
    _rule(
        r"account is (currently )?not available|password has expired|account (has expired|is locked)",
        "The account of the login cannot be used.",
        "Log in once by hand (ssh <user>@<address>) and renew or unlock it, or set another ansible_user.",
    ),
    _rule(
        r"Permission denied \(|Too many authentication failures|Load key .*: (invalid format|bad permissions)|no such identity|"
        r"Invalid/incorrect (username/)?password",
        "The server did not accept the login.",
        "Check ansible_user and ansible_ssh_private_key_file of this host, and that its public key stands in the user's authorized_keys.",
    ),
    _rule(
        r"Could not resolve hostname|Name or service not known|failure in name resolution",
        "The server's name cannot be resolved.",
        "Set ansible_host to its address in the inventory.",
    ),
    _rule(
        r"(Connection|Operation) timed out|Host is down|timed out waiting|during banner exchange|No route to host|Connection refused|"
        r"Network is unreachable|Connection (closed|reset) by|Connection to \S+ closed|kex_exchange_identification",
        "The server does not answer on its ssh port.",
        "Check that it runs, ansible_host and ansible_port in the inventory, and the way there: ssh <user>@<address>.",
    ),
    # Ansible's own words where ssh ended while it was written to, before what ssh said was read.
    _rule(
        r"Data could not be sent to remote host",
        "The ssh connection to the server ended at once.",
        "See why: ssh <user>@<address>.",
    ),
    _rule(
        r"Timed out after (?P<seconds>\d+) second",
        "The task did not end within its {seconds} seconds.",
        "Look at that host (load, file systems and mounts that hang), then run again.",
    ),
    _rule(
        r"Cannot allocate memory|MemoryError|found in a dead state|signal 9\b",
        "A process found no memory, or was ended from outside.",
        "Look for the out-of-memory killer in dmesg of that host, and of the controller, where fewer forks at once help (-f 5).",
    ),
    _rule(
        r"No space left on device|Disk quota exceeded",
        "A file system of the server is full.",
        "Free space there (df -h), or move ascend_work_root or the temporary directory to a larger file system.",
    ),
    _rule(
        r"file not found: (?P<path>\S+)",
        "File not found: {path}",
        "Check the path in the inventory, and that the file was brought to this host.",
    ),
    _rule(
        r"(?:Could not find or access|Unable to access the file|could not locate file in lookup:)\s*'?(?P<path>[^'\s]+)",
        "File not found on the controller: {path}",
        "Check the path in the inventory or on the command line; a relative one counts from the playbook.",
    ),
    _rule(
        r"Failed to create temporary directory|Read-only file system|Input/output error|Stale file handle",
        "The server's file system cannot be written or does not work.",
        "Look at it (mount, dmesg, df -h); ansible_remote_tmp names the directory that Ansible itself uses.",
    ),
    _rule(
        r"(Permission denied: |not readable: )b?'?(?P<path>[^'\s]+)",
        "The login may not use {path}.",
        "Log in as root, or as a user with ansible_become: true, or give that user the file.",
    ),
    _rule(
        r"YAML parsing failed|Syntax Error while loading YAML",
        "A YAML file cannot be read.",
        "Correct it: the task says what was to be read, the message what is wrong with it; yamllint shows both at their line.",
    ),
    _rule(
        r"no vault secrets",
        "An encrypted value cannot be read.",
        "Run with --ask-vault-pass or --vault-password-file.",
    ),
    _rule(
        r"'fleet_plan' is undefined",
        "There is no plan in this run.",
        "Run site.yml with the tag of this stage; the plan comes with every tag.",
    ),
    _rule(
        r"'(?P<name>[A-Za-z_]\w*)' is undefined",
        "The variable {name} has no value on this host.",
        "Set it in the inventory (group_vars or host_vars); inventory/prod has an example of every value.",
    ),
    _rule(
        r"(?:has no attribute|has no element) '?(?P<name>[\w-]+)'?",
        "A value lacks the entry {name}.",
        "Compare the variable that is named with inventory/prod and with the role's defaults.",
    ),
    _rule(
        r"Validation of arguments failed|Unsupported parameters for|missing required arguments|must be one of:|unable to convert to",
        "A variable is missing, or it is not of the type that the role takes.",
        "Correct it in the inventory; the role's defaults/main.yml says what it is for.",
    ),
    _rule(
        r"Syntax error in template|Error rendering template|template error while templating|templating type error|"
        r"plugin '[^']+' (failed|was not found)|lookup had an issue|Recursive loop|conditional check .* failed|Conditional result|"
        r"Error while resolving value|is undefined",
        "An expression in a variable cannot be computed.",
        "Correct the variable that is named, or that the task uses (braces, quotes, type); -vvv shows where it stands.",
    ),
    _rule(
        r"Failed to connect to the host via",
        "The ssh connection to the server failed.",
        "See why: ssh <user>@<address>.",
    ),
    _rule(
        r"Unexpected failure during module execution|Module failed:|MODULE FAILURE|"
        r"Traceback \(most recent call last\)|result deserialization failed",
        "A module broke off, which none should ever do.",
        "Run this tag again with -vvv and report the output with the versions of Python and ansible-core.",
    ),
)
