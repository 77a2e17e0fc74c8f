# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RDMA devices as other tools print them, for captures that users send."""

from __future__ import annotations

import re
from typing import Any

from .values import plain


def parse_ibdev2netdev(output: str) -> list[dict[str, str]]:
    """Each {device, port, netdev, state}."""
    found = []
    for line in plain(output).splitlines():
        words = line.split()
        if (
            len(words) == 6
            and words[1] == "port"
            and words[3] == "==>"
            and words[5][:1] + words[5][-1:] == "()"
        ):
            found.append({"device": words[0], "port": words[2], "netdev": words[4], "state": words[5][1:-1]})
    return found


def parse_rdma_link(output: str) -> list[dict[str, Any]]:
    """The text of `rdma link`, keyed as `rdma -j link` does."""
    found = []
    for line in plain(output).splitlines():
        words = line.split()
        if words and re.fullmatch(r"\d{1,6}:", words[0]):
            words = words[1:]
        head = (
            re.fullmatch(r"([^/]{1,80})/(\d{1,4})", words[1])
            if len(words) > 1 and words[0] == "link"
            else None
        )
        if head:
            labels = dict(zip(words[2::2], words[3::2]))
            found.append({**labels, "ifname": head.group(1), "port": int(head.group(2))})
    return found


def parse_show_gids(output: str) -> list[dict[str, Any]]:
    """Each {device, port, index, gid, type, address, netdev}; types spelled as sysfs does."""
    types = {"v1": "IB/RoCE v1", "v2": "RoCE v2"}
    found = []
    for line in plain(output).splitlines():
        words = line.split()
        if len(words) not in (6, 7) or not (words[1].isdecimal() and words[2].isdecimal()):
            continue
        device, port, index, gid, *address, version, netdev = words
        if version in types and re.fullmatch(r"[0-9a-fA-F:]{39}", gid):
            found.append(
                {
                    "device": device,
                    "port": int(port),
                    "index": int(index),
                    "gid": gid,
                    "type": types[version],
                    "address": address[0] if address else "",
                    "netdev": netdev,
                }
            )
    return found


def _ib_port(device: str, labels: dict[str, str], port: str) -> dict[str, Any]:
    rate: int | None = number(labels.get("rate"))
    return {
        "device": device,
        "port": number(port) or 1,
        "state": labels.get("state", "").rpartition(":")[2].strip().lower(),
        "phys_state": labels.get("physical state", labels.get("phys state", ""))
        .rpartition(":")[2]
        .strip()
        .lower(),
        "rate_gbps": float(rate) if rate is not None else None,
        "link_layer": labels.get("link layer", labels.get("link_layer", "")),
        "firmware": labels.get("firmware version", ""),
    }


_HEADS = (re.compile(r"CA '([^']{1,80})'"), re.compile(r"Infiniband device '([^']{1,80})' port (\d{1,4})"))


def parse_ibstat(output: str) -> list[dict[str, Any]]:
    """`ibstat` or `ibstatus`: each {device, port, state, phys_state, rate_gbps, link_layer, firmware}."""
    found: list[dict[str, Any]] = []
    device, port = "", ""
    of_device: dict[str, str] = {}
    of_port: dict[str, str] = {}

    def close() -> None:
        if device and port:
            found.append(_ib_port(device, {**of_device, **of_port}, port))

    for line in plain(output).splitlines():
        adapter, status = (pattern.match(line) for pattern in _HEADS)
        label, value = line.partition(":")[::2]
        if adapter or status:
            close()
            device, port, of_device, of_port = (adapter or status).group(1), "", {}, {}  # type: ignore[union-attr]
            port = status.group(2) if status else ""
        elif re.fullmatch(r"[ \t]{1,16}Port \d{1,4}:[ \t]*", line[:80]) and len(line) < 80:
            close()
            port, of_port = label.split()[1], {}
        elif value.strip():
            (of_port if port else of_device)[label.strip().lower()] = value.strip()
    close()
    return found
