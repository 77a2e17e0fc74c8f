# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network between the hosts: what is configured, what is expected at every start, what must be measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...catalogue.entries import Hardware, Nic
from ...catalogue.nics import lossless
from ...core.refusals import Refusal
from ...facts.schema import HostFacts
from ..case import Inputs
from ..network import Link
from ..plan import InstancePlan, plain
from .files import network_files
from .ports import (
    as_configured,
    networks,
    nic,
    order,
    twins_of,
    used_devices,
    wanted_ports,
)
from .spec import FabricSpec

GATES = (
    "seconds",
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
        spec = inputs.fabric.get(name, FabricSpec())
        mtu = nic(inputs, host).fabric.get("mtu")
        found, problems = wanted_ports(host, spec, inputs.addresses.get(name, ""), mtu)
        refusals += [*problems, *_unknown_devices(host, spec)]
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


def _unknown_devices(host: HostFacts, spec: FabricSpec) -> list[Refusal]:
    known = [device.name for device in host.rdma]
    wanted = [*spec.devices, *(name for group in spec.twins for name in group)]
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


def expected(inputs: Inputs, host: HostFacts, link: Link) -> dict[str, Any]:
    """What the launcher looks at before each start; empty where no RDMA is planned."""
    addressed = networks(host)
    rows = [
        {
            "name": device.name,
            "port": device.port,
            "netdev": device.netdev,
            "address": str(addressed[device.netdev].ip) if device.netdev in addressed else "",
            "gid_types": list(nic(inputs, host, device).gid_types),
            "mtu": device.mtu,
            "rate_gbps": device.rate_gbps,
            "pcie_width": device.pcie_width,
        }
        for device in sorted(used_devices(host, link), key=order)
    ]
    sockets = inputs.fabric.get(host.host, FabricSpec()).sockets
    return {"devices": rows, "sockets": sockets} if rows else {}


def host_fabric(
    inputs: Inputs,
    facts: HostFacts,
    instances: Mapping[str, InstancePlan],
    ports: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """The fabric of one host; empty where nothing is asked of it and no instance spans hosts over RDMA."""
    spec = inputs.fabric.get(facts.host, FabricSpec())
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
            "gid_types": list(nic(inputs, facts, device).gid_types),
            "mtu": device.mtu,
            "rate_gbps": device.rate_gbps,
            "twins": next((list(twin) for twin in group if device.name in twin), []),
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
        "roce": _roce(inputs, facts, devices),
        "modules": list(policy["modules"]) if used else [],
        "memlock": str(inputs.policy["host"]["limits"]["memlock"]),
        "guard_seconds": spec.guard_seconds or policy["guard_seconds"],
        "gates": _gates(inputs, facts, spec, devices, bool(group)) if used else {},
        "sockets": spec.sockets,
    }


def _roce(inputs: Inputs, host: HostFacts, devices: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings that the card forgets at every boot; only where the switch has its part of them."""
    ethernet = [item for item in devices if item["link_layer"] != "InfiniBand"]
    if not inputs.fabric.get(host.host, FabricSpec()).lossless or not ethernet:
        return {}
    wanted, known = inputs.policy["fabric"]["lossless"], {device.name: device for device in host.rdma}
    return {
        **plain(wanted),
        "ports": [
            {
                **{key: item[key] for key in ("name", "port", "netdev")},
                **lossless(
                    inputs.catalogues.nics,
                    nic(inputs, host, known[item["name"]]),
                    {**wanted, "device": item["name"], "port": item["port"], "netdev": item["netdev"]},
                ),
            }
            for item in ethernet
        ],
        "why": "fabric_lossless: the switch has PFC on this priority, ECN, and trusts DSCP",
    }


def _gates(
    inputs: Inputs, host: HostFacts, spec: FabricSpec, devices: list[dict[str, Any]], twins: bool
) -> dict[str, Any]:
    """Thresholds of the measurements between the hosts; None is not judged."""
    policy, family = inputs.policy["fabric"]["gates"], nic(inputs, host)
    known = family.fabric
    rates = [item["rate_gbps"] for item in devices]
    bandwidth, why = None, "no rate is known"
    if spec.gate_gbps:
        bandwidth, why = spec.gate_gbps, "fabric_gate_gbps"
    elif "twins_gbit_per_second" in known:
        pairs = len(devices) / 2 if twins else len(devices) * 0.5
        bandwidth, why = (
            known["twins_gbit_per_second"] * pairs,
            f"files/nics: twins_gbit_per_second of {family.key}",
        )
    elif all(rates):
        bandwidth, why = sum(rates) * policy["share"], f"{policy['share']:g} of the ports' rate"
    collective = "ring_gbyte_per_second" if spec.ring else "all_gather_gbyte_per_second"
    bounds = plain(policy["seconds"])
    if spec.gate_seconds:
        bounds = {**bounds, "least": spec.gate_seconds, "most": spec.gate_seconds}
    return {
        "bandwidth_gbps": bandwidth,
        "bandwidth_why": why,
        "latency_us": spec.gate_latency_us or known.get("latency_microseconds"),
        "collective_gbyte": known.get(collective),
        "socket_gbyte": known.get("socket_gbyte_per_second"),
        "defects": plain(list(family.defects)),
        **{key: plain(policy[key]) for key in GATES},
        "ports": {
            "meet": policy["port"],
            **{key: policy["port"] + policy[f"{key}_offset"] for key in ("rdma", "tcp", "collective")},
        },
        "seconds": bounds,
    }


def nccl_variables(
    hardware: Hardware, family: Nic, spec: FabricSpec, link: Link, policy: Mapping[str, Any]
) -> list[tuple[str, str, str]]:
    """Beside the list of devices: what this hardware, the wiring and the switch ask for."""
    state = {
        "always": True,
        "several": len(link.devices) > 1 and not spec.ring,
        "ring": spec.ring,
    }
    net = str(family.nccl.get("net", "IB"))
    found = [("NCCL_NET", net, "a fabric that falls back to sockets fails at start")]
    found += [
        (str(item["name"]), str(item["value"]), str(item["why"]))
        for item in (*hardware.nccl.get("variables", ()), *family.nccl.get("variables", ()))
        if state[item.get("when", "always")]
    ]
    if spec.lossless:
        tos = str(policy["lossless"]["tos"])
        found.append(
            ("NCCL_IB_TC", tos, "the traffic class that the switch keeps lossless (fabric_lossless)")
        )
    found += [
        ("NCCL_DEBUG", "INFO", "its log proves which transport it took"),
        ("NCCL_DEBUG_SUBSYS", "INIT,NET", "its log proves which transport it took"),
    ]
    return found
