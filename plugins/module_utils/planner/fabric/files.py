# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network configuration as the host's own manager wants it, and how that manager takes it over."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Port = Mapping[str, Any]
"""{netdev, address, mtu}."""
MADE = "# Written by baremetal.sglang; a change by hand is lost at the next run of fabric.yml."
NETPLAN = "/etc/netplan/60-sglang-fabric.yaml"
INTERFACES = "/etc/network/interfaces.d/sglang-fabric"
NAMESPACE = uuid.UUID("6f2f0c7e-6a5b-5d53-9a40-6b6f7f1f2c11")


def _file(path: str, mode: str, lines: Iterable[str]) -> dict[str, str]:
    return {"path": path, "mode": mode, "content": "\n".join([MADE, *lines]) + "\n"}


def _netplan_file(ports: list[Port]) -> dict[str, str]:
    lines = ["network:", "  version: 2", "  ethernets:"]
    for port in ports:
        lines += [
            f"    {port['netdev']}:",
            "      dhcp4: false",
            "      dhcp6: false",
            "      accept-ra: false",
            "      link-local: []",
            *([f"      mtu: {port['mtu']}"] if port["mtu"] else []),
            f"      addresses: [{port['address']}]",
            "      optional: true",
        ]
    # Others than root must not read it: netplan itself complains otherwise.
    return _file(NETPLAN, "0600", lines)


def _netplan(ports: list[Port]) -> dict[str, Any]:
    """Not `netplan apply`: that takes every interface of the host through its hands."""
    again = [["netplan", "generate"], *_networkctl(ports)]
    return {"files": [_netplan_file(ports)], "apply": again, "undo": again}


def _netplan_networkmanager(ports: list[Port]) -> dict[str, Any]:
    names = [f"netplan-{port['netdev']}" for port in ports]
    again = [["netplan", "generate"], ["nmcli", "connection", "reload"]]
    return {
        "files": [_netplan_file(ports)],
        "apply": [*again, *(["nmcli", "connection", "up", name] for name in names)],
        "before_undo": [["nmcli", "connection", "down", name] for name in names],
        "undo": again,
    }


def _networkctl(ports: list[Port]) -> list[list[str]]:
    return [["networkctl", "reload"], ["networkctl", "reconfigure", *(port["netdev"] for port in ports)]]


def _networkd(ports: list[Port]) -> dict[str, Any]:
    files = []
    for port in ports:
        lines = ["[Match]", f"Name={port['netdev']}", "", "[Link]"]
        lines += [f"MTUBytes={port['mtu']}"] if port["mtu"] else []
        lines += ["RequiredForOnline=no", "", "[Network]", f"Address={port['address']}"]
        lines += ["DHCP=no", "LinkLocalAddressing=no", "IPv6AcceptRA=no"]
        # The first file that matches an interface is the only one that counts.
        files.append(_file(f"/etc/systemd/network/05-sglang-fabric-{port['netdev']}.network", "0644", lines))
    return {"files": files, "apply": _networkctl(ports), "undo": _networkctl(ports)}


def _ifupdown(ports: list[Port]) -> dict[str, Any]:
    lines = []
    for port in ports:
        lines += [
            f"auto {port['netdev']}",
            f"iface {port['netdev']} inet static",
            f"    address {port['address']}",
            *([f"    mtu {port['mtu']}"] if port["mtu"] else []),
        ]
    names = [port["netdev"] for port in ports]
    down = [["ifdown", "--force", name] for name in names]
    empty = [["ip", "address", "flush", "dev", name] for name in names]
    return {
        "files": [_file(INTERFACES, "0644", lines)],
        "apply": [*down, *empty, *(["ifup", "--force", name] for name in names)],
        # Before the file goes: ifdown reads it.
        "before_undo": down,
        "undo": [],
    }


def _networkmanager(ports: list[Port]) -> dict[str, Any]:
    files = []
    for port in ports:
        name = f"sglang-fabric-{port['netdev']}"
        lines = [
            *("[connection]", f"id={name}", f"uuid={uuid.uuid5(NAMESPACE, name)}", "type=ethernet"),
            *(f"interface-name={port['netdev']}", "autoconnect=true", "autoconnect-priority=100", ""),
            *("[ethernet]", *([f"mtu={port['mtu']}"] if port["mtu"] else []), ""),
            *("[ipv4]", "method=manual", f"address1={port['address']}", "never-default=true", ""),
            *("[ipv6]", "method=disabled"),
        ]
        path = f"/etc/NetworkManager/system-connections/{name}.nmconnection"
        files.append(_file(path, "0600", lines))
    names = [f"sglang-fabric-{port['netdev']}" for port in ports]
    reload = ["nmcli", "connection", "reload"]
    return {
        "files": files,
        "apply": [reload, *(["nmcli", "connection", "up", name] for name in names)],
        "before_undo": [["nmcli", "connection", "down", name] for name in names],
        "undo": [reload],
    }


MANAGERS: dict[str, Callable[[list[Port]], dict[str, Any]]] = {
    "netplan": _netplan,
    "netplan-networkmanager": _netplan_networkmanager,
    "networkd": _networkd,
    "ifupdown": _ifupdown,
    "networkmanager": _networkmanager,
}


def network_files(manager: str, ports: list[Port]) -> dict[str, Any]:
    """{files: [{path, mode, content}], apply, before_undo, undo}: commands as lists of words."""
    made = MANAGERS[manager](ports) if manager in MANAGERS and ports else {}
    return {"files": [], "apply": [], "before_undo": [], "undo": [], **made}
