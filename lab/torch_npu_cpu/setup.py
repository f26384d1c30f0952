# SPDX-License-Identifier: GPL-3.0-or-later
"""Packaging of the stand-in torch_npu; the lab usually puts the directory on sys.path instead."""

from setuptools import setup

setup(name="torch_npu", version="2.1.0+cpu.standin", packages=["torch_npu", "torch_npu.contrib"])
