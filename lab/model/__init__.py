# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's model and dataset, both made from the Python standard library's own sources."""
