# SPDX-License-Identifier: GPL-3.0-or-later
"""Installation. As upstream's, it installs requirements.txt by itself unless CI_BUILD=1."""

import os
import subprocess
import sys

import setuptools

HERE = os.path.dirname(os.path.abspath(__file__))

if os.getenv("CI_BUILD", "0") != "1":
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-r", os.path.join(HERE, "requirements.txt")])

setuptools.setup(
    name="mindspeed",
    version="0.8.0",
    description="MindSpeed for LLMs of Ascend (the lab's stand-in)",
    packages=setuptools.find_packages(include=["mindspeed", "mindspeed.*"]),
    python_requires=">=3.8",
)
