# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in for MindSpeed: what ties a Megatron tree to the NPU's toolkit."""

__version__ = "0.8.0"
