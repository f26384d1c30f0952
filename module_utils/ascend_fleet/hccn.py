# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what `hccn_tool` says about the network port of an NPU, and /etc/hccn.conf: text to frozen dataclasses, without effects."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

from .npu_smi_lists import parse_key_values

# What hccn_tool is asked about each NPU, in this order; `-<topic> -g`.
TOPICS = ("link", "ip", "gateway", "net_health", "netdetect", "tls")
# Asked where wanted: not every version knows them, and `optical` is slow.
EXTRA_TOPICS = ("optical", "mtu")

# Blanks stand before a pasted answer; an address is taken whole or not at all (a published one has x for its digits).
_IP = r"([0-9A-Fa-fx.:]+)(?=[\s,]|$)"
_LINK = re.compile(r"^[ \t]*link status:[ \t]*(\S+)", re.MULTILINE)
_ADDRESS = re.compile(rf"^[ \t]*ipaddr:[ \t]*{_IP}", re.MULTILINE)
_NETMASK = re.compile(rf"^[ \t]*netmask:[ \t]*{_IP}", re.MULTILINE)
_GATEWAY = re.compile(rf"^[ \t]*default gateway:[ \t]*{_IP}(?:,[ \t]*Iface:[ \t]*(\S+))?", re.MULTILINE)
_NET_HEALTH = re.compile(r"^[ \t]*net health status:[ \t]*(\S.*?)\s*$", re.MULTILINE)
_NETDETECT = re.compile(rf"^[ \t]*netdetect address:[ \t]*{_IP}", re.MULTILINE)
_TLS = re.compile(r"tls switch\[([01])\]")
# Versions word it differently (`mtu:4200`, `mtu 4200`); what counts is the number behind the word.
_MTU = re.compile(r"\bmtu\D{0,8}([0-9]{2,5})\b", re.IGNORECASE)
_TLS_PRESET = re.compile(r"tls preconfigured\[([01])\]")
_SAVED = re.compile(r"^\s*([a-z_]+?)_([0-9]{1,4})\s*=\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Port:
    """The network port of one NPU. What the tool did not say is None."""

    phy_id: int
    link: Optional[str] = None
    address: Optional[str] = None
    netmask: Optional[str] = None
    gateway: Optional[str] = None
    gateway_interface: Optional[str] = None
    net_health: Optional[str] = None
    netdetect: Optional[str] = None
    tls_enabled: Optional[bool] = None
    tls_preconfigured: Optional[bool] = None
    mtu: Optional[int] = None
    optical: Tuple[Tuple[str, str], ...] = ()
    silent: str = ""  # why the tool gave no answer
    refused: Dict[str, str] = field(default_factory=dict)  # topic -> what it said instead

    @property
    def refuses(self) -> bool:
        """Every answer about this NPU was an error message."""
        return set(TOPICS) <= set(self.refused)

    def as_dict(self, saved: Dict[str, str]) -> Dict[str, Any]:
        """Return plain data for the module's result, with what hccn.conf has for this NPU."""
        values = {name: value for name, value in vars(self).items() if name not in ("optical", "silent", "refused")}
        return {**values, "optical": dict(self.optical), "saved": dict(saved)}


def parse_port(phy_id: int, answers: Dict[str, str], silent: str = "") -> Port:
    """Read the answers to `TOPICS` (topic -> text) about one NPU."""
    gateway = _GATEWAY.search(answers.get("gateway", ""))
    answers = {**answers, "tls": _own_line(phy_id, answers["tls"])} if "tls" in answers else answers
    tls, preset = _group(_TLS, answers, "tls"), _group(_TLS_PRESET, answers, "tls")
    mtu = _group(_MTU, answers, "mtu")
    return Port(
        phy_id,
        link=_group(_LINK, answers, "link"),
        address=_group(_ADDRESS, answers, "ip"),
        netmask=_group(_NETMASK, answers, "ip"),
        gateway=gateway.group(1) if gateway else None,
        gateway_interface=gateway.group(2) if gateway else None,
        net_health=_group(_NET_HEALTH, answers, "net_health"),
        netdetect=_group(_NETDETECT, answers, "netdetect"),
        tls_enabled=None if tls is None else tls == "1",
        tls_preconfigured=None if preset is None else preset == "1",
        mtu=None if mtu is None else int(mtu),
        optical=parse_optical(answers.get("optical", "")),
        silent=silent,
        refused={topic: text.strip() for topic, text in answers.items() if text.strip() and not _answered(topic, text)},
    )


def _own_line(phy_id: int, text: str) -> str:
    """Return the line about this NPU, where the answer has some about others, too; else the text as it is."""
    own = [line for line in text.splitlines() if re.match(rf"\s*dev_id:{phy_id},", line)]
    return own[0] if own else text


def _answered(topic: str, text: str) -> bool:
    """Say whether the text is the answer to its question and not an error message."""
    patterns = {"link": _LINK, "ip": _ADDRESS, "gateway": _GATEWAY, "net_health": _NET_HEALTH, "netdetect": _NETDETECT}
    pattern = patterns.get(topic, _TLS)
    return topic in EXTRA_TOPICS or pattern.search(text) is not None


def _group(pattern: re.Pattern[str], answers: Dict[str, str], topic: str) -> Optional[str]:
    found = pattern.search(answers.get(topic, ""))
    return found.group(1) if found else None


def parse_optical(text: str) -> Tuple[Tuple[str, str], ...]:
    """Read the optical module's values as the tool words them, units included."""
    return tuple((key, parts[0]) for key, parts in parse_key_values(text).items() if parts)


def parse_hccn_conf(text: str) -> Dict[int, Dict[str, str]]:
    """Read /etc/hccn.conf: physical id -> {address, netmask, gateway, netdetect, ...}, in whatever order the lines are."""
    saved: Dict[int, Dict[str, str]] = {}
    for key, number, value in _SAVED.findall(text):
        saved.setdefault(int(number), {})[key] = value
    return saved
