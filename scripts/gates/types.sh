#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# mypy across the boundary: without the links below, `ansible.module_utils.ascend_fleet` would be untyped for library/.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${VENV:-$top/.venv}/bin
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
site=$("$bin/python" -c 'import ansible.module_utils.basic as m, os; print(os.path.dirname(m.__file__))')
mkdir -p "$tree/ansible/module_utils"
ln -s "$top/module_utils/ascend_fleet" "$tree/ansible/module_utils/ascend_fleet"
ln -s "$site/basic.py" "$tree/ansible/module_utils/basic.py"
cd "$top"
export MYPYPATH=$tree
common=(--strict --namespace-packages --explicit-package-bases --no-error-summary --follow-imports=silent --cache-dir "$top/.mypy_cache/strict")
# Modules and their library, as one program; each module is a main of its own.
"$bin/mypy" "${common[@]}" --python-version 3.10 "$tree/ansible/module_utils/ascend_fleet" library/*.py
# Workers: torch, numpy and transformers have types of their own that are not looked into.
"$bin/mypy" --ignore-missing-imports --follow-imports=skip --no-error-summary --disallow-untyped-defs --cache-dir "$top/.mypy_cache/workers" workers/*.py
"$bin/mypy" --ignore-missing-imports --follow-imports=silent --no-error-summary --disallow-untyped-defs --cache-dir "$top/.mypy_cache/lab" -p lab -p benchmarks
echo "mypy: no findings"
