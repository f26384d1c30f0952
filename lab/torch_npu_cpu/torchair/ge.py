# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the graph engine for annotations."""


class Tensor:
    """A tensor in a graph."""


class TensorSpec:
    """The type and shape of a tensor in a graph."""


class DataType:
    """The types of a graph's tensors."""
