# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of a host must be reached from which addresses only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.addresses import why_unusable
from ..core.refusals import Advice, Refusal
from ..facts.schema import HostFacts
from .case import Inputs
from .network import is_address
from .plan import InstancePlan

"""Netlink tells the ranks the host's interfaces."""


def firewall(inputs: Inputs, host: str, instances: Mapping[str, InstancePlan]) -> dict[str, Any]:
    """Empty where nothing listens for other hosts: then nothing is asked of the host either."""
    rules = [rule for name, plan in sorted(instances.items()) for rule in _of_instance(host, name, plan)]
    rules += _swarm(inputs, host)
    if not any(rule["sources"] for rule in rules):
        return {}
    owners = [item for name, plan in sorted(instances.items()) for item in _owners(inputs, host, name, plan)]
    owners += _swarm_owners(inputs, host)
    return {"rules": sorted(rules, key=lambda rule: (rule["port"], rule["what"])), "owners": owners}


def _of_instance(host: str, name: str, plan: InstancePlan) -> list[dict[str, Any]]:
    addresses = plan.parallel["addresses"]
    members = sorted(set(addresses.values())) if len(addresses) > 1 else []
    here = ("127.0.0.1", addresses[host])
    return [
        {
            "port": port.port,
            "what": f"{name}: {port.purpose}"
            + (f", of {', '.join(plan.parallel['hosts'])}" if members else ""),
            "sources": members,
        }
        for port in plan.ports
        if port.address in here
    ]


def _owners(inputs: Inputs, host: str, name: str, plan: InstancePlan) -> list[dict[str, Any]]:
    """torchrun and torch.distributed unpickle what comes at their ports: local users stay away from them."""
    group = plan.service.get("group")
    if not group:
        return []
    head = group["members"][0]
    return [
        {
            "ports": [*group["ports"], group["channel_port"], *plan.parallel["head_ports"]],
            "what": f"{name}: group",
            "user": str(inputs.policy["account"]["user"]),
            "addresses": [head["address"]],
            "own": plan.parallel["addresses"][host],
            "here": head["host"] == host,
        }
    ]


def _swarm_owners(inputs: Inputs, host: str) -> list[dict[str, Any]]:
    return [
        {
            "ports": [rule["port"]],
            "what": rule["what"],
            "user": str(inputs.policy["account"]["swarm_user"]),
            "addresses": rule["sources"],
            "own": inputs.swarm[host],
            "here": True,
        }
        for rule in _swarm(inputs, host)
    ]


def _swarm(inputs: Inputs, host: str) -> list[dict[str, Any]]:
    if host not in inputs.swarm or len(inputs.swarm) < 2 or unknown_peers(inputs):
        return []
    sources = sorted(set(inputs.swarm.values()))
    return [
        {
            "port": int(inputs.policy["ports"]["swarm"]),
            "what": "weights from host to host",
            "sources": sources,
        }
    ]


def unknown_peers(inputs: Inputs) -> list[str]:
    """Hosts of the swarm whose address is a name: no rule can be written for them."""
    return [host for host, address in inputs.swarm.items() if not is_address(address)]


def swarm_addresses(inputs: Inputs) -> list[Refusal]:
    """Where other hosts could never fetch from, said before anything is fetched."""
    if len(inputs.swarm) < 2:
        return []
    return [
        Refusal(
            "swarm-address",
            host,
            f"swarm_address = {address}",
            f"other hosts cannot reach {host} there: {address} {why}",
            f"give an address of {host} that the others reach as swarm_address, or as ansible_host",
        )
        for host, address in inputs.swarm.items()
        if (why := why_unusable(address))
    ]


def missing_nft(inputs: Inputs, host: HostFacts, wanted: Mapping[str, Any]) -> list[Refusal]:
    """Only a host that was looked at; what is declared says nothing of it."""
    if not wanted or host.nft != "":
        return []
    system: Mapping[str, Any] = next(
        (item for item in inputs.systems.values() if item.get("id") == host.os.id), {}
    )
    family = inputs.families.get(str(system.get("family", "")), {})
    package = str(family.get("packages", {}).get("nftables", "")) or "nftables"
    ports = ", ".join(str(rule["port"]) for rule in wanted["rules"])
    return [
        Refusal(
            "nft-missing",
            host.host,
            "nft = not found",
            f"ports {ports} must be closed to strangers, and the host has no program nft",
            f"install package {package}; a bundle with bundle_debs carries it in debs/",
        )
    ]


def open_swarm(inputs: Inputs) -> list[Advice]:
    unknown = unknown_peers(inputs)
    if not unknown or len(inputs.swarm) < 2:
        return []
    return [
        Advice(
            "swarm-port-open",
            unknown[0],
            f"swarm_address of {', '.join(unknown)}",
            f"is not an address, so port {inputs.policy['ports']['swarm']} is left open while weights move: give an "
            "IP address as swarm_address",
        )
    ]
