# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory says about the network between the hosts: the variables `fabric_...`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ...core.addresses import why_unusable
from ...core.refusals import Refusal

Check = Callable[[Any], bool]


@dataclass(frozen=True)
class FabricSpec:
    addresses: tuple[tuple[str, str], ...] = ()
    """(netdev, "192.168.101.11/24"); without a netdev they go to the active RDMA ports in their order."""
    devices: tuple[str, ...] = ()
    """RDMA devices to use, by exact name; all that are connected when empty."""
    twins: tuple[tuple[str, ...], ...] = ()
    """Devices that share a cable, where the host does not say it."""
    mtu: int | None = None
    rate_gbps: float | None = None
    """Of one port."""
    lossless: bool = False
    """The switch has PFC and ECN on: the hosts must have the same."""
    sockets: bool = False
    """May start on TCP where RDMA is not as planned."""
    ring: bool = False
    """Cables from host to host, without a switch."""
    gate_gbps: float | None = None
    gate_latency_us: float | None = None
    gate_seconds: float | None = None
    """Of each measurement, instead of what the number of hosts makes of the budget."""
    guard_seconds: int | None = None
    """After which a change goes back that nobody confirmed."""


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _whole(least: int, most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _names(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)


def _pairs(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(_names(item) and len(item) > 1 for item in value)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _address(value: Any) -> bool:
    try:
        found = ipaddress.ip_interface(str(value))
    except ValueError:
        return False
    return (
        "/" in str(value)
        and found.version == 4
        and found.ip != found.network.network_address
        and not why_unusable(str(found.ip))
    )


def _addresses(value: Any) -> bool:
    given = list(value.values()) if isinstance(value, Mapping) else value
    return isinstance(given, (list, tuple)) and all(map(_address, given))


VARIABLES: dict[str, tuple[Check, str]] = {
    "fabric_addresses": (
        _addresses,
        "write [192.168.101.11/24, 192.168.102.11/24], or {netdev: address} where the order is not enough",
    ),
    "fabric_devices": (_names, "write the names that `rdma link` prints: [rocep1s0f1, roceP2p1s0f1]"),
    "fabric_twins": (_pairs, "write the devices that share a cable: [[rocep1s0f1, roceP2p1s0f1]]"),
    "fabric_mtu": (_whole(1280, 9216), "write a number from 1280 to 9216, such as 9000"),
    "fabric_rate_gbps": (_number, "write the rate of one port in Gb/s, such as 200"),
    "fabric_lossless": (_truth, "write true or false"),
    "fabric_sockets": (_truth, "write true or false"),
    "fabric_ring": (_truth, "write true or false"),
    "fabric_gate_gbps": (_number, "write Gb/s of all ports of a host together, such as 185"),
    "fabric_gate_latency_us": (_number, "write microseconds, such as 5"),
    "fabric_gate_seconds": (_number, "write seconds, such as 5"),
    "fabric_guard_seconds": (_whole(30, 3600), "write seconds from 30 to 3600, such as 300"),
}


def parse_fabric_spec(given: Mapping[str, Any], host: str) -> tuple[FabricSpec, list[Refusal]]:
    """`given` holds the host's variables by their full names; None is not said."""
    refusals, good = [], {}
    for name, (check, fix) in VARIABLES.items():
        value = given.get(name)
        if value is None:
            continue
        if not check(value):
            refusals.append(
                Refusal("fabric-type", host, f"{name} = {value}", f"invalid value of {name}", fix)
            )
            continue
        good[name.partition("_")[2]] = value
    addresses = good.pop("addresses", ())
    pairs = addresses.items() if isinstance(addresses, Mapping) else (("", item) for item in addresses)
    return (
        FabricSpec(
            addresses=tuple((str(netdev), str(address)) for netdev, address in pairs),
            devices=tuple(good.pop("devices", ())),
            twins=tuple(tuple(item) for item in good.pop("twins", ())),
            **good,
        ),
        refusals,
    )
