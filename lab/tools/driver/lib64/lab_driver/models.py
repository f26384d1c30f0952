# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of NPU that a lab server can have: what tells them apart in the tools' answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

DEFAULT = "910B3"


@dataclass(frozen=True)
class Model:
    """A kind of NPU. Memory in MB; `idle_hbm` is what an idle chip shows as used, by its place on the card.

    `name` stands in the table, `chip` behind `Ascend` in the other lists. A card with two dies is one NPU with chips 0 and 1.
    """

    name: str
    chip: str
    hbm: int
    idle_hbm: Tuple[int, ...]
    pci_device: str
    watts: float = 93.0
    ddr: int = 0
    idle_ddr: int = 0
    variant: str = ""  # `NPU Name` of the board, where chip and variant together name the chip

    @property
    def dies(self) -> int:
        """Chips on a card."""
        return len(self.idle_hbm)

    @property
    def full_name(self) -> str:
        """The name in the list of chips."""
        return self.name if self.name.startswith("Ascend") else f"Ascend {self.name}"


def _first(name: str) -> Model:
    """The first generation has DDR beside its HBM, and shows its idle use there."""
    return Model(name, name, 32768, (0,), "0xD801", watts=66.0, ddr=15038, idle_ddr=2382)


def _second(name: str, hbm: int = 65536) -> Model:
    return Model(name, name, hbm, (3314,), "0xD802")


def _third(variant: str) -> Model:
    """Two dies a card; both count as chips of their own, only the first shows the card's power."""
    return Model("Ascend910", "Ascend910", 65536, (3133, 2876), "0xD803", watts=165.0, variant=variant)


MODELS: Dict[str, Model] = {
    **{name: _first(name) for name in ("910A", "910ProA", "910ProB", "910PremiumA", "910B")},
    **{name: _second(name) for name in ("910B1", "910B2", "910B2C", "910B3", "910B4-1")},
    "910B4": _second("910B4", 32768),
    "910_9391": _third("9391"),
    "910_9392": _third("9392"),
}


def model(name: str) -> Model:
    """Return the model of a name; an unknown one is an error to see."""
    if name not in MODELS:
        raise ValueError(f"the state file asks for chip {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]
