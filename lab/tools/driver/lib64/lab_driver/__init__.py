# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's NPU driver: it looks at processes, device nodes and files of its server and answers the tools from that."""
