# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a module meets Ansible: parameters in, one result shape out, library errors turned into a failure that explains itself."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Mapping

from ansible.module_utils.basic import AnsibleModule

from .errors import FleetError, system_error
from .host import Host
from .outcome import Outcome

Action = Callable[[Host, Dict[str, Any], bool], Outcome]
# Of everything that a module and the programs that it starts make. Under the 027 or 077 of a hardened login, which sudo keeps, other
# users could read neither an artifact nor the program behind a grant. What is private (keys, launch files) says so by its own mode.
UMASK = 0o022


def run_module(argument_spec: Mapping[str, Any], action: Action, **settings: Any) -> None:
    """Run `action(host, parameters, check_mode)` as an Ansible module that supports check mode."""
    os.umask(UMASK)
    module = AnsibleModule(  # type: ignore[no-untyped-call]  # ansible-core is untyped
        argument_spec=dict(argument_spec), supports_check_mode=True, **settings
    )
    try:
        outcome = action(Host(), module.params, module.check_mode)
    except FleetError as error:
        module.fail_json(**error.as_result())
    except OSError as error:
        # A full disk or a missing right can meet any step; the module's own checks come first and say more.
        module.fail_json(**system_error(error).as_result())
    module.exit_json(**outcome.as_result())
