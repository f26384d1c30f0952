# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test needs: the project's module_utils and library where Ansible would find them, and a strict fake of the host."""

from __future__ import annotations

import importlib.util
import json
import random
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible.module_utils
import pytest

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
sys.path[:0] = [str(ROOT), str(ROOT / "library")]

from ansible.module_utils.ascend_fleet.errors import CommandError  # noqa: E402 - the path has to be set first
from ansible.module_utils.ascend_fleet.host import Completed, Host  # noqa: E402
from ansible.module_utils.testing import patch_module_args  # noqa: E402
from ansible.plugins.loader import action_loader, callback_loader, filter_loader  # noqa: E402

for loader, kind in ((action_loader, "action"), (callback_loader, "callback"), (filter_loader, "filter")):
    loader.add_directory(str(ROOT / "plugins" / kind))


def load_plugin(path: str) -> ModuleType:
    """Import a file below plugins/, which is no package: Ansible loads each by its path."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / "plugins" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def load_library(name: str) -> ModuleType:
    """Import library/<name>.py afresh and by its path: workers/ has programs of the same names."""
    spec = importlib.util.spec_from_file_location(f"library_{name}", ROOT / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Below those that the kernel hands out, which somebody else may get between here and there.
PORTS = range(20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody uses."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of the loopback address that refuses connections: it is held, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@dataclass
class Expected:
    """One command the code under test must run, and what it answers."""

    argv: list[str]
    stdout: str = ""
    rc: int = 0
    stderr: str = ""
    effect: Callable[[], None] | None = None
    used: bool = False


@dataclass
class ScriptedHost(Host):
    """A host whose files are real (give it a temporary directory) and whose commands are a script.

    An unlisted command fails the test, and so does one that was listed and not run. With `ordered` the order counts.
    """

    script: list[Expected] = field(default_factory=list)
    ordered: bool = True
    calls: list[list[str]] = field(default_factory=list)
    stdins: list[str | None] = field(default_factory=list)

    def expect(
        self,
        argv: Sequence[str],
        stdout: str = "",
        rc: int = 0,
        stderr: str = "",
        effect: Callable[[], None] | None = None,
    ) -> None:
        self.script.append(Expected(list(argv), stdout, rc, stderr, effect))

    def run(self, argv, check=True, timeout=None, env=None, cwd=None, stdin=None, remedy=""):  # type: ignore[no-untyped-def, override]
        self.calls.append(list(argv))
        self.stdins.append(stdin)
        waiting = [item for item in self.script if not item.used]
        candidates = waiting[:1] if self.ordered else waiting
        for item in candidates:
            if item.argv == list(argv):
                item.used = True
                if item.effect:
                    item.effect()
                if check and item.rc != 0:
                    raise CommandError(argv, item.rc, item.stdout, item.stderr, remedy=remedy)
                return Completed(list(argv), item.rc, item.stdout, item.stderr)
        expected = waiting[0].argv if waiting else "no further command"
        pytest.fail(f"unlisted command {list(argv)}; expected {expected}")

    def assert_done(self) -> None:
        unused = [item.argv for item in self.script if not item.used]
        assert not unused, f"listed but never run: {unused}"


@pytest.fixture
def scripted_host() -> Iterator[ScriptedHost]:
    host = ScriptedHost()
    yield host
    host.assert_done()


@dataclass
class ModuleResult:
    """How a module ended: its JSON and whether it failed."""

    data: dict[str, Any]
    failed: bool

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    @property
    def changed(self) -> bool:
        return bool(self.data.get("changed"))


RunModule = Callable[..., ModuleResult]


@pytest.fixture
def run_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Run library/<name>.py as Ansible would: `run_library("npu_info", {...}, host=host, check_mode=False)`.

    `host` replaces the server; without it the module acts on this machine.
    """

    def run(name: str, params: dict[str, Any], host: Host | None = None, check_mode: bool = False) -> ModuleResult:
        if host is not None:
            monkeypatch.setattr("ansible.module_utils.ascend_fleet.entry.Host", lambda: host)
        module = load_library(name)
        capsys.readouterr()
        with patch_module_args({**params, "_ansible_check_mode": check_mode, "_ansible_diff": True}), pytest.raises(
            SystemExit
        ):
            module.main()
        lines = capsys.readouterr().out.strip().splitlines()
        data = json.loads(lines[-1])
        return ModuleResult(data, bool(data.get("failed")))

    return run
