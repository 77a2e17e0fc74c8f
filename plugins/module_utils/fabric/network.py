# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must change on a host's network, and what it was before: pure, but for what it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Port = Mapping[str, Any]
Live = Mapping[str, Mapping[str, Any]]
"""Netdev -> {mtu, state, up, addresses} as `ip -j addr` tells it."""
# Every place where a file of ours may lie, whichever manager it was for.
OURS = (
    "/etc/netplan/60-sglang-fabric.yaml",
    "/etc/network/interfaces.d/sglang-fabric",
    "/etc/systemd/network/05-sglang-fabric-*.network",
    "/etc/NetworkManager/system-connections/sglang-fabric-*.nmconnection",
)


def ipv4(entry: Mapping[str, Any]) -> list[str]:
    return [str(item) for item in entry.get("addresses", ()) if ":" not in str(item)]


def differences(ports: Iterable[Port], live: Live) -> list[str]:
    """Where the host is not as wanted, one line each."""
    found = []
    for port in ports:
        entry = live.get(port["netdev"], {})
        if port["address"] not in ipv4(entry):
            shown = ", ".join(ipv4(entry)) or "no address"
            found.append(f"{port['netdev']} has {shown}, not {port['address']}")
        if port["mtu"] and entry.get("mtu") != port["mtu"]:
            found.append(f"{port['netdev']} has MTU {entry.get('mtu')}, not {port['mtu']}")
        if entry.get("state") == "down" and port["address"] not in ipv4(entry):
            found.append(f"{port['netdev']} has no carrier: no cable, or a switch port that is off")
    return found


def refusals(ports: Iterable[Port], live: Live, default: Iterable[str], ours: str) -> list[str]:
    """What would cut us off or cannot be, at the last moment; `ours` is the address that we came in by."""
    found = []
    for port in ports:
        netdev = port["netdev"]
        entry = live.get(netdev)
        if entry is None:
            known = ", ".join(sorted(name for name in live if name != "lo"))
            found.append(f"the host has no interface {netdev} (it has {known}): was it renamed?")
        elif netdev in default:
            found.append(f"{netdev} carries the default route: changing it would cut this host off")
        elif ours and ours in [item.partition("/")[0] for item in ipv4(entry)]:
            found.append(f"{netdev} has {ours}, the address that we came in by: changing it would cut us off")
    return found


def restorable(ports: Iterable[Port], live: Live) -> dict[str, dict[str, Any]]:
    """What guard.py needs to bring each port back."""
    return {
        port["netdev"]: {
            "mtu": live[port["netdev"]].get("mtu"),
            "up": live[port["netdev"]].get("up", True),
            "addresses": ipv4(live[port["netdev"]]),
        }
        for port in ports
        if port["netdev"] in live
    }


def words(ports: Iterable[Port], live: Live) -> str:
    """The live state as text, for a difference that people read."""
    lines = []
    for port in ports:
        entry = live.get(port["netdev"], {})
        shown = ", ".join(sorted(ipv4(entry))) or "no address"
        lines.append(f"{port['netdev']}: {shown}, MTU {entry.get('mtu')}")
    return "".join(f"{line}\n" for line in lines)


def wanted_words(ports: Iterable[Port], live: Live) -> str:
    lines = []
    for port in ports:
        mtu = port["mtu"] or live.get(port["netdev"], {}).get("mtu")
        lines.append(f"{port['netdev']}: {port['address']}, MTU {mtu}")
    return "".join(f"{line}\n" for line in lines)
