# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The RDMA ports of a host: which share a cable, which get which address, which GPUs are near."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ...catalogue.entries import Nic
from ...catalogue.nics import nic_of, twins_key
from ...core.refusals import Refusal, did_you_mean
from ...core.text_checks import NETDEV
from ...facts.schema import HostFacts, RdmaDevice
from ..case import Inputs
from ..network import Link
from .spec import FabricSpec

# Names of the kernel and systemd: behind P stands the PCI domain, where it is not the first one.
DOMAIN = re.compile(r"^(en|roce|ib)(?:P(\d+))?(p\d+s\d+.*)\Z")


def active(device: RdmaDevice) -> bool:
    return device.state.lower() in ("", "active")


def order(device: RdmaDevice) -> tuple[int, str]:
    """Of the first PCI domain first, as the cables are numbered."""
    found = DOMAIN.match(device.name) or DOMAIN.match(device.netdev)
    domain = int(found.group(2) or 0) if found else 0
    if ":" in device.pci_address:
        domain = int(device.pci_address.split(":")[0], 16)
    return domain, device.name


def nic(inputs: Inputs, host: HostFacts, device: RdmaDevice | None = None) -> Nic:
    """The family of a device; of the host's first one that is connected, where none is named."""
    if device is None:
        device = min(host.rdma, key=lambda item: (not active(item), order(item)), default=RdmaDevice(""))
    models = {gpu.model for gpu in host.gpus}
    return nic_of(inputs.catalogues.nics, models, device.vendor, device.device, device.driver)


def cable(device: RdmaDevice, family: Nic) -> str:
    """The same for the twins of one port; "" where nothing says it."""
    if device.switch_id and device.port_name:
        return f"{device.switch_id}/{device.port_name}"
    return twins_key(family, device.name)


def twins_of(inputs: Inputs, host: HostFacts) -> list[tuple[str, ...]]:
    """Groups of devices behind one cable, each of two or more."""
    spec = inputs.fabric.get(host.host, FabricSpec())
    if spec.twins:
        return [tuple(group) for group in spec.twins]
    found: dict[str, list[RdmaDevice]] = {}
    for device in host.rdma:
        if key := cable(device, nic(inputs, host, device)):
            found.setdefault(key, []).append(device)
    groups = (sorted(group, key=order) for group in found.values())
    return [tuple(device.name for device in group) for group in groups if len(group) > 1]


def networks(host: HostFacts) -> dict[str, ipaddress.IPv4Interface]:
    """Netdev -> its first IPv4 address that is not link-local."""
    found: dict[str, ipaddress.IPv4Interface] = {}
    for interface in host.interfaces:
        for written in interface.get("addresses", ()):
            try:
                parsed = ipaddress.ip_interface(str(written))
            except ValueError:
                continue
            if isinstance(parsed, ipaddress.IPv4Interface) and not parsed.is_link_local:
                found.setdefault(str(interface.get("name", "")), parsed)
    return found


