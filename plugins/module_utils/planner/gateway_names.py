# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that would stand in the gateway's configuration, refused here and not by HAProxy on a host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..core.refusals import Refusal
from ..gateway.config import backend_name
from ..gateway.model import NAME as MODEL
from ..gateway.spec import is_address

HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
SERVER = re.compile(r"[A-Za-z0-9._-]{1,64}")


def models(wanted: Iterable[tuple[str, str]]) -> list[Refusal]:
    """Names that cannot stand in a path, a log and the gateway's configuration, or that would share a backend there."""
    refusals = []
    owners: dict[str, tuple[str, str]] = {}
    for instance, model in wanted:
        where = f"serve.{instance}.served_model_name = {model!r}"
        if not MODEL.fullmatch(model):
            what = "the gateway cannot serve a model of this name"
            fix = "use up to 128 letters, digits and . _ : / @ + -, beginning with a letter or digit"
            refusals.append(Refusal("front-name", "", where, what, fix))
            continue
        owner, other = owners.setdefault(backend_name(model), (instance, model))
        if other != model:
            what = f"the gateway cannot tell it from {other} of serve.{owner}"
            refusals.append(
                Refusal(
                    "front-name", "", where, what, "give one of them a name that differs in letters or digits"
                )
            )
    return refusals


def instances(names: Iterable[str]) -> list[Refusal]:
    """Names of servers in the gateway's configuration."""
    return [
        Refusal(
            "front-name",
            "",
            f"serve.{name!r}",
            "the gateway cannot name a server so",
            "use up to 64 letters, digits, dots, dashes and underscores",
        )
        for name in sorted(set(names))
        if not SERVER.fullmatch(name)
    ]


def hosts(addresses: Mapping[str, str], named: Iterable[str]) -> list[Refusal]:
    """Names and addresses that stand in certificates and in the gateway's configuration."""
    refusals = []
    for host in sorted(named):
        if not HOST.fullmatch(host):
            what = "the gateway reaches hosts by this name, and it is not a valid host name"
            fix = "rename it in the inventory: letters, digits, dots, dashes and underscores, with ansible_host for its address"
            refusals.append(Refusal("front-name", host, f"inventory host {host!r}", what, fix))
        address = str(addresses.get(host) or host)
        if address != host and not HOST.fullmatch(address) and not is_address(address):
            fix = "give an address or a host name"
            refusals.append(
                Refusal(
                    "front-name",
                    host,
                    f"ansible_host = {address!r}",
                    "this is neither an address nor a name",
                    fix,
                )
            )
    return refusals
