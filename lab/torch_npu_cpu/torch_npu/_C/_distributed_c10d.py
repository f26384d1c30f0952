# SPDX-License-Identifier: GPL-3.0-or-later
"""The HCCL process group, of which MindSpeed asks whether its options can be tuned: here there are none."""


class ProcessGroupHCCL:
    """HCCL's process group; the lab's groups are gloo's."""

    class Options:
        """Options of a group, without `hccl_config`."""
