# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses by which the members of an instance reach each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

from ..core.addresses import why_unusable
from ..core.refusals import Refusal
from ..facts.schema import HostFacts
from .fabric.spec import FabricSpec
from .serve_spec import Instance

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
INFINIBAND = "InfiniBand"
UNUSABLE = ("lo", "docker", "br-", "veth", "virbr", "cni")


LOOPBACK = ("127.0.0.1", "lo")


@dataclass(frozen=True)
class Link:
    """One host's end of the network that the ranks use."""

    address: str
    netdev: str
    devices: tuple[str, ...]
    """RDMA devices, by exact name; empty where the ranks communicate over sockets."""
    why: str


@dataclass(frozen=True)
class _End:
    netdev: str
    address: str
    network: Network
    rdma: bool


def _ends(host: HostFacts) -> list[_End]:
    fast = {device.netdev for device in host.rdma if device.state.lower() in ("", "active")}
    ends = []
    for interface in host.interfaces:
        name = str(interface.get("name", ""))
        if name.startswith(UNUSABLE) or str(interface.get("state", "up")).lower() == "down":
            continue
        for written in interface.get("addresses", ()):
            try:
                parsed = ipaddress.ip_interface(str(written))
            except ValueError:
                continue
            if parsed.version == 4 and not why_unusable(str(parsed.ip)):
                ends.append(_End(name, str(parsed.ip), parsed.network, name in fast))
    return ends


def links(
    instance: Instance,
    hosts: tuple[HostFacts, ...],
    addresses: Mapping[str, str],
    specs: Mapping[str, FabricSpec],
) -> tuple[dict[str, Link], list[Refusal]]:
    """The network that all members share, the one with RDMA first."""
    if len(hosts) == 1:
        return {hosts[0].host: Link(*LOOPBACK, (), "one host needs no network")}, []
    found = {host.host: _ends(host) for host in hosts}
    shared: set[Network] = set.intersection(*({end.network for end in ends} for ends in found.values()))
    if shared:
        first = found[hosts[0].host]
        best = max(
            (end for end in first if end.network in shared),
            key=lambda end: (
                all(any(o.network == end.network and o.rdma for o in found[h.host]) for h in hosts),
                # The first interface named wins among equals.
                -first.index(end),
            ),
        )
        made = {
            host.host: _link(host, found[host.host], best.network, specs.get(host.host, FabricSpec()).devices)
            for host in hosts
        }
        twice = _twice(instance, {host: link.address for host, link in made.items()})
        return ({} if twice else made), twice
    if all(host.host in addresses for host in hosts) and not all(found.values()):
        names = {host.host: addresses[host.host] for host in hosts if not is_address(addresses[host.host])}
        if names:
            return {}, [_name_refusal(instance, host, name) for host, name in names.items()]
        given = {host.host: addresses[host.host] for host in hosts}
        problems = [*_unusable(instance, given), *_twice(instance, given)]
        if problems:
            return {}, problems
        return {host.host: Link(addresses[host.host], "", (), "from the inventory") for host in hosts}, []
    shown = "; ".join(
        f"{name}: {', '.join(str(end.network) for end in ends) or 'no address known'}"
        for name, ends in found.items()
    )
    return {}, [
        Refusal(
            "no-common-network",
            "",
            instance.where("hosts", list(instance.hosts)),
            f"the members share no network ({shown})",
            "give each host an address in one subnet (the fabric playbook does it on a Spark), or declare "
            "its interfaces",
        )
    ]


def is_address(text: str) -> bool:
    """Without a scope: behind the % of an IPv6 address any text may stand."""
    if "%" in text:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _unusable(instance: Instance, addresses: Mapping[str, str]) -> list[Refusal]:
    return [
        Refusal(
            "address-unusable",
            host,
            f"ansible_host = {address}",
            f"the members of serve.{instance.name} cannot reach {host} there: {address} {why}",
            f"give the address of {host} in the network of the members as ansible_host, or declare its interfaces",
        )
        for host, address in addresses.items()
        if (why := why_unusable(address))
    ]


def _twice(instance: Instance, addresses: Mapping[str, str]) -> list[Refusal]:
    """Hosts that were copied from one image, say: each would take the other's messages for its own."""
    holders: dict[str, list[str]] = {}
    for host, address in addresses.items():
        holders.setdefault(str(ipaddress.ip_address(address)), []).append(host)
    return [
        Refusal(
            "address-twice",
            hosts[1],
            instance.where("hosts", list(instance.hosts)),
            f"{' and '.join(hosts)} have the same address {address}",
            "give each host an address of its own, then read the facts again",
        )
        for address, hosts in holders.items()
        if len(hosts) > 1
    ]


def _name_refusal(instance: Instance, host: str, name: str) -> Refusal:
    return Refusal(
        "address-is-name",
        host,
        f"ansible_host = {name}",
        f"the members of serve.{instance.name} reach each other by address: a name may not resolve in a closed room",
        f"give the address of {host} as ansible_host, or declare its interfaces",
    )


def slowest(hosts: tuple[HostFacts, ...]) -> float | None:
    """Gbit/s of RDMA that every member has; 0 where one has none, None where a rate is not known."""
    rates: list[float] = []
    for host in hosts:
        active = [device for device in host.rdma if device.state.lower() in ("", "active")]
        if not active:
            return 0.0
        known = [device.rate_gbps for device in active if device.rate_gbps is not None]
        rates += [max(known)] if known else []
    return min(rates) if rates else None


def _link(host: HostFacts, ends: list[_End], network: Network, wanted: tuple[str, ...]) -> Link:
    mine = next(end for end in ends if end.network == network)
    addressed = {end.netdev for end in ends} if mine.rdma else set()
    devices = sorted(
        device.name
        for device in host.rdma
        if device.state.lower() in ("", "active")
        # InfiniBand finds its ways without an address; RoCE does not.
        and (device.netdev in addressed or device.link_layer == INFINIBAND)
        and (not wanted or device.name in wanted)
    )
    return Link(mine.address, mine.netdev, tuple(devices), f"{network} is shared by all members")
