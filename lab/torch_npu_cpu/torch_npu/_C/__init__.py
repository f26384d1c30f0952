# SPDX-License-Identifier: GPL-3.0-or-later
"""Where torch_npu keeps its compiled parts."""

from torch_npu._C import _distributed_c10d

__all__ = ["_distributed_c10d"]
