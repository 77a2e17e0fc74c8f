# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an address can be the one by which other hosts reach a host."""

from __future__ import annotations

import ipaddress


def why_unusable(text: str) -> str:
    """What keeps other hosts from reaching a host there; empty where nothing does, and for a name."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped is not None:
        return f"stands for {mapped}: write that"
    if found.is_unspecified:
        return "means every address of a host, not one"
    if found.is_loopback:
        return "is the loopback of every host"
    if found.is_multicast:
        return "is a multicast group, not a host"
    if found.is_link_local:
        return "is valid on one link only"
    # 0.0.0.0/8 means "this network"; 240.0.0.0/4 and the broadcast address are no host's.
    if found.version == 4 and (found.is_reserved or int(found) >> 24 == 0):
        return "is reserved and no host's"
    return ""
