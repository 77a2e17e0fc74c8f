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
