# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that is on every machine: the functions of the running interpreter's standard library.

The modules are dealt out by a hash of their name: what the model is pre-trained on and what the dataset holds never
share a module, yet read alike.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DATASET_SHARE = 3  # one module in three goes to the dataset
_LEFT_OUT = ("site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "__pycache__")


@dataclass(frozen=True)
class Function:
    """A documented function: its name, its docstring without indentation, and its source text."""

    name: str
    docstring: str
    source: str


def modules(for_dataset: bool) -> list[Path]:
    """Return the standard library's modules of one of the two shares, in a fixed order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not set(relative.parts).intersection(_LEFT_OUT) and in_dataset(relative) == for_dataset:
            found.append(path)
    return found


def in_dataset(module: Path) -> bool:
    """Tell which share a module belongs to, by its path below the library's root."""
    digest = hashlib.sha256(module.as_posix().encode()).digest()
    return digest[0] % DATASET_SHARE == 0


def functions(for_dataset: bool) -> Iterator[Function]:
    """Yield the documented functions of one share, module by module."""
    for path in modules(for_dataset):
        yield from _functions_of(path)


def text(for_dataset: bool) -> Iterator[str]:
    """Yield whole module texts of one share; a file that is not UTF-8 is left out."""
    for path in modules(for_dataset):
        content = _read(path)
        if content:
            yield content


@functools.cache  # a module is read for the dataset, for the training and for the loss, and parsing takes most of the time
def _functions_of(path: Path) -> tuple[Function, ...]:
    content = _read(path)
    return () if content is None else tuple(_documented(content))


def _documented(content: str) -> Iterator[Function]:
    lines = content.split("\n")  # not splitlines: the parser does not count form feeds as line ends
    for node in ast.walk(ast.parse(content)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = ast.get_docstring(node)
        if docstring:
            source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            yield Function(node.name, docstring, source)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None
