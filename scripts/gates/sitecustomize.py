# SPDX-License-Identifier: GPL-3.0-or-later
"""On PYTHONPATH for ansible-lint only: lets its `args` rule import modules that use this project's module_utils.

Without it the rule skips such a file silently, and a misspelt option would pass.
"""

from pathlib import Path

import ansible.module_utils

ansible.module_utils.__path__.append(str(Path(__file__).resolve().parents[2] / "module_utils"))
