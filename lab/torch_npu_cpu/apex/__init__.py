# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of apex that MindSpeed-LLM imports, on plain torch; MindSpeed itself adds the rest and its own FusedAdam."""
