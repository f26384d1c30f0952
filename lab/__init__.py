# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated Ascend servers on one machine, for development, demonstration and tests (see README.md in this folder)."""
