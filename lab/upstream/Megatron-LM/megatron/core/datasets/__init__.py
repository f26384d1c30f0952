# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading of .bin/.idx datasets and the order of samples."""
