# SPDX-License-Identifier: GPL-3.0-or-later
"""Add-ons of torch_npu."""
