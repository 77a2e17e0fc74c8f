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
