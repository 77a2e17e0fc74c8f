# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that the own authority signs for hosts with a gateway or an internal listener, and names that it must not sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.refusals import Refusal
from ..gateway.certificates import covers, owner_error
from ..gateway.spec import Gateway
from .case import Inputs


def planned_certificates(
    inputs: Inputs, asked: Gateway, host: str, section: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What the own authority signs for a host: one certificate a role, so that none is accepted in place of another."""
    mine = list(dict.fromkeys([host, *filter(None, [inputs.addresses.get(host)])]))
    found = []
    if section["front"] and not section["front"]["given"]:
        names = list(dict.fromkeys([*mine, *asked.names]))
        found.append({"role": "front", "owner": host, "names": names})
    if section["front"] and any(
        server["tls"] for servers in section["front"]["models"].values() for server in servers
    ):
        found.append({"role": "gateway", "owner": host, "names": []})
    if section["inner"]:
        found.append({"role": "internal", "owner": host, "names": mine})
    return found


def owner_refusals(host: str, section: Mapping[str, Any]) -> list[Refusal]:
    said = owner_error(host) if section["certificates"] else ""
    fix = "give the host a name of letters, digits, dots and hyphens, and its address with ansible_host"
    return [Refusal("front-name", host, f"inventory host {host!r}", said, fix)] if said else []


def name_refusals(inputs: Inputs, asked: Gateway, hosts: Iterable[str]) -> list[Refusal]:
    """A gateway must not get a certificate in the name of another host: internal connections trust these names."""
    known = tuple(hosts)
    refusals = []
    for name in asked.names:
        theirs = [
            other
            for other in known
            for called in (other, inputs.addresses.get(other, ""))
            if called and covers(name, called) and list(asked.hosts) != [other]
        ]
        if theirs:
            what = f"it is a name of {', '.join(dict.fromkeys(theirs))} in the inventory"
            fix = "leave it out: every gateway host has its own name and address in its certificate already"
            refusals.append(Refusal("front-name", "", f"gateway.names = {name}", what, fix))
    spellings: dict[str, list[str]] = {}
    for host in known:
        spellings.setdefault(host.lower(), []).append(host)
    fix = "rename one of them: host names in certificates are compared without regard to case"
    return refusals + [
        Refusal("front-name", "", f"inventory hosts {', '.join(same)}", "they differ in case only", fix)
        for same in spellings.values()
        if len(same) > 1
    ]
