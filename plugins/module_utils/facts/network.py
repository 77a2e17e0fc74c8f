# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network interfaces and taken ports."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from .host import HostIo
from .values import number, plain

_LISTEN = "0A"


def parse_ip_json(output: str) -> list[dict[str, Any]]:
    """`ip -j addr`: each {name, mtu, state, addresses}; [] when it is not such a list."""
    try:
        rows = json.loads(output)
    except (ValueError, RecursionError):
        return []
    found = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or not row.get("ifname"):
            continue
        addresses = [
            f"{address['local']}/{address.get('prefixlen', '')}"
            for address in row.get("addr_info") or []
            if isinstance(address, dict) and address.get("local")
        ]
        found.append(
            {
                "name": str(row["ifname"]),
                "mtu": row.get("mtu") if isinstance(row.get("mtu"), int) else None,
                "state": str(row.get("operstate", "")).lower(),
                "addresses": addresses,
            }
        )
    return found


def parse_ip_text(output: str) -> list[dict[str, Any]]:
    """`ip addr`, as people paste it."""
    found: list[dict[str, Any]] = []
    for line in plain(output).splitlines():
        words = line.split()
        if len(words) > 2 and re.fullmatch(r"\d{1,6}:", words[0]) and words[1].endswith(":"):
            after = dict(zip(words, words[1:]))
            found.append(
                {
                    "name": words[1][:-1].partition("@")[0],
                    "mtu": number(after.get("mtu")),
                    "state": after.get("state", "").lower(),
                    "addresses": [],
                }
            )
        elif len(words) > 1 and words[0] in ("inet", "inet6") and found:
            found[-1]["addresses"].append(words[1])
    return found


def interfaces(io: HostIo) -> tuple[dict[str, Any], ...]:
    found = parse_ip_json(io.run(["ip", "-j", "addr"]).out)
    if not found:
        found = [
            {
                "name": name,
                "mtu": number(io.line(f"/sys/class/net/{name}/mtu")),
                "state": io.line(f"/sys/class/net/{name}/operstate"),
                "addresses": [],
            }
            for name in io.names("/sys/class/net")
            if io.exists(f"/sys/class/net/{name}/mtu")
        ]
    for entry in found:
        place = f"/sys/class/net/{entry['name']}"
        entry["speed_mbps"] = number(io.line(f"{place}/speed"))
        device = io.link(f"{place}/device").rpartition("/")[2]
        entry["pci_address"] = device if ":" in device else ""
    return tuple(found)


def _address(text: str) -> str:
    """/proc prints addresses as words in the byte order of the machine, which is little-endian here."""
    raw = bytes.fromhex(text)
    swapped = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
    return str(ipaddress.ip_address(swapped))


def parse_listening(text: str) -> list[dict[str, Any]]:
    """Each {port, address, inode} of /proc/net/tcp or tcp6 that waits for connections."""
    found = []
    for line in text.splitlines()[1:]:
        cells = line.split()
        local = (
            re.fullmatch(r"([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})", cells[1]) if len(cells) > 9 else None
        )
        if local and cells[3] == _LISTEN:
            found.append(
                {"port": int(local.group(2), 16), "address": _address(local.group(1)), "inode": cells[9]}
            )
    return found


def _owners(io: HostIo, inodes: set[str]) -> dict[str, int]:
    """Socket inode -> process, for the processes that may be looked into."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners: dict[str, int] = {}
    for pid in io.names("/proc"):
        if pid.isdigit() and len(owners) < len(wanted):
            for descriptor in io.names(f"/proc/{pid}/fd"):
                inode = wanted.get(io.link(f"/proc/{pid}/fd/{descriptor}"))
                if inode:
                    owners.setdefault(inode, int(pid))
    return owners


def listening(io: HostIo) -> tuple[dict[str, Any], ...]:
    sockets = [entry for name in ("tcp", "tcp6") for entry in parse_listening(io.read(f"/proc/net/{name}"))]
    owners = _owners(io, {entry["inode"] for entry in sockets})
    found = []
    for entry in sorted(sockets, key=lambda entry: (entry["port"], entry["address"])):
        pid = owners.get(entry["inode"])
        found.append(
            {
                "port": entry["port"],
                "address": entry["address"],
                "process": io.line(f"/proc/{pid}/comm") if pid else "",
                "pid": pid,
            }
        )
    return tuple(found)
