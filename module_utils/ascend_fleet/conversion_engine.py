# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine converts and preprocesses a model: our own workers, or the scripts of the pinned MindSpeed-LLM."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from .errors import FleetError, InputError, RefusedError
from .host import Host
from .receipt import RECEIPT, Receipt, read_receipt

ENGINES = ("auto", "native", "upstream")
TREE = "MindSpeed-LLM"
# Architecture -> model type. The workers know the same two and refuse the same variants; a test holds both to that.
NATIVE = {"Qwen2ForCausalLM": "qwen2", "LlamaForCausalLM": "llama"}
VARIANTS = ("attention_bias", "mlp_bias", "quantization_config")


@dataclass(frozen=True)
class Engine:
    """`name` is native or upstream. For upstream: the source tree's receipt and the commit of its scripts."""

    name: str
    why: str
    source: Optional[Receipt] = None
    commit: str = ""

    @property
    def inputs(self) -> Dict[str, Any]:
        """What of the choice decides about the result."""
        return {"engine": self.name, "scripts": self.commit} if self.commit else {"engine": self.name}

    @property
    def parents(self) -> Dict[str, str]:
        """The source tree, where it took part."""
        return {"source": self.source.fingerprint} if self.source else {}


def read_model_config(host: Host, directory: str) -> Dict[str, Any]:
    """Return the model's config.json."""
    path = os.path.join(directory, "config.json")
    text = host.read_text(path)
    try:
        config = json.loads(text or "")
    except ValueError as error:
        reason = "is absent" if text is None else f"is not JSON ({error})"
        raise FleetError(f"{path} {reason}.", "Bring the complete model: --tags weights.") from error
    if not isinstance(config, dict):
        raise FleetError(f"{path} is not a JSON object.", "Bring the complete model: --tags weights.")
    return config


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else "(none)"


def native_objection(config: Mapping[str, Any]) -> str:
    """Return why this model is not done natively, or nothing."""
    architecture = _architecture(config)
    if architecture not in NATIVE:
        return f"architecture {architecture} is not among {', '.join(NATIVE)}"
    for key in VARIANTS:
        if config.get(key):
            return f"{architecture} with {key}"
    activation = config.get("hidden_act", "silu")
    return "" if activation == "silu" else f"{architecture} with hidden_act {activation}"


def family(config: Mapping[str, Any]) -> str:
    """Return the model type that an architecture stands for; empty where it is not native."""
    return NATIVE.get(_architecture(config), "")


def choose_engine(host: Host, params: Mapping[str, Any], config: Mapping[str, Any], objection: str = "") -> Engine:
    """Return the engine. `auto` is native wherever its result is proven to be upstream's, else upstream: for a model that the native
    engine knows, of a family that was compared with this release (`native_families`).

    `objection` says why upstream cannot do what is asked, whatever the model.
    """
    wanted, work_root = params["engine"], params["work_root"]
    against = native_objection(config)
    if wanted not in ENGINES:
        raise InputError(f"Engine {wanted!r} is unknown.", f"Use one of {', '.join(ENGINES)}.")
    if wanted == "auto" and not against and family(config) not in params["native_families"]:
        against = f"the native engine was not compared with this release for {family(config)}"
    if wanted == "native" or (wanted == "auto" and not against):
        if against:
            raise RefusedError(f"The native engine does not do this model: {against}.", "Set the engine to upstream.")
        return Engine("native", "asked for" if wanted == "native" else "proven equal to upstream for this model")
    if objection:
        raise RefusedError(f"The upstream engine cannot do this: {objection}.", "Leave that out, or use engine native.")
    receipt = read_receipt(host, os.path.join(work_root, "source", RECEIPT))
    commit = str((receipt.inputs.get("commits") or {}).get(TREE, "")) if receipt else ""
    if receipt is None or not commit:
        raise FleetError(
            f"The upstream engine needs the source tree {work_root}/source/{TREE}, and there is no receipt of it.",
            "Run the stage before: --tags source.",
        )
    return Engine("upstream", "asked for" if wanted == "upstream" else against, receipt, commit)
