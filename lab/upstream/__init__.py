# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for the three upstream repositories."""
