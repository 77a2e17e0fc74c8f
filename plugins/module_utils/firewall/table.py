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


def table_text(rules: Iterable[Mapping[str, Any]]) -> str:
    """A script that makes the whole table anew in one step; empty without a rule.

    Each rule has `port`, `what` and `sources`, the addresses that may open a connection; none: the host alone.
    Only openings are looked at (SYN without ACK): a local program that happens to hold such a port as the
    source of its own connection keeps its answers, and no connection tracking is switched on.
    """
    lines = [line for rule in sorted(rules, key=lambda rule: int(rule["port"])) for line in _lines(rule)]
    if not lines:
        return ""
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
