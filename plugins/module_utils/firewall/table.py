# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own nftables table as text; it names its ports and leaves everything else of a host alone."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

# Each member of a group names all others: the same words come again and again.
address_of = functools.lru_cache(maxsize=4096)(ipaddress.ip_address)
FAMILY, TABLE = "inet", "baremetal_sglang"
PRIORITY = -5
"""Just before the priority of ordinary filters: what is dropped here, no other table lets in."""


def table_text(
    rules: Iterable[Mapping[str, Any]],
    owners: Iterable[Mapping[str, Any]] = (),
    uids: Mapping[str, int] | None = None,
) -> str:
    """A script that makes the whole table anew in one step; empty without a rule.

    Each rule has `port`, `what` and `sources`, the addresses that may open a connection; none: the host alone.
    Only openings are looked at (SYN without ACK): a local program that happens to hold such a port as the
    source of its own connection keeps its answers, and no connection tracking is switched on.

    Each of `owners` has `ports`, `what`, `user`, `addresses` of those who listen there, `here`, whether this host
    does, and `own`, its address among them: only that user and root may open connections to these ports, and answer
    on them. `uids` has the users that the host knows; one that it does not know leaves the ports to root.
    """
    lines = [line for rule in sorted(rules, key=lambda rule: int(rule["port"])) for line in _lines(rule)]
    if not lines:
        return ""
    going = [line for owner in owners for line in _owner_lines(owner, uids or {})]
    return "\n".join(
        [
            f"table {FAMILY} {TABLE}",
            f"delete table {FAMILY} {TABLE}",
            f"table {FAMILY} {TABLE} {{",
            "\tchain input {",
            f"\t\ttype filter hook input priority {PRIORITY}; policy accept;",
            '\t\tiif "lo" accept',
            *(f"\t\t{line}" for line in lines),
            "\t}",
            *(
                [
                    "\tchain output {",
                    f"\t\ttype filter hook output priority {PRIORITY}; policy accept;",
                    *(f"\t\t{line}" for line in going),
                    "\t}",
                ]
                if going
                else []
            ),
            "}",
            "",
        ]
    )


def _lines(rule: Mapping[str, Any]) -> list[str]:
    port = int(rule["port"])
    opening = f"tcp dport {port} tcp flags & (syn | ack) == syn"
    lines = [f"# {' '.join(str(rule['what']).split())}"]
    for version, word in ((4, "ip"), (6, "ip6")):
        found = sorted(
            {item for item in map(address_of, map(str, rule["sources"])) if item.version == version}
        )
        if found:
            lines.append(f"{opening} {word} saddr {{ {', '.join(map(str, found))} }} accept")
    return [*lines, f"{opening} drop"]


def _owner_lines(owner: Mapping[str, Any], uids: Mapping[str, int]) -> list[str]:
    """Names of users are not left to nft: at boot, when the table is loaded, a directory of users may not answer.

    A packet without a socket has no owner and is dropped too: retries of a socket that was closed, and answers by
    SYN cookie, which a listener of somebody else could force by filling its own queue.
    """
    ports = ", ".join(str(port) for port in sorted({int(port) for port in owner["ports"]}))
    known = uids.get(str(owner["user"]))
    allowed = ", ".join(str(uid) for uid in sorted({0, *([int(known)] if known is not None else [])}))
    opening = f"tcp dport {{ {ports} }} tcp flags & (syn | ack) == syn"
    answer = f"tcp sport {{ {ports} }} tcp flags & (syn | ack) == (syn | ack)"
    where = []
    for version, word in ((4, "ip"), (6, "ip6")):
        there = sorted({item for item in map(address_of, owner["addresses"]) if item.version == version})
        if there:
            where.append(f"{word} daddr {{ {', '.join(map(str, there))} }}")
    own = address_of(str(owner["own"]))
    # A listener on all addresses is reached by another address of its host as well.
    where.append(f"{'ip' if own.version == 4 else 'ip6'} saddr {own}")
    if owner["here"]:
        where.append('oif "lo"')
    lines = [
        f"# {' '.join(str(owner['what']).split())}: root and {' '.join(str(owner['user']).split())} only"
    ]
    for match in where:
        lines += [f"{opening} {match} meta skuid {{ {allowed} }} accept", f"{opening} {match} drop"]
    if owner["here"]:
        lines += [f"{answer} meta skuid {{ {allowed} }} accept", f"{answer} drop"]
    return lines
