# SPDX-License-Identifier: GPL-3.0-or-later
"""The source trees made usable: `megatron/` laid into MindSpeed-LLM, MindSpeed installed in the container, imports proven there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from .docker import ContainerState, Engine
from .docker_container import refuse_under_job
from .errors import CommandError, FleetError, InputError
from .host import Container, Host, Runner
from .manifest import Manifest
from .outcome import Outcome
from .receipt import RECEIPT, Receipt, Store, read_receipt
from .source_tree_layin import TARGET, LayIn
from .source_tree_probe import LAUNCH_TREE, Seen, find, import_all

STAGE = "source"
INSTALLED_TREE = "MindSpeed"
PIP_TIMEOUT = 1800.0  # seconds
# CI_BUILD: without it MindSpeed's setup.py calls pip itself to fetch its requirements from the internet.
PIP_ENVIRONMENT = {
    "CI_BUILD": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}
_ERROR = re.compile(r"(^|\s|\w)error\b", re.IGNORECASE)
_EMPTY_ERRORS = ("-error", "-failed", "likely not a problem with pip.")


@dataclass(frozen=True)
class Steps:
    """What has to be done. `reason` says why the editable install is among it."""

    lay_in: Sequence[str]
    requirements: bool
    install: bool
    reason: str
    prove: bool

    @property
    def touch_sources(self) -> bool:
        """Something that a running job may have loaded, or may load yet, would change."""
        return bool(self.lay_in or self.requirements or self.install)

    def actions(self) -> List[str]:
        """Return the steps in words."""
        shown = ", ".join(self.lay_in[:5]) + (f" and {len(self.lay_in) - 5} more" if len(self.lay_in) > 5 else "")
        lines = [f"lay {TARGET} in ({shown})"] if self.lay_in else []
        lines += ["install the requirements from the wheels"] if self.requirements else []
        lines += [f"install {INSTALLED_TREE} in the container ({self.reason})"] if self.install else []
        return lines + (["import every package in the container"] if self.prove else [])


def install_sources(host: Host, params: Dict[str, Any], check_mode: bool) -> Outcome:
    """Make the source trees usable in the container and leave a receipt that says with which versions."""
    root, commits = params["root"], dict(params["commits"])
    receipt = read_receipt(host, os.path.join(root, RECEIPT))
    engine = Engine(host, params["docker_cli"])
    state = engine.container(params["container"])
    ready = _is_ready(host, root, state, params["container"], check_mode)
    runner = Container(host, params["container"], params["env_scripts"], params["docker_cli"])
    lay_in = LayIn(host, root)
    inputs = {"commits": commits, **_wheels(host, params["wheels"], check_mode)}
    steps = _plan(lay_in, receipt, inputs, state, find(runner, root, params["python"]) if ready else None)
    outcome = Outcome(changed=steps.prove, actions=steps.actions(), values={"versions": {}, "saved": []})
    if receipt and not steps.prove:
        again = params["verify"] == "content" and ready and not check_mode
        versions = import_all(runner, root, params["python"]).versions if again else receipt.made_with.get("versions")
        outcome.values["versions"] = dict(versions or {})
        return outcome
    outcome.before = {
        **(_shown(receipt.inputs, receipt.made_with.get("container")) if receipt else {}),
        "todo": steps.actions(),
    }
    outcome.after = {**_shown(inputs, state.id if state else None), "todo": []}
    if state is not None and steps.touch_sources:
        refuse_under_job(engine, state, f"its sources would change ({'; '.join(steps.actions())})")
    if not check_mode and state is not None:
        versions = _apply(runner, lay_in, steps, receipt, params, outcome)
        made_with = {"container": state.id, "image": state.image, "image_id": state.image_id, "versions": versions}
        Store(host, os.path.dirname(root), STAGE).write(
            Receipt(STAGE, inputs, lay_in.manifest(), made_with, _parents(host, root)), root
        )
        outcome.values["versions"] = versions
    return outcome


def _is_ready(host: Host, root: str, state: Optional[ContainerState], name: str, check_mode: bool) -> bool:
    """Say whether the container can be asked. In check mode what the stages before would bring may be absent."""
    absent = [
        tree for tree in (LAUNCH_TREE, INSTALLED_TREE, "Megatron-LM") if not host.is_dir(os.path.join(root, tree))
    ]
    running = state is not None and state.running
    if not check_mode and not running:
        raise FleetError(
            f"Container {name}, in which the sources are installed, does not run.", "Run the tag container."
        )
    if not check_mode and absent:
        raise FleetError(f"Source tree {os.path.join(root, absent[0])} is absent.", "Run the tag source as a whole.")
    return running and not absent


def _plan(
    lay_in: LayIn,
    receipt: Optional[Receipt],
    inputs: Mapping[str, Any],
    state: Optional[ContainerState],
    seen: Optional[Seen],
) -> Steps:
    old = receipt.inputs if receipt else {}
    same_container = bool(receipt and state and receipt.made_with.get("container") == state.id)
    differences = lay_in.differences()
    # What find() sees of megatron.core depends on the lay-in, which is repaired in its own step.
    problems = [line for line in (seen.problems() if seen else []) if not line.startswith("megatron")]
    reason = _install_reason(receipt, old, inputs, same_container, problems)
    requirements = "wheels" in inputs and (not same_container or old != inputs)
    prove = bool(differences or reason or requirements or old != inputs)
    return Steps(differences, requirements, bool(reason), reason, prove)


def _install_reason(
    receipt: Optional[Receipt],
    old: Mapping[str, Any],
    inputs: Mapping[str, Any],
    same_container: bool,
    problems: Sequence[str],
) -> str:
    commits: Mapping[str, str] = old.get("commits", {})
    if receipt is None:
        return "no receipt of an earlier one"
    if not same_container:
        return "the container is another one"
    if commits.get(INSTALLED_TREE) != inputs["commits"].get(INSTALLED_TREE):
        return "its commit is another one"
    return problems[0] if problems else ""


def _apply(
    runner: Runner,
    lay_in: LayIn,
    steps: Steps,
    receipt: Optional[Receipt],
    params: Mapping[str, Any],
    outcome: Outcome,
) -> Dict[str, str]:
    """Do the steps and return the versions that the container's Python reports."""
    root, python = params["root"], params["python"]
    if steps.lay_in:
        outcome.values["saved"] = lay_in.replace(receipt.outputs if receipt else Manifest({}))
        outcome.actions += [f"kept what was in {TARGET} as {path}" for path in outcome.values["saved"]]
    if steps.requirements:
        for tree in (LAUNCH_TREE, INSTALLED_TREE):
            listed = os.path.join(root, tree, "requirements.txt")
            if lay_in.host.is_file(listed):
                _pip(runner, python, ["--find-links", params["wheels"], "--requirement", listed])
    if steps.install:
        _pip(runner, python, ["--no-build-isolation", "--no-deps", "--editable", os.path.join(root, INSTALLED_TREE)])
    return dict(import_all(runner, root, python).versions)


