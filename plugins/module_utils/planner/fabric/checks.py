# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot work between the members of one instance over RDMA."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.refusals import Advice, Refusal
from ...facts.schema import HostFacts, RdmaDevice
from ..case import Inputs
from ..network import Link
from .ports import networks, nic, twins_of, used_devices
from .spec import FabricSpec


def problems(
    inputs: Inputs, members: tuple[HostFacts, ...], links: Mapping[str, Link]
) -> tuple[list[Refusal], list[Advice]]:
    """What cannot work between the members of one instance."""
    if len(members) < 2 or not all(links[host.host].devices for host in members):
        return [], []
    refusals = [item for host in members for item in _of_host(inputs, host, links[host.host])]
    refusals += [*_mtu_differs(inputs, members, links), *_hosts_differ(members, links)]
    return refusals, [item for host in members for item in _words(inputs, host, links[host.host])]


def _of_host(inputs: Inputs, host: HostFacts, link: Link) -> list[Refusal]:
    found = []
    addressed = networks(host)
    devices = {device.name: device for device in host.rdma}
    for group in twins_of(inputs, host):
        mine = [devices[name] for name in group if name in devices]
        if not any(device.name in link.devices for device in mine):
            continue
        shown = " and ".join(f"{device.name} ({device.netdev})" for device in mine)
        without = [device for device in mine if device.netdev not in addressed]
        subnets = [addressed[device.netdev].network for device in mine if device.netdev in addressed]
        if without:
            found.append(
                Refusal(
                    "fabric-twin-without-address",
                    host.host,
                    f"{without[0].netdev} = no address",
                    f"{shown} are twins behind one cable, and one of them has no IPv4 address: half of the rate",
                    "give each an address in a subnet of its own with fabric_addresses",
                )
            )
        elif len(set(subnets)) < len(subnets):
            found.append(
                Refusal(
                    "fabric-twins-one-subnet",
                    host.host,
                    f"{mine[0].netdev}, {mine[-1].netdev} = {subnets[0]}",
                    f"{shown} are twins in one subnet: the kernel answers for both on one of them",
                    "give each twin an address in a subnet of its own with fabric_addresses",
                )
            )
    return found + _too_slow(inputs, host, link)


def _too_slow(inputs: Inputs, host: HostFacts, link: Link) -> list[Refusal]:
    spec = inputs.fabric.get(host.host, FabricSpec())
    declared = {device.name: device.rate_gbps for device in _declared(inputs, host)}
    found = _unknown_rate(inputs, host, link, spec)
    for device in used_devices(host, link):
        width = nic(inputs, host, device).fabric.get("pcie_width")
        rate, wanted = device.rate_gbps, spec.rate_gbps or declared.get(device.name)
        if rate is not None and wanted and rate < wanted:
            found.append(
                Refusal(
                    "fabric-slow-port",
                    host.host,
                    f"{device.name} ({device.netdev}) = {rate:g} Gb/s",
                    f"{wanted:g} Gb/s was declared: the switch port or the cable gives less",
                    f"set the switch port to {wanted:g}G without autonegotiation, or try another cable; "
                    "fabric_rate_gbps says what is right",
                )
            )
        most = width or device.pcie_width_max
        if device.pcie_width and most and device.pcie_width < most:
            found.append(
                Refusal(
                    "fabric-pcie-narrow",
                    host.host,
                    f"{device.name} = PCIe x{device.pcie_width}",
                    f"the card has x{most} here: it cannot move its rate",
                    "update the firmware (fwupdmgr get-updates), then seat the card anew",
                )
            )
    return found


def _unknown_rate(inputs: Inputs, host: HostFacts, link: Link, spec: FabricSpec) -> list[Refusal]:
    for device in used_devices(host, link) if spec.rate_gbps else ():
        family = nic(inputs, host, device)
        if family.speeds_gbps and spec.rate_gbps not in family.speeds_gbps:
            shown = ", ".join(f"{speed:g}" for speed in family.speeds_gbps)
            return [
                Refusal(
                    "fabric-rate-unknown",
                    host.host,
                    f"fabric_rate_gbps = {spec.rate_gbps:g}",
                    f"{device.name} is {family.name}, whose ports link at {shown} Gb/s",
                    "write one of them: the rate of one port, not of all together",
                )
            ]
    return []


def _declared(inputs: Inputs, host: HostFacts) -> tuple[RdmaDevice, ...]:
    return inputs.declared[host.host].rdma if host.host in inputs.declared else ()


def _mtu_differs(inputs: Inputs, members: tuple[HostFacts, ...], links: Mapping[str, Link]) -> list[Refusal]:
    by_network: dict[str, dict[str, int]] = {}
    for host in members:
        addressed = networks(host)
        sizes = {str(item.get("name")): item.get("mtu") for item in host.interfaces}
        for device in used_devices(host, links[host.host]):
            size = sizes.get(device.netdev) or device.mtu
            if device.netdev in addressed and size:
                by_network.setdefault(str(addressed[device.netdev].network), {})[
                    f"{host.host} {device.netdev}"
                ] = size
    found = []
    for network, known in by_network.items():
        if len(set(known.values())) > 1:
            shown = ", ".join(f"{place} {size}" for place, size in known.items())
            least = min(known, key=lambda place: known[place])
            found.append(
                Refusal(
                    "fabric-mtu-differs",
                    least.split()[0],
                    f"MTU in {network}: {shown}",
                    "large packets are lost on the way to the smaller one (retry counter exceeded)",
                    f"give all the same with fabric_addresses and fabric_mtu: {max(known.values())}",
                )
            )
    return found


def _hosts_differ(members: tuple[HostFacts, ...], links: Mapping[str, Link]) -> list[Refusal]:
    seen = {}
    for host in members:
        addressed = networks(host)
        seen[host.host] = tuple(
            sorted(
                str(addressed[device.netdev].network) if device.netdev in addressed else device.link_layer
                for device in used_devices(host, links[host.host])
            )
        )
    first = members[0].host
    return [
        Refusal(
            "fabric-hosts-differ",
            host,
            f"RDMA ports of {host}: {', '.join(mine) or 'none'}",
            f"{first} has {', '.join(seen[first]) or 'none'}: every member needs a port in the same subnets",
            "give all members addresses in the same subnets with fabric_addresses, or name the common devices "
            "with fabric_devices",
        )
        for host, mine in seen.items()
        if mine != seen[first]
    ]


def _words(inputs: Inputs, host: HostFacts, link: Link) -> list[Advice]:
    found = []
    for device in used_devices(host, link):
        best = nic(inputs, host, device).fabric.get("mtu")
        if best and device.mtu and device.mtu < best:
            found.append(
                Advice(
                    "fabric-mtu-low",
                    host.host,
                    f"{device.netdev} = MTU {device.mtu}",
                    f"{best} is right for this hardware: set it with fabric_addresses (it falls back after "
                    "firmware updates)",
                )
            )
    left = host.fabric.get("nccl_conf", {})
    if left:
        shown = ", ".join(f"{name}={value}" for name, value in sorted(left.items()))
        found.append(
            Advice(
                "nccl-conf-left",
                host.host,
                f"/etc/nccl.conf: {shown}",
                "NCCL reads it beside the plan; the plan's own variables win, the others act: remove the file",
            )
        )
    return found
