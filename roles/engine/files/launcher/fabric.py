# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the network between the members still what the plan was made for? Firmware, reboots and switches change it."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

SYS = "/sys"
FIX = "run playbooks/fabric.yml"
# NCCL on TCP over the interface that the ranks meet on anyhow.
SOCKETS = {"NCCL_NET": "Socket", "NCCL_IB_DISABLE": "1"}


def problems(expected: dict[str, Any], sys: str = SYS) -> list[str]:
    """Everything that is not as planned, one line each; [] also where no RDMA is planned."""
    return [line for device in expected.get("devices", ()) for line in _of_device(device, sys)]


def _of_device(device: dict[str, Any], sys: str) -> list[str]:
    name, netdev = device["name"], device["netdev"]
    port = f"{sys}/class/infiniband/{name}/ports/{device['port']}"
    if not os.path.isdir(port):
        return [f"there is no RDMA device {name}: is its driver loaded, was it renamed? rdma link"]
    state = _line(f"{port}/state").rpartition(":")[2].strip().lower()
    if state != "active":
        return [f"{name} ({netdev}) is {state or 'in no state'}: look at its cable and switch port"]
    found = []
    rate = re.match(r"\d+(\.\d+)?", _line(f"{port}/rate"))
    if device["rate_gbps"] and rate and float(rate.group()) < device["rate_gbps"]:
        found.append(
            f"{name} runs at {float(rate.group()):g} Gb/s, planned: {device['rate_gbps']:g}: look at the switch port"
        )
    mtu = _line(f"{sys}/class/net/{netdev}/mtu")
    if device["mtu"] and mtu != str(device["mtu"]):
        found.append(f"{netdev} has MTU {mtu or 'unknown'}, planned: {device['mtu']}: {FIX}")
    width = _line(f"{sys}/class/infiniband/{name}/device/current_link_width")
    if device["pcie_width"] and width.isdigit() and int(width) < device["pcie_width"]:
        found.append(f"{name} has PCIe x{width}, planned: x{device['pcie_width']}: power the host off and on")
    if device["address"] and device["address"] not in _addresses(port, device["gid_types"]):
        found.append(
            f"{name} has no {' or '.join(device['gid_types'])} GID for {device['address']}: the address of {netdev} is gone: {FIX}"
        )
    return found


def _addresses(port: str, types: list[str]) -> set[str]:
    """Of all GIDs that can be used, whatever their index is today."""
    found = set()
    try:
        names = os.listdir(f"{port}/gids")
    except OSError:
        names = []
    for name in names:
        kind = _line(f"{port}/gid_attrs/types/{name}")
        if kind not in types:
            continue
        try:
            mapped = ipaddress.IPv6Address(_line(f"{port}/gids/{name}")).ipv4_mapped
        except ValueError:
            continue
        if mapped:
            found.add(str(mapped))
    return found


def _line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""
