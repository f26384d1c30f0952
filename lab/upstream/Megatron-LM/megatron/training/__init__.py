# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments, checkpoints, learning rate and log lines of a training run."""
