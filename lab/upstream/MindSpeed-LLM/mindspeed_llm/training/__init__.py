# SPDX-License-Identifier: GPL-3.0-or-later
"""What MindSpeed-LLM adds to Megatron's training."""
