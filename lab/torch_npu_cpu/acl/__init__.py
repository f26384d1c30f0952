# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of CANN's Python interface. It is imported by much and used by little of MindSpeed, and none of that runs on a CPU."""


def __getattr__(name: str) -> object:
    raise AttributeError(f"acl.{name}: this acl is an empty name of the lab, there is no CANN here")
