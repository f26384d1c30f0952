# SPDX-License-Identifier: GPL-3.0-or-later
"""Packaging; the tree is normally used from its directory."""

import setuptools

setuptools.setup(
    name="mindspeed_llm",
    version="0.0.1",
    packages=setuptools.find_packages(include=["mindspeed_llm", "mindspeed_llm.*"]),
)
