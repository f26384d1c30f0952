# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on a server is Python 3.7, as openEuler 20.03, Kylin V10 and EulerOS 2.10 have it; what runs in the container is 3.8."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

LIBRARY = ROOT / "module_utils" / "ascend_fleet"
ON_SERVERS = [*sorted(LIBRARY.glob("*.py")), *sorted((ROOT / "library").glob("*.py"))]
IN_CONTAINERS = sorted((ROOT / "workers").glob("*.py"))
# entry.py needs AnsibleModule, which Ansible brings along; everything else has the standard library alone.
IMPORT = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
names = sorted(path.stem for path in pathlib.Path(sys.argv[1], "ascend_fleet").glob("*.py"))
for name in names:
    if name not in ("__init__", "entry"):
        importlib.import_module("ascend_fleet." + name)
print(len(names))
"""


def interpreter(version: str) -> Path | None:
    """A working Python of this version on PATH or in pyenv's directory; a shim that only fails does not count."""
    named = shutil.which(f"python{version}")
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates = [*([Path(named)] if named else []), *sorted(versions.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        ask = [str(candidate), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


@pytest.mark.parametrize(
    ("version", "paths"), [((3, 7), ON_SERVERS), ((3, 8), IN_CONTAINERS)], ids=["servers", "containers"]
)
def test_the_syntax_is_old_enough(version: tuple[int, int], paths: list[Path]) -> None:
    assert len(paths) > 5
    for path in paths:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=version)


@pytest.mark.parametrize("version", ["3.7", "3.8"])
def test_the_library_can_be_imported(version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    argv = [str(python), "-I", "-B", "-c", IMPORT, str(LIBRARY.parent)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


@pytest.mark.long
def test_a_module_runs_on_python_37_under_ansible_217(tmp_path: Path) -> None:
    python, program = interpreter("3.7"), ROOT / ".venv-2.17" / "bin" / "ansible"
    if python is None or not program.exists():
        pytest.skip("needs Python 3.7, and `make venv ANSIBLE=2.17`")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content\n", encoding="utf-8")
    arguments = f"path={tmp_path / 'source'} cache_dir={tmp_path / 'cache'}"
    line = [str(program), "all", "-i", "server,", "-c", "local", "-m", "artifact_manifest", "-a", arguments]
    line += ["-e", f"ansible_python_interpreter={python}"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