def wanted_ports(
    host: HostFacts, spec: FabricSpec, address: str, mtu: int | None
) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """What is to be configured: [{netdev, device, address, mtu}], and why it cannot be."""
    if not spec.addresses:
        return [], []
    said = f"fabric_addresses = {', '.join(item for _netdev, item in spec.addresses)}"
    by_netdev = {device.netdev: device for device in host.rdma if device.netdev}
    known = [*by_netdev, *(str(item.get("name", "")) for item in host.interfaces)]
    pairs = list(spec.addresses)
    if not pairs[0][0]:
        chosen = [
            device.netdev
            for device in sorted(host.rdma, key=order)
            if device.netdev and (device.name in spec.devices if spec.devices else active(device))
        ]
        if len(chosen) != len(pairs):
            shown = ", ".join(chosen) or "none"
            return [], [
                Refusal(
                    "fabric-addresses-count",
                    host.host,
                    said,
                    f"{len(pairs)} addresses, and the RDMA ports that are connected are {len(chosen)}: {shown}",
                    "give one for each (both twins of a cable need one), or name them: {netdev: address}",
                )
            ]
        pairs = [(netdev, item) for netdev, (_none, item) in zip(chosen, pairs)]
    refusals = []
    if len({netdev for netdev, _address in pairs}) != len(pairs):
        refusals.append(
            Refusal("fabric-addresses-count", host.host, said, "one netdev twice", "name each of them once")
        )
    for netdev, _item in pairs:
        if not NETDEV.match(netdev):
            refusals.append(
                Refusal(
                    "fabric-netdev-name",
                    host.host,
                    f"fabric_addresses.{netdev}",
                    "the name of this interface cannot be written into the host's network configuration",
                    "rename the interface on the host with letters, digits, dots, dashes and underscores: eth1",
                )
            )
        elif netdev not in known:
            refusals.append(
                Refusal(
                    "fabric-netdev-unknown",
                    host.host,
                    f"fabric_addresses.{netdev}",
                    "the host has no such interface: names follow the slot, and change with card, firmware or cable",
                    did_you_mean(netdev, known),
                )
            )
        elif _is_management(host, netdev, address):
            refusals.append(
                Refusal(
                    "fabric-is-management",
                    host.host,
                    f"fabric_addresses.{netdev}",
                    f"{netdev} is the way by which this host is reached"
                    f"{f' ({address})' if address else ''}: changing it would cut us off",
                    "name the netdev of an RDMA port: "
                    + (", ".join(sorted(set(by_netdev) - {netdev})) or "the host has none"),
                )
            )
    for netdev, item in pairs:
        for other, there in networks(host).items():
            wanted = ipaddress.IPv4Interface(item)
            if other not in dict(pairs) and wanted.network.overlaps(there.network):
                refusals.append(
                    Refusal(
                        "fabric-overlap",
                        host.host,
                        f"fabric_addresses.{netdev} = {item}",
                        f"{wanted.network} overlaps with {there.network} of {other}: answers would leave by the "
                        "wrong interface, and the host may be lost",
                        "use a network that nothing else of the host uses",
                    )
                )
    ports = [
        {
            "netdev": netdev,
            "device": by_netdev[netdev].name if netdev in by_netdev else "",
            "address": item,
            "mtu": spec.mtu or mtu,
        }
        for netdev, item in pairs
    ]
    return ports, refusals


def _is_management(host: HostFacts, netdev: str, address: str) -> bool:
    if netdev in host.fabric.get("default_interfaces", ()):
        return True
    entry: Mapping[str, Any] = next((item for item in host.interfaces if item.get("name") == netdev), {})
    return any(str(item).partition("/")[0] == address for item in entry.get("addresses", ()) if address)


def as_configured(host: HostFacts, ports: Iterable[Mapping[str, Any]]) -> HostFacts:
    """The host as it will be once its ports are configured."""
    wanted = {str(port["netdev"]): port for port in ports}
    there = {str(item.get("name", "")) for item in host.interfaces}
    interfaces = [
        *host.interfaces,
        *({"name": name, "state": "up"} for name in wanted if name not in there),
    ]
    made = tuple(_interface(item, wanted.get(str(item.get("name", "")))) for item in interfaces)
    rdma = tuple(
        replace(device, mtu=wanted[device.netdev]["mtu"] or device.mtu) if device.netdev in wanted else device
        for device in host.rdma
    )
    return replace(host, interfaces=made, rdma=rdma)


def _interface(found: Mapping[str, Any], port: Mapping[str, Any] | None) -> dict[str, Any]:
    if port is None:
        return dict(found)
    others = [item for item in found.get("addresses", ()) if ":" in str(item)]
    return {
        **found,
        "state": "up",
        "mtu": port["mtu"] or found.get("mtu"),
        "addresses": [port["address"], *others],
    }


def used_devices(host: HostFacts, link: Link) -> list[RdmaDevice]:
    return [device for device in host.rdma if device.name in link.devices]
