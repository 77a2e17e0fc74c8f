# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA devices from sysfs, with `rdma -j link` as the second source."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from .faults import fault
from .host import HostIo
from .rdma_text import parse_ibdev2netdev, parse_rdma_link
from .schema import Fault, RdmaDevice
from .values import number

CLASS = "/sys/class/infiniband"


def rate_gbps(text: str) -> float | None:
    """`200 Gb/sec (2X NDR)` is 200.0."""
    found = re.match(r"(\d{1,6}(?:\.\d{1,3})?) ?Gb/sec", text.strip())
    return float(found.group(1)) if found else None


def state(text: str) -> str:
    """`4: ACTIVE` is "active"."""
    return text.rpartition(":")[2].strip().lower()


def mapped_ipv4(gid: str) -> str:
    """The IPv4 address inside a GID of the form ::ffff:a.b.c.d, else ""."""
    try:
        mapped = ipaddress.IPv6Address(gid).ipv4_mapped
    except ValueError:
        return ""
    return str(mapped) if mapped else ""


def _unset(gid: str) -> bool:
    """Empty table entries read as zeros; of a port that is up they keep the subnet prefix fe80::."""
    return not gid.replace(":", "").strip("0") or gid.replace(":", "").strip("0") == "fe8"


def _gids(io: HostIo, port: str) -> tuple[dict[str, Any], ...]:
    found = []
    for name in sorted(io.names(f"{port}/gids"), key=lambda name: number(name) or 0):
        gid = io.line(f"{port}/gids/{name}")
        if gid and not _unset(gid):
            found.append(
                {
                    "index": number(name) or 0,
                    "gid": gid,
                    "type": io.line(f"{port}/gid_attrs/types/{name}"),
                    "address": mapped_ipv4(gid),
                    "netdev": io.line(f"{port}/gid_attrs/ndevs/{name}"),
                }
            )
    return tuple(found)


def _second_source(io: HostIo) -> dict[str, str]:
    """Device/port -> netdev, from `rdma -j link` or the text form of older versions."""
    ran = io.run(["rdma", "-j", "link"])
    try:
        rows = json.loads(ran.out) if ran.status == 0 else []
    except (ValueError, RecursionError):
        rows = parse_rdma_link(ran.out)
    found = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("netdev"):
            found[f"{row.get('ifname')}/{row.get('port', 1)}"] = str(row["netdev"])
    if not found:
        ran = io.run(["ibdev2netdev"])
        found = {f"{row['device']}/{row['port']}": row["netdev"] for row in parse_ibdev2netdev(ran.out)}
    return found


def _netdev(
    io: HostIo, device: str, port: str, gids: tuple[dict[str, Any], ...], second: dict[str, str]
) -> str:
    named = [gid["netdev"] for gid in gids if gid["netdev"]]
    base = f"{CLASS}/{device}"
    of_function = io.names(f"{base}/device/net")
    dev_port = (number(port) or 1) - 1
    by_port = [
        name for name in of_function if (number(io.line(f"/sys/class/net/{name}/dev_port")) or 0) == dev_port
    ]
    choices = [*named, second.get(f"{device}/{port}", ""), *by_port, *of_function, io.line(f"{base}/parent")]
    return next((name for name in choices if name), "")


def rdma_devices(io: HostIo) -> tuple[RdmaDevice, ...]:
    """One entry a port."""
    devices = io.names(CLASS)
    second = _second_source(io) if devices else {}
    found = []
    for device in devices:
        pci = f"{CLASS}/{device}/device"
        for port in io.names(f"{CLASS}/{device}/ports"):
            place = f"{CLASS}/{device}/ports/{port}"
            gids = _gids(io, place)
            netdev = _netdev(io, device, port, gids, second)
            net = f"/sys/class/net/{netdev}" if netdev else ""
            numa = io.line(f"{pci}/numa_node")
            address = io.link(pci).rpartition("/")[2]
            found.append(
                RdmaDevice(
                    name=device,
                    port=number(port) or 1,
                    netdev=netdev,
                    state=state(io.line(f"{place}/state")),
                    phys_state=state(io.line(f"{place}/phys_state")),
                    link_layer=io.line(f"{place}/link_layer"),
                    rate_gbps=rate_gbps(io.line(f"{place}/rate")),
                    mtu=number(io.line(f"{net}/mtu")) if net else None,
                    pcie_width=number(io.line(f"{pci}/current_link_width")),
                    pcie_width_max=number(io.line(f"{pci}/max_link_width")),
                    pcie_speed=io.line(f"{pci}/current_link_speed"),
                    pci_address=address if ":" in address else "",
                    gids=gids,
                    switch_id=io.line(f"{net}/phys_switch_id") if net else "",
                    port_name=io.line(f"{net}/phys_port_name") if net else "",
                    numa_node=int(numa) if re.fullmatch(r"\d{1,4}", numa) else None,
                    firmware=io.line(f"{CLASS}/{device}/fw_ver"),
                    vendor=io.line(f"{pci}/vendor"),
                    device=io.line(f"{pci}/device"),
                    driver=io.link(f"{pci}/driver").rpartition("/")[2],
                )
            )
    return tuple(found)


_CURES = {"polling": "rdma-port-polling", "disabled": "rdma-port-disabled", "sleep": "rdma-port-disabled"}


def rdma_faults(io: HostIo, devices: tuple[RdmaDevice, ...]) -> list[Fault]:
    """Devices that are names only, and ports without a link, each with the cure of its physical state."""
    found = []
    for name in io.names(CLASS):
        target = io.link(f"{CLASS}/{name}/device")
        if not any(device.name == name for device in devices):
            found.append(fault("rdma-device-dangling", name, detail="it has no port"))
        elif target and not io.exists(f"{CLASS}/{name}/device"):
            found.append(fault("rdma-device-dangling", name, detail=f"its PCI device {target} is gone"))
    up = any(device.state == "active" for device in devices)
    for device in devices:
        code = _CURES.get(device.phys_state, "")
        # A port of a RoCE card that nobody uses is disabled; where another one works that is how it is wired.
        unused = device.link_layer.lower() == "ethernet" and device.phys_state == "disabled" and up
        if code and device.state != "active" and not unused:
            layer = device.link_layer or "RDMA"
            found.append(fault(code, f"{device.name} port {device.port}", layer=layer, device=device.name))
    return found
