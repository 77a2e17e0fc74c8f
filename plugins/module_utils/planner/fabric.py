# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network between the hosts: what is configured, what is expected at every start, what must be measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..catalogue import Hardware
from ..host_facts import HostFacts, RdmaDevice
from ..refusal import Advice, Refusal
from .case import Inputs
from .fabric_files import network_files
from .fabric_ports import as_configured, near_gpus, networks, order, twins_of, wanted_ports
from .fabric_wish import Wish
from .network import Link
from .plan import InstancePlan, plain

GATES = (
    "seconds",
    "port",
    "message_bytes",
    "latency_iterations",
    "tcp_seconds",
    "tcp_streams",
    "collective_mib",
)


@dataclass(frozen=True)
class Prepared:
    inputs: Inputs
    """With the hosts as they will be."""
    ports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def prepare(inputs: Inputs) -> Prepared:
    """Addresses that the inventory gives, put on the hosts before anything is planned on them."""
    facts, ports, refusals = dict(inputs.facts), {}, []
    owners: dict[str, str] = {}
    for name, host in inputs.facts.items():
        wish = inputs.fabric.get(name, Wish())
        mtu = _of_hardware(inputs, host).get("mtu")
        found, problems = wanted_ports(host, wish, inputs.addresses.get(name, ""), mtu)
        refusals += [*problems, *_unknown_devices(host, wish)]
        if found and not host.fabric.get("manager") and host.fabric:
            refusals.append(
                Refusal(
                    "fabric-no-manager",
                    name,
                    "fabric_addresses",
                    "neither netplan nor NetworkManager, systemd-networkd or ifupdown runs this host's network",
                    "start one of them (systemctl enable --now systemd-networkd), or set the addresses by hand "
                    "and leave fabric_addresses out",
                )
            )
        for port in found:
            address = port["address"].partition("/")[0]
            if address in owners:
                refusals.append(
                    Refusal(
                        "fabric-address-twice",
                        name,
                        f"fabric_addresses = {port['address']}",
                        f"{owners[address]} has this address too",
                        "give every port an address of its own",
                    )
                )
            owners.setdefault(address, name)
        if found and not problems:
            facts[name], ports[name] = as_configured(host, found), found
    return Prepared(replace(inputs, facts=facts), ports, refusals)


def _unknown_devices(host: HostFacts, wish: Wish) -> list[Refusal]:
    known = [device.name for device in host.rdma]
    wanted = [*wish.devices, *(name for group in wish.twins for name in group)]
    return [
        Refusal(
            "fabric-device-unknown",
            host.host,
            f"fabric_devices = {name}",
            "the host has no RDMA device of this name: NCCL would fall back to sockets without a word",
            f"the host has {', '.join(known)}" if known else "look at `rdma link` there: it has none",
        )
        for name in dict.fromkeys(wanted)
        if name not in known
    ]


def _of_hardware(inputs: Inputs, host: HostFacts) -> Mapping[str, Any]:
    entries = inputs.catalogues.hardware
    return next((entries[gpu.model].fabric for gpu in host.gpus if gpu.model in entries), {})


def _devices(host: HostFacts, link: Link) -> list[RdmaDevice]:
    return [device for device in host.rdma if device.name in link.devices]


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
    wish = inputs.fabric.get(host.host, Wish())
    declared = {device.name: device.rate_gbps for device in _declared(inputs, host)}
    width = _of_hardware(inputs, host).get("pcie_width")
    found = []
    for device in _devices(host, link):
        rate, wanted = device.rate_gbps, wish.rate_gbps or declared.get(device.name)
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


def _declared(inputs: Inputs, host: HostFacts) -> tuple[RdmaDevice, ...]:
    return inputs.declared[host.host].rdma if host.host in inputs.declared else ()


def _mtu_differs(inputs: Inputs, members: tuple[HostFacts, ...], links: Mapping[str, Link]) -> list[Refusal]:
    by_network: dict[str, dict[str, int]] = {}
    for host in members:
        addressed = networks(host)
        sizes = {str(item.get("name")): item.get("mtu") for item in host.interfaces}
        for device in _devices(host, links[host.host]):
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
                str(addressed[device.netdev].network)
                for device in _devices(host, links[host.host])
                if device.netdev in addressed
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
    best = _of_hardware(inputs, host).get("mtu")
    for device in _devices(host, link):
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


# --- what the roles apply ---


def expected(host: HostFacts, link: Link, sockets: bool) -> dict[str, Any]:
    """What the launcher looks at before each start; empty where no RDMA is planned."""
    addressed = networks(host)
    rows = [
        {
            "name": device.name,
            "port": device.port,
            "netdev": device.netdev,
            "address": str(addressed[device.netdev].ip) if device.netdev in addressed else "",
            "mtu": device.mtu,
            "rate_gbps": device.rate_gbps,
            "pcie_width": device.pcie_width,
        }
        for device in sorted(_devices(host, link), key=order)
    ]
    return {"devices": rows, "sockets": sockets} if rows else {}


