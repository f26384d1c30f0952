# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-test's validate-modules on library/: documentation and argument_spec must say the same.

It wants a collection, so a throw-away one is built from library/, module_utils/ and the documentation they share, with the imports
and the names of that documentation rewritten.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ansible_test

ROOT = Path(__file__).resolve().parents[2]
TOOL = Path(ansible_test.__file__).parent / "_util" / "controller" / "sanity" / "validate-modules"
NAME = "local/ascend_fleet"
# The licence stands in the SPDX line, not in the long form that ansible's own collections need.
ROOMS = {"library": "modules", "module_utils": "module_utils", "plugins/doc_fragments": "doc_fragments"}
FRAGMENTS = re.compile(r"^extends_documentation_fragment: .*$", re.MULTILINE)
LEFT_OUT = ("missing-gplv3-license",)


def build_collection(parent: Path) -> Path:
    """Copy the modules into a collection below `parent` and return its root."""
    root = parent / "ansible_collections" / NAME
    for source, target in ROOMS.items():
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / source, root / "plugins" / target, ignore=ignored)
    for path in root.rglob("*.py"):
        text = path.read_text().replace(
            "ansible.module_utils.ascend_fleet",
            "ansible_collections.local.ascend_fleet.plugins.module_utils.ascend_fleet",
        )
        # A collection names its fragments in full.
        path.write_text(
            FRAGMENTS.sub(lambda found: found[0].replace("fleet.", f"{NAME.replace('/', '.')}.fleet."), text)
        )
    (root / "galaxy.yml").write_text(
        "namespace: local\nname: ascend_fleet\nversion: 0.0.1\nauthors: [ascend-fleet]\nreadme: README.md\n"
    )
    return root


def main() -> int:
    """Return 0 when every module passes; print what does not."""
    with tempfile.TemporaryDirectory() as folder:
        root = build_collection(Path(folder))
        modules = sorted(str(path.relative_to(root)) for path in (root / "plugins" / "modules").glob("*.py"))
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": folder, "PYTHONPATH": str(TOOL)}
        line = [sys.executable, str(TOOL / "validate.py"), "--format", "plain", "--arg-spec", "--collection", NAME]
        line[-1] = f"ansible_collections/{NAME}"
        done = subprocess.run([*line, *modules], cwd=root, env=environment, capture_output=True, text=True, check=False)
    findings = [row for row in done.stdout.splitlines() if row.strip() and not any(code in row for code in LEFT_OUT)]
    if done.returncode != 0 and not done.stdout.strip():
        findings.append(done.stderr.strip() or f"validate-modules ended with status {done.returncode}")
    print("\n".join(findings) or f"validate-modules: {len(modules)} modules, no findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
