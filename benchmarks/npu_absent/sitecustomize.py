# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets upstream's converter and preprocessor be imported where no NPU and no CANN is: put this directory on PYTHONPATH.

Both only move data, on the CPU, but importing them imports everything that training needs. The modules named in ``ABSENT`` are made of
nothing: any name can be taken from them and does nothing. What computes with them computes nonsense, so this is for these two scripts
alone; the lab's torch_npu_cpu is the stand-in that trains.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from pathlib import Path
from typing import Any

ABSENT = ("torch_npu", "apex", "torchair", "acl", "amct_pytorch")


class Nothing:
    """Can be called, read and iterated; gives itself, nothing and no items."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __iter__(self) -> Any:
        return iter(())


class EmptyModule(types.ModuleType):
    """Names with a capital are classes, since some are inherited from; all others are ``Nothing``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value: Any = type(name, (Nothing,), {"__module__": self.__name__}) if name[0].isupper() else Nothing()
        setattr(self, name, value)
        return value


class AbsentModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every module below the names in ``ABSENT``."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__path__ = []
        module.__version__ = "2.1.0"  # type: ignore[attr-defined]
        module.__file__ = str(Path(__file__).parent / "absent" / "__init__.py")


def _prepare_torch() -> None:
    """Answer what is asked of a device while importing and saving."""
    import torch
    import torch._dynamo  # imports parts of torch that must see its own functions
    import torch.jit._shape_functions

    npu = EmptyModule("torch.npu")
    npu.device_count = lambda: 1  # type: ignore[attr-defined]
    npu.is_available = lambda: True  # type: ignore[attr-defined]
    npu.current_device = lambda: torch.device("cpu")  # type: ignore[attr-defined]
    sys.modules["torch.npu"] = npu
    torch.npu = npu  # type: ignore[attr-defined]
    # It cannot compile what calls an absent module.
    torch.jit.script = lambda function=None, *_, **__: function  # type: ignore[assignment]
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment, return-value]
    torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()  # type: ignore[assignment]
    for name in ("set_device", "synchronize", "empty_cache", "manual_seed"):
        setattr(torch.cuda, name, lambda *_, **__: None)
    load = torch.load
    torch.load = lambda *args, **options: load(*args, **{"weights_only": False, **options})


sys.meta_path.insert(0, AbsentModules())
# Only the two scripts, and the processes they fork, want all this; pip and the like start with this path, too.
if Path(sys.argv[0] if sys.argv else "").name in ("convert_ckpt.py", "preprocess_data.py") or "MindSpeed-LLM" in str(
    Path.cwd()
):
    _prepare_torch()
