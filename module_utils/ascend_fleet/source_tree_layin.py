# SPDX-License-Identifier: GPL-3.0-or-later
"""`megatron/` of Megatron-LM, laid into MindSpeed-LLM: compared by content, replaced whole, hand-made changes kept."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Dict, List

from .checkout_save import SAVED, is_build_product
from .errors import FleetError, VerificationError
from .host import Host
from .manifest import Manifest, scan

SOURCE = "Megatron-LM/megatron"
TARGET = "MindSpeed-LLM/megatron"
# fnmatch's star crosses slashes. The compiled dataset helpers and byte code come and go with every run.
PRODUCTS = ("*__pycache__/*", "*.py[co]", "*.so")


@dataclass
class LayIn:
    """The laid-in directory of one source root."""

    host: Host
    root: str

    def differences(self) -> List[str]:
        """Return how the laid-in directory differs from its source by content, build products aside."""
        wanted, there = self._contents(SOURCE), self._contents(TARGET)
        if not there:
            return ["absent"]
        lines = [f"missing: {path}" for path in sorted(set(wanted) - set(there))]
        lines += [f"foreign: {path}" for path in sorted(set(there) - set(wanted))]
        return lines + [f"changed: {path}" for path in sorted(wanted) if there.get(path, wanted[path]) != wanted[path]]

    def replace(self, known: Manifest) -> List[str]:
        """Lay the directory in anew. Return where the old one was moved to, if it held anything that `known` does not account for.

        `known` is the manifest of what the last receipt laid in.
        """
        source, target = os.path.join(self.root, SOURCE), os.path.join(self.root, TARGET)
        if not self.host.is_dir(source):
            raise FleetError(f"{source} is absent.", "Check that the commit of Megatron-LM is the release's.")
        partial, old = f"{target}.partial", f"{target}.replaced"
        for path in (partial, old):
            self.host.remove(path)
        self.host.run(["cp", "-a", "--", source, partial])
        saved = self._put_away(target, old, known)
        self.host.rename(partial, target)
        self.host.remove(old)
        if self.differences():
            raise VerificationError(
                f"{target} was laid in and still differs from {source}: {'; '.join(self.differences()[:3])}.",
                "Look whether something else works in the tree, and run again.",
            )
        return saved

    def manifest(self) -> Manifest:
        """Return the manifest of what is laid in, by paths relative to the source root."""
        files = scan(self.host, os.path.join(self.root, TARGET), ignore=PRODUCTS).files
        return Manifest({f"{TARGET}/{path}": entry for path, entry in files.items()})

    def _put_away(self, target: str, old: str, known: Manifest) -> List[str]:
        if self.host.stat(target) is None and self.host.read_link(target) is None:
            return []
        expected = known.contents()
        foreign = [
            path for path, digest in self._contents(TARGET).items() if expected.get(f"{TARGET}/{path}") != digest
        ]
        if not foreign:
            self.host.rename(target, old)
            return []
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = os.path.join(self.root, SAVED, f"{TARGET.replace('/', '-')}-{stamp}")
        self.host.make_dirs(os.path.dirname(aside))
        self.host.rename(target, aside)
        return [aside]

    def _contents(self, relative: str) -> Dict[str, str]:
        manifest = scan(self.host, os.path.join(self.root, relative), ignore=PRODUCTS)
        return {path: digest for path, digest in manifest.contents().items() if not is_build_product(path)}
