# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sparks with everything that a host tells about its fabric, and one thing wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.fabric.spec import (
    FabricSpec,
    parse_fabric_spec,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import PlanResult

FIRST, SECOND = "enp1s0f1np1", "enP2p1s0f1np1"
MANAGEMENT = {"name": "enP7s7", "state": "up", "mtu": 1500, "addresses": ["192.168.100.11/24"]}
Change = Callable[[HostFacts], HostFacts]


def spark(world: Any, name: str, number: int, **changes: Any) -> HostFacts:
    """As the facts module gathers it; twins are known by switch and port."""
    host = world.host("spark", name, number)
    rdma = tuple(
        replace(
            device,
            pci_address=f"000{domain}:01:00.1",
            switch_id="01",
            port_name="p1",
            rate_gbps=200.0,
            link_layer="Ethernet",
            mtu=9000,
            pcie_width=4,
            pcie_width_max=4,
        )
        for device, domain in zip(host.rdma, (0, 2))
    )
    interfaces = tuple({**item, "mtu": 9000} for item in host.interfaces)
    facts = {"manager": "netplan", "default_interfaces": ["enP7s7"], "nccl_conf": {}}
    return replace(
        host,
        rdma=rdma,
        interfaces=(*interfaces, dict(MANAGEMENT)),
        fabric=facts,
        source="gathered",
        **changes,
    )


def planned(world: Any, change: Change | None = None, of: int = 2, count: int = 2, **said: Any) -> PlanResult:
    """`change` is done to one of the hosts, `said` are its fabric variables (all hosts' where of is 0)."""
    hosts = {}
    specs = {}
    for number in range(1, count + 1):
        name = f"spark-{number}"
        hosts[name] = spark(world, name, number)
        if change and of in (0, number):
            hosts[name] = change(hosts[name])
        if said and of in (0, number):
            specs[name], problems = parse_fabric_spec(said, name)
            assert not problems
    serve = {"it": {"hosts": list(hosts), "model": "glm-4.7-fp8"}}
    if count < 4:
        serve["it"]["model"] = "glm-4.7-flash-fp8"
    addresses = {name: f"192.168.100.{10 + number}" for number, name in enumerate(hosts, 1)}
    return world.plan(hosts, serve, fabric=specs, addresses=addresses)


def row(change: Change | None = None, of: int = 2, **said: Any) -> Callable[[Any, Path], list[Refusal]]:
    return lambda world, _tmp: list(planned(world, change, of, **said).refusals)


def device(name: str, **changes: Any) -> Change:
    def change(host: HostFacts) -> HostFacts:
        rdma = tuple(replace(item, **changes) if item.name == name else item for item in host.rdma)
        return replace(host, rdma=rdma)

    return change


def interface(name: str, **changes: Any) -> Change:
    def change(host: HostFacts) -> HostFacts:
        found = tuple({**item, **changes} if item["name"] == name else item for item in host.interfaces)
        return replace(host, interfaces=found)

    return change


def without_port(host: HostFacts) -> HostFacts:
    return device("roceP2p1s0f1", state="down")(interface(SECOND, addresses=[])(host))


def without_manager(host: HostFacts) -> HostFacts:
    return replace(host, fabric={**host.fabric, "manager": ""})


def declared_200(world: Any, _tmp: Path) -> list[Refusal]:
    """declared_hardware said more than the host has."""
    hosts = {f"spark-{number}": spark(world, f"spark-{number}", number) for number in (1, 2)}
    declared = dict(hosts)
    hosts["spark-2"] = device("rocep1s0f1", rate_gbps=100.0)(hosts["spark-2"])
    serve = {"it": {"hosts": list(hosts), "model": "glm-4.7-flash-fp8"}}
    return list(world.plan(hosts, serve, declared=declared).refusals)


def bad_types(_world: Any, _tmp: Path) -> list[Refusal]:
    said = {
        "fabric_addresses": ["192.168.101.11"],
        "fabric_mtu": 90000,
        "fabric_lossless": "yes",
        "fabric_twins": ["rocep1s0f1"],
        "fabric_rate_gbps": -1,
        "fabric_guard_seconds": 5,
    }
    spec, found = parse_fabric_spec(said, "spark-1")
    assert spec == FabricSpec()
    assert len(found) == len(said)
    return found


BOTH = ["192.168.101.12/24", "192.168.102.12/24"]
REFUSALS: dict[str, list[Callable[[Any, Path], list[Refusal]]]] = {
    "fabric-type": [bad_types],
    "fabric-addresses-count": [
        row(fabric_addresses=["192.168.101.12/24"]),
        row(fabric_addresses=[*BOTH, "192.168.103.12/24"]),
    ],
    "fabric-netdev-name": [row(fabric_addresses={"eth0 up": "192.168.101.12/24"})],
    "fabric-netdev-unknown": [row(fabric_addresses={"enp1s0f0np0": "192.168.101.12/24"})],
    "fabric-device-unknown": [
        row(fabric_devices=["rocep1s0f3"]),
        row(fabric_twins=[["mlx5_0", "rocep1s0f1"]]),
    ],
    "fabric-is-management": [
        row(fabric_addresses={"enP7s7": "192.168.101.12/24"}),
        row(
            lambda host: replace(host, fabric={**host.fabric, "default_interfaces": []}),
            of=1,
            fabric_addresses={"enP7s7": "192.168.101.12/24"},
        ),
    ],
    "fabric-overlap": [
        row(fabric_addresses=["192.168.100.212/25", "192.168.102.12/24"]),
        row(fabric_addresses=["192.168.101.12/24", "192.168.0.12/16"]),
    ],
    "fabric-no-manager": [row(without_manager, fabric_addresses=BOTH)],
    "fabric-address-twice": [row(of=0, fabric_addresses=BOTH)],
    "fabric-twin-without-address": [row(interface(SECOND, addresses=[]))],
    "fabric-twins-one-subnet": [
        row(interface(SECOND, addresses=["192.168.101.112/24"])),
        row(fabric_addresses=["192.168.101.12/24", "192.168.101.112/24"]),
    ],
    "fabric-slow-port": [row(device("rocep1s0f1", rate_gbps=100.0), fabric_rate_gbps=200), declared_200],
    "fabric-rate-unknown": [row(fabric_rate_gbps=400)],
    "fabric-pcie-narrow": [row(device("roceP2p1s0f1", pcie_width=2))],
    "fabric-mtu-differs": [row(interface(FIRST, mtu=1500))],
    "fabric-hosts-differ": [row(without_port)],
}
