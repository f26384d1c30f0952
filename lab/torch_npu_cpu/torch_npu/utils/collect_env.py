# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of the software below torch_npu."""

from __future__ import annotations


def get_cann_version() -> str:
    """Return an empty version: there is no CANN here."""
    return ""
