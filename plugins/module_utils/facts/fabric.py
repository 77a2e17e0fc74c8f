# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who looks after the host's network, and what is left there that NCCL would read."""

from __future__ import annotations

import re
import sys
from typing import Any

from .host import HostIo
from .values import labelled

NETPLAN = ("/lib/netplan", "/etc/netplan", "/run/netplan")
NCCL_CONF = "/etc/nccl.conf"
# In this order: netplan writes for the two others, NetworkManager runs beside an idle networkd.
SERVICES = (
    ("networkmanager", "NetworkManager.service"),
    ("networkd", "systemd-networkd.service"),
    ("ifupdown", "networking.service"),
)


def network_manager(io: HostIo) -> str:
    """netplan, netplan-networkmanager, networkmanager, networkd or ifupdown; "" where none of them is at work."""
    if io.program("netplan"):
        files = [
            f"{folder}/{name}" for folder in NETPLAN for name in io.names(folder) if name.endswith(".yaml")
        ]
        if files:
            over = any(re.search(r"renderer:\s*NetworkManager", io.read(path)) for path in files)
            return "netplan-networkmanager" if over else "netplan"
    asked = io.run(["systemctl", "is-active", *(unit for _name, unit in SERVICES)])
    states = asked.out.split()
    for (name, _unit), state in zip(SERVICES, states):
        if state == "active":
            return name
    return ""


def default_interfaces(text: str) -> list[str]:
    """Interfaces of the default routes in /proc/net/route."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return sorted({row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"})


def parse_nccl_conf(text: str) -> dict[str, str]:
    return {key: value for key, value in labelled(text, "=") if re.fullmatch(r"NCCL_\w+", key)}


def fabric(io: HostIo) -> dict[str, Any]:
    return {
        "python": sys.executable,
        "manager": network_manager(io),
        "default_interfaces": default_interfaces(io.read("/proc/net/route")),
        "nccl_conf": parse_nccl_conf(io.read(NCCL_CONF)),
    }
