# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of ascend-fleet share. It runs on the servers: standard library only, Python 3.7 syntax."""
