# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP echo from one NPU's address to another: the real network decides whether it comes back."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import List, Optional

TIMEOUT_SECONDS = 1.0
_ECHO_REQUEST = 8
_ECHO_REPLY = 0


def ping(source: str, address: str, count: int) -> List[Optional[float]]:
    """Send `count` echo requests; return each one's round trip in ms, None for one that did not come back.

    A source that this server does not have (its link is down) sends nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        try:
            wire.bind((source, 0))
        except OSError:
            return [None] * count
        return [_once(wire, address, number) for number in range(count)]


def _once(wire: socket.socket, address: str, number: int) -> Optional[float]:
    identity = int.from_bytes(os.urandom(2), "big")
    packet = request(identity, number)
    begun = time.monotonic()
    try:
        wire.sendto(packet, (address, 0))
        while True:
            left = TIMEOUT_SECONDS - (time.monotonic() - begun)
            if left <= 0:
                return None
            wire.settimeout(left)
            received, (sender, _) = wire.recvfrom(2048)
            if sender == address and is_reply(received, identity, number):
                return (time.monotonic() - begun) * 1000.0
    except OSError:
        return None


def request(identity: int, number: int) -> bytes:
    """An echo request with its checksum."""
    body = b"ascend-lab"
    blank = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, identity, number)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, checksum(blank + body), identity, number) + body


def is_reply(received: bytes, identity: int, number: int) -> bool:
    """Whether an IP packet answers that request."""
    start = (received[0] & 0x0F) * 4
    kind, _, _, got_identity, got_number = struct.unpack("!BBHHH", received[start : start + 8])
    return bool(kind == _ECHO_REPLY and got_identity == identity and got_number == number)


def checksum(data: bytes) -> int:
    """The internet checksum."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
