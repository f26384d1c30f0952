# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in for megatron.core: data, ranks and formats that its trainer uses."""

__version__ = "0.8.0"
