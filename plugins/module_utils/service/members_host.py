# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the members of a group reach each other and agree on the time, before anything that serves is touched."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Any

Planned = Mapping[str, Any]
# A closed port answers too: somebody is there, and lets us through.
ANSWERS = (0, errno.ECONNREFUSED)


def peers(plan: Planned, host: str) -> list[dict[str, Any]]:
    """The other members of every group that this host is in, and where the first of them will listen."""
    found = {}
    for name, instance in sorted(plan.get("instances", {}).items()):
        group = instance.get("service", {}).get("group")
        for member in group["members"] if group else ():
            if member["host"] != host:
                found[member["host"], name] = {**member, "instance": name, "port": group["ports"][0]}
    return [found[key] for key in sorted(found)]


def why_not(address: str, port: int, seconds: float) -> str:
    """What keeps this host from reaching an address; empty where it answers, with an open port or a closed one."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.settimeout(seconds)
        try:
            tried.connect((address, port))
        except (TimeoutError, socket.timeout):
            return f"no answer within {seconds:g} s"
        except OSError as error:
            return "" if error.errno in ANSWERS else str(error.strerror or error)
    return ""


def errors(looked: Mapping[str, Mapping[str, Any]], plan: Planned, host: str, most: float) -> list[str]:
    """Refusals for the groups of one host. `looked`: host -> {unreachable: [...], offset: seconds}."""
    found = []
    for item in looked.get(host, {}).get("unreachable", ()):
        found.append(
            f"REFUSED  serve.{item['instance']}.hosts: {host} does not reach {item['host']} at {item['address']} "
            f"port {item['port']}: {item['why']}. Look at the link, at ip route, and at other firewalls of both"
        )
    absent = sorted({item["host"] for item in peers(plan, host)} - set(looked))
    if absent:
        found.append(
            f"REFUSED  --limit: {', '.join(absent)} must take every step together with {host}: leave --limit out"
        )
    own = looked.get(host, {}).get("offset")
    for name, other in sorted({(item["instance"], item["host"]) for item in peers(plan, host)}):
        theirs = looked.get(other, {}).get("offset")
        if own is None or theirs is None or own - theirs <= most:
            # Said once, by the one that is ahead.
            continue
        found.append(
            f"REFUSED  serve.{name}.hosts: the clock of {host} is {own - theirs:.0f} s ahead of that of {other}, "
            f"{most:g} s are bearable. Set both with chrony or timedatectl set-time"
        )
    return found
