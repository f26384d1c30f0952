# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's stand-in for mindspeed_llm. Importing it prepares the process, so it comes before megatron."""

from mindspeed import megatron_adaptor

__all__ = ["megatron_adaptor"]