def host_fabric(
    inputs: Inputs,
    facts: HostFacts,
    instances: Mapping[str, InstancePlan],
    ports: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """The fabric of one host; empty where nothing is asked of it and no instance spans hosts over RDMA."""
    wish = inputs.fabric.get(facts.host, Wish())
    spanning = [item for item in instances.values() if item.parallel["nnodes"] > 1]
    used = {name for item in spanning for name in item.parallel["rdma_devices"][facts.host]}
    ports = list(ports)
    if not ports and not used:
        return {}
    policy = inputs.policy["fabric"]
    group = [twin for twin in twins_of(inputs, facts) if set(twin) & used]
    addressed = networks(facts)
    devices = [
        {
            "name": device.name,
            "port": device.port,
            "netdev": device.netdev,
            "address": str(addressed[device.netdev].ip) if device.netdev in addressed else "",
            "network": str(addressed[device.netdev].network) if device.netdev in addressed else "",
            "link_layer": device.link_layer,
            "mtu": device.mtu,
            "rate_gbps": device.rate_gbps,
            "twins": next((list(twin) for twin in group if device.name in twin), []),
            "numa_node": device.numa_node,
            "near_gpus": near_gpus(facts, device.name),
        }
        for device in sorted(facts.rdma, key=order)
        if device.name in used
    ]
    manager = str(facts.fabric.get("manager", ""))
    members = sorted({name for item in spanning for name in item.parallel["hosts"]})
    first = spanning[0] if spanning else None
    return {
        "python": str(facts.fabric.get("python") or "/usr/bin/python3"),
        "manager": manager,
        "ports": plain(ports),
        "network": network_files(manager, ports),
        "devices": devices,
        "members": members,
        "rendezvous": {
            "netdev": first.parallel["interfaces"][facts.host] if first else "",
            "address": first.parallel["addresses"][facts.host] if first else "",
        },
        "roce": _roce(policy, wish, devices),
        "modules": list(policy["modules"]) if used else [],
        "memlock": str(inputs.policy["host"]["limits"]["memlock"]),
        "guard_seconds": policy["guard_seconds"],
        "gates": _gates(inputs, facts, wish, devices, bool(group)) if used else {},
        "sockets": wish.sockets,
        "nccl_conf": dict(facts.fabric.get("nccl_conf", {})),
    }


def _roce(policy: Mapping[str, Any], wish: Wish, devices: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings that the card forgets at every boot; only where the switch has its part of them."""
    ethernet = [item for item in devices if item["link_layer"] != "InfiniBand"]
    if not wish.lossless or not ethernet:
        return {}
    return {
        **plain(policy["lossless"]),
        "ports": [{key: item[key] for key in ("name", "port", "netdev")} for item in ethernet],
        "why": "fabric_lossless: the switch has PFC on this priority, ECN, and trusts DSCP",
    }


def _gates(
    inputs: Inputs, host: HostFacts, wish: Wish, devices: list[dict[str, Any]], twins: bool
) -> dict[str, Any]:
    """Thresholds of the measurements between the hosts; None is not judged."""
    policy, known = inputs.policy["fabric"]["gates"], _of_hardware(inputs, host)
    rates = [item["rate_gbps"] for item in devices]
    bandwidth, why = None, "no rate is known"
    if wish.gate_gbps:
        bandwidth, why = wish.gate_gbps, "fabric_gate_gbps"
    elif "twins_gbit_per_second" in known:
        pairs = len(devices) / 2 if twins else len(devices) * 0.5
        bandwidth, why = known["twins_gbit_per_second"] * pairs, "files/hardware: twins_gbit_per_second"
    elif all(rates):
        bandwidth, why = sum(rates) * policy["share"], f"{policy['share']:g} of the ports' rate"
    collective = "ring_gbyte_per_second" if wish.ring else "all_gather_gbyte_per_second"
    return {
        "bandwidth_gbps": bandwidth,
        "bandwidth_why": why,
        "latency_us": wish.gate_latency_us or known.get("latency_microseconds"),
        "collective_gbyte": known.get(collective),
        "socket_gbyte": known.get("socket_gbyte_per_second"),
        "defect_gbps": list(known.get("defect_gbit_per_second", ())),
        **{key: plain(policy[key]) for key in GATES},
    }


def nccl_variables(
    hardware: Hardware, wish: Wish, link: Link, policy: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Beside the list of devices: what this hardware, the wiring and the switch ask for."""
    state = {
        "always": True,
        "several": len(link.devices) > 1 and not wish.ring,
        "ring": wish.ring,
    }
    found = [
        (str(item["name"]), str(item["value"]), str(item["why"]))
        for item in hardware.nccl.get("variables", ())
        if state[item.get("when", "always")]
    ]
    if wish.lossless:
        tos = str(policy["lossless"]["tos"])
        found.append(
            ("NCCL_IB_TC", tos, "the traffic class that the switch keeps lossless (fabric_lossless)")
        )
    found += [
        ("NCCL_DEBUG", "INFO", "its log proves which transport it took"),
        ("NCCL_DEBUG_SUBSYS", "INIT,NET", "its log proves which transport it took"),
    ]
    return found
