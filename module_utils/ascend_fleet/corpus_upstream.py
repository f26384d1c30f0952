# SPDX-License-Identifier: GPL-3.0-or-later
"""Preprocessing with the pinned release's own preprocess_data.py; its result is read back and compared with the documents."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Mapping

from .container_worker import call_worker
from .conversion_upstream import LOG, run_script
from .host import Container, Host

SCRIPT = "preprocess_data.py"
CACHE = ".cache"  # in the directory that is being made; what the script keeps there is of no use afterwards


def objection(params: Mapping[str, Any]) -> str:
    """Return what was asked for that the script has no option for, or nothing."""
    asked = {
        "a template": params["template"],
        "a validation part": params["validation"],
        "skip_bad": params["skip_bad"],
    }
    return ", ".join(name for name, value in asked.items() if value)


def script_arguments(params: Mapping[str, Any], source: str, tokenizer: str, out: str) -> List[str]:
    """Return everything after `python preprocess_data.py`."""
    line = ["--input", source, "--tokenizer-type", "PretrainedFromHF", "--tokenizer-name-or-path", tokenizer]
    line += ["--output-prefix", os.path.join(out, params["name"]), "--json-keys", *params["json_keys"]]
    line += ["--workers", str(params["workers"]), "--log-interval", "1000", "--cache-dir", os.path.join(out, CACHE)]
    return [*line, "--append-eod"] if params["append_eod"] else line


def preprocess_upstream(
    host: Host,
    container: Container,
    params: Mapping[str, Any],
    source: str,
    tokenizer: str,
    out: str,
    native: List[str],
    env: Dict[str, str],
) -> Dict[str, Any]:
    """Preprocess with upstream's script and verify its result. `native` is the command line of our own builder for the same."""
    arguments = script_arguments(params, source, tokenizer, out)
    host.make_dirs(os.path.join(out, CACHE))
    ran = run_script(container, params, SCRIPT, arguments, out, env)
    host.remove(os.path.join(out, CACHE))
    compared = call_worker(container, params["work_root"], "build_dataset.py", [*native, "--verify"], env=env)
    host.remove(os.path.join(out, LOG))
    return {"script": SCRIPT, "arguments": arguments, "run": ran, "verified": compared, "keys": compared.get("keys")}
