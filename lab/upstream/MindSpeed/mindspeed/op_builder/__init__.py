# SPDX-License-Identifier: GPL-3.0-or-later
"""Where operators would be compiled from; here it only finds the toolkit, and fails as upstream does without it."""

from __future__ import annotations

import os

import torch_npu

ASCEND_HOME_PATH = "ASCEND_HOME_PATH"


class OpBuilder:
    """Paths that compiling an operator needs."""

    def __init__(self) -> None:
        """Look for the toolkit that the environment script names."""
        self._torch_npu_path = os.path.dirname(os.path.abspath(torch_npu.__file__))
        home = os.environ.get(ASCEND_HOME_PATH)
        self._cann_path = home if home is not None and os.path.exists(home) else None

    def include_paths(self) -> list[str]:
        """Return the include directories; TypeError when no environment script was sourced."""
        return [
            os.path.join(self._torch_npu_path, "include"),
            os.path.join(self._cann_path, "include"),  # type: ignore[arg-type]
        ]
