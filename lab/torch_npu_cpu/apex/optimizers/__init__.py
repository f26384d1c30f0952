# SPDX-License-Identifier: GPL-3.0-or-later
"""Optimizers under apex's names. MindSpeed puts its own AdamW in place of FusedAdam."""

from torch.optim import SGD as FusedSGD
from torch.optim import AdamW as FusedAdam

__all__ = ["FusedAdam", "FusedSGD"]
