# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA devices as other tools print them, for captures that users send."""

from __future__ import annotations

import re
from typing import Any

from .values import number, plain


def parse_ibdev2netdev(output: str) -> list[dict[str, str]]:
    """Each {device, port, netdev, state}."""
    found = re.findall(r"^(\S+) port (\d+) ==> (\S+) \((\w+)\)\s*$", plain(output), re.MULTILINE)
    return [dict(zip(("device", "port", "netdev", "state"), row)) for row in found]


def parse_rdma_link(output: str) -> list[dict[str, Any]]:
    """The text of `rdma link`, keyed as `rdma -j link` does."""
    found = []
    for line in plain(output).splitlines():
        head = re.match(r"(?:\d+: )?link (\S+)/(\d+)\s+(.*)\Z", line.strip())
        if head:
            words = head.group(3).split()
            labels = dict(zip(words[::2], words[1::2]))
            found.append({"ifname": head.group(1), "port": int(head.group(2)), **labels})
    return found


def parse_show_gids(output: str) -> list[dict[str, Any]]:
    """Each {device, port, index, gid, type, address, netdev}; types spelled as sysfs does."""
    types = {"v1": "IB/RoCE v1", "v2": "RoCE v2"}
    found = re.findall(
        r"^(\S+)\s+(\d+)\s+(\d+)\s+([0-9a-fA-F:]{39})\s+(\d+\.\d+\.\d+\.\d+)?\s*(v[12])\s+(\S+)\s*$",
        plain(output),
        re.MULTILINE,
    )
    return [
        {
            "device": device,
            "port": int(port),
            "index": int(index),
            "gid": gid,
            "type": types[version],
            "address": address,
            "netdev": netdev,
        }
        for device, port, index, gid, address, version, netdev in found
    ]


def _ib_port(device: str, labels: dict[str, str], port: str) -> dict[str, Any]:
    rate: int | None = number(labels.get("rate"))
    return {
        "device": device,
        "port": number(port) or 1,
        "state": labels.get("state", "").rpartition(":")[2].strip().lower(),
        "rate_gbps": float(rate) if rate is not None else None,
        "link_layer": labels.get("link layer", labels.get("link_layer", "")),
        "firmware": labels.get("firmware version", ""),
    }


def _labels(block: str) -> dict[str, str]:
    return {
        label.lower(): value
        for label, value in re.findall(r"^[ \t]*(\w[\w ]*?):[ \t]+(.*?)[ \t]*$", block, re.MULTILINE)
    }


def parse_ibstat(output: str) -> list[dict[str, Any]]:
    """`ibstat` or `ibstatus`: each {device, port, state, rate_gbps, link_layer, firmware}."""
    whole = plain(output)
    found = []
    for block in re.split(r"(?m)^(?=CA ')", whole):
        head = re.match(r"CA '([^']+)'", block)
        if head:
            first, *ports = re.split(r"(?m)^\s+Port (?=\d+:\s*$)", block)
            for port in ports:
                labels = {**_labels(first), **_labels(port)}
                found.append(_ib_port(head.group(1), labels, port))
    for block in re.split(r"(?m)^(?=Infiniband device ')", whole):
        head = re.match(r"Infiniband device '([^']+)' port (\d+)", block)
        if head:
            found.append(_ib_port(head.group(1), _labels(block), head.group(2)))
    return found
