# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter plan_hosts: declared variables in the order of the hosts."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.plan_hosts import FilterModule

plan_hosts = FilterModule().filters()["plan_hosts"]


def test_declared_variables_in_order() -> None:
    hostvars = {
        "a": {"ansible_host": "192.0.2.1", "ascend_npus": [2, 3], "ascend_interface": "eth0"},
        "b": {"ansible_host": "203.0.113.9", "ascend_address": "192.0.2.2", "ascend_npus": [0]},
        "c": {},
        "other": {},
    }
    assert plan_hosts(["b", "a", "c"], hostvars) == [
        {"name": "b", "address": "192.0.2.2", "npus": [0]},
        {"name": "a", "address": "192.0.2.1", "npus": [2, 3], "interface": "eth0"},
        {"name": "c", "address": "c"},
    ]


def test_a_name_that_the_inventory_does_not_know() -> None:
    with pytest.raises(AnsibleFilterError, match="training_hosts names d, which"):
        plan_hosts(["a", "d"], {"a": {}})


def test_not_a_list() -> None:
    with pytest.raises(AnsibleFilterError, match="not 'a'"):
        plan_hosts("a", {"a": {}})