def _pip(runner: Runner, python: str, arguments: Sequence[str]) -> None:
    argv = [python, "-m", "pip", "install", "--no-index", *arguments]
    done = runner.run(argv, check=False, env=PIP_ENVIRONMENT, timeout=PIP_TIMEOUT)
    if done.rc == 0:
        return
    raise CommandError(
        argv,
        done.rc,
        done.stdout,
        _reasons(done.stderr) or done.stderr,
        remedy="There is no internet here: what pip misses has to be in the image or in mindspeed_source_wheels.",
    )


def _reasons(stderr: str) -> str:
    """Return pip's lines that say why: the error itself stands far above pip's last lines, which only say that there was one."""
    lines = [line.strip() for line in stderr.splitlines()]
    return "\n".join(line for line in lines if _ERROR.search(line) and not line.endswith(_EMPTY_ERRORS))


def _wheels(host: Host, directory: str, check_mode: bool) -> Dict[str, Any]:
    """Return the part of the inputs that names the wheels; none where the image's own packages are used."""
    if not directory:
        return {}
    if check_mode and not host.is_dir(directory):
        return {"wheels": ["to come"]}
    names = [name for name in host.list_dir(directory) if name.endswith((".whl", ".tar.gz", ".zip"))]
    if not names:
        raise InputError(
            f"Directory {directory} holds no wheels.",
            "Bring them there for the image's Python and architecture, or leave mindspeed_source_wheels empty.",
        )
    return {"wheels": names}


def _parents(host: Host, root: str) -> Dict[str, str]:
    """Return what the sources are used in: the container, by the fingerprint of its specification and image."""
    receipt = read_receipt(host, os.path.join(os.path.dirname(root), "container", RECEIPT))
    return {"container": receipt.fingerprint} if receipt else {}


def _shown(inputs: Mapping[str, Any], container: Optional[str]) -> Dict[str, Any]:
    return {**inputs, "container": container}
