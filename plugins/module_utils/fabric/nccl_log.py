# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which transport NCCL took, by its own log (NCCL_DEBUG=INFO)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

USING = re.compile(r"NCCL INFO Using network (\S+)")
DEVICES = re.compile(r"NCCL INFO NET/(IB|Socket) : Using (.*)\Z")
NAMED = re.compile(r"\[\d+\](\S+?):")
CHANNEL = re.compile(r"NCCL INFO Channel \S+ : .* via NET/(\w+)")


@dataclass(frozen=True)
class Transport:
    networks: tuple[str, ...] = ()
    """What it says it uses, and what its channels go over: IB, Socket ..."""
    devices: tuple[str, ...] = ()
    """RDMA devices that it opened."""

    def words(self) -> str:
        if not self.networks:
            return "nothing"
        return ", ".join(f"NET/{name}" for name in self.networks) + (
            f" on {', '.join(self.devices)}" if self.devices else ""
        )


def read(lines: Iterable[str]) -> Transport:
    networks: dict[str, None] = {}
    devices: dict[str, None] = {}
    for line in lines:
        for pattern in (USING, CHANNEL):
            if match := pattern.search(line):
                networks.setdefault(match.group(1))
        if (match := DEVICES.search(line)) and match.group(1) == "IB":
            devices.update(dict.fromkeys(NAMED.findall(match.group(2))))
    return Transport(tuple(networks), tuple(devices))


def problems(found: Transport, planned: Iterable[str], sockets: bool) -> list[str]:
    """Where the log does not prove the planned RDMA devices; `sockets` was allowed by the inventory."""
    wanted = list(planned)
    if not wanted or (sockets and "Socket" in found.networks):
        return []
    if not found.networks:
        return ["NCCL says nothing of its transport: was NCCL_DEBUG taken out of its environment?"]
    if "Socket" in found.networks:
        return [f"NCCL went over NET/Socket, and RDMA on {', '.join(wanted)} was planned: many times slower"]
    # Merged devices are named together: rocep1s0f1+roceP2p1s0f1.
    opened = {name for device in found.devices for name in device.split("+")}
    missing = [name for name in wanted if name not in opened]
    if missing and opened:
        return [
            f"NCCL opened {', '.join(sorted(opened))}, not {', '.join(missing)}: half of the rate is lost"
        ]
    return []
