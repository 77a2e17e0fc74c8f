# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, roles and lifetimes of the own authority's certificates. Reads nothing, signs nothing."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DAY = 86400
ORGANIZATION = "baremetal.sglang"
LONGEST_OWNER = 64
LONGEST_NAME = 253
PROMETHEUS_FILES = "prometheus-files"
"""Owner of the certificate for a Prometheus that is not installed by this collection."""
# An underscore is no part of a host name in DNS, and common in inventories.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True)
class Settings:
    """`gateway.certificate` of the policy."""

    days: int = 180
    renew_days: int = 60
    authority_days: int = 3650
    backdate_hours: int = 24

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        return cls(**{name: int(data[name]) for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class Role:
    """What a certificate may be used for; its organizational unit is the role's name."""

    server: bool
    client: bool


ROLES = {
    "front": Role(server=True, client=False),
    "internal": Role(server=True, client=False),
    "gateway": Role(server=False, client=True),
    "monitoring": Role(server=False, client=True),
}


def name_error(name: Any, wildcard: bool = False) -> str:
    """Why a certificate cannot hold this name or address; empty when it can."""
    if not isinstance(name, str) or not name:
        return "a name must be text"
    address = as_address(name)
    if address is not None:
        return "" if "%" not in name else "an address with a zone is valid on one host only"
    plain = name[2:] if wildcard and name.startswith("*.") else name
    if plain != name and plain.count(".") < 1:
        return "a wildcard must stand before at least two labels, such as *.llm.example"
    if not _DNS_NAME.fullmatch(plain) or len(name) > LONGEST_NAME:
        return "this is neither a host name nor an address"
    if "." in plain and plain.rpartition(".")[2].isdigit():
        return "a name that ends in a number looks like an address and is none"
    return ""


def owner_error(owner: Any) -> str:
    """The same for the common name, which HAProxy compares with a server's name as well."""
    said = name_error(owner)
    if not said and len(owner) > LONGEST_OWNER:
        return f"the name is longer than the {LONGEST_OWNER} characters of a common name"
    return said


def as_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def covers(pattern: str, name: str) -> bool:
    """Whether a certificate for `pattern` is accepted for `name`."""
    first, second = as_address(pattern), as_address(name)
    if first is not None or second is not None:
        return first == second
    pattern, name = pattern.lower(), name.lower()
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == name.partition(".")[2])


@dataclass(frozen=True)
class Wanted:
    """A certificate as the plan wants it. No part of this is ever read from a host."""

    role: str
    owner: str
    names: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Wanted:
        return cls(str(data["role"]), str(data["owner"]), tuple(map(str, data.get("names") or ())))

    def to_dict(self) -> dict[str, Any]:
        return {"role": self.role, "owner": self.owner, "names": list(self.names)}

    def errors(self) -> list[str]:
        """What the authority must not sign."""
        found = []
        if self.role not in ROLES:
            found.append(f"unknown role {self.role!r}")
        if owner_error(self.owner):
            found.append(f"owner {self.owner!r}: {owner_error(self.owner)}")
        for name in self.names:
            said = name_error(name, wildcard=self.role == "front")
            if said:
                found.append(f"name {name!r}: {said}")
        role = ROLES.get(self.role)
        if role and role.server and not self.names:
            found.append(f"a certificate of role {self.role} needs at least one name")
        if role and not role.server and self.names:
            found.append(f"a certificate of role {self.role} must not hold names: nobody connects to it")
        return found


@dataclass(frozen=True)
class Issued:
    """One certificate in the authority's record."""

    serial: str
    owner: str
    role: str
    names: tuple[str, ...]
    issued: int
    ends: int
    authority: str
    key: str
    sha256: str
    revoked: int = 0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Issued:
        return cls(**{**data, "names": tuple(data["names"])})

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.names)}


@dataclass
class Record:
    """All that the authority remembers beside its keys."""

    certificates: list[Issued] = field(default_factory=list)
    blocked: dict[str, int] = field(default_factory=dict)
    """Owners whose certificates were revoked by name, and when: nothing is issued to them until they are renewed."""
    renewed: dict[str, int] = field(default_factory=dict)
    """Owners whose certificates from before this time are to be replaced."""

    def find(self, sha256: str) -> Issued | None:
        return next((item for item in self.certificates if item.sha256 == sha256), None)

    def newest(self, owner: str, role: str) -> Issued | None:
        mine = [item for item in self.certificates if (item.owner, item.role) == (owner, role)]
        return mine[-1] if mine else None


def why_issue(
    wanted: Wanted, sha256: str, fits: bool, record: Record, authority: str, now: int, renew_days: int
) -> str:
    """Why the host needs another certificate than the one with this hash; empty when it does not."""
    if not sha256:
        return "there is none"
    found = record.find(sha256)
    if found is None:
        return "this authority has no record of it"
    if (found.owner, found.role) != (wanted.owner, wanted.role):
        return f"it was issued to {found.owner} as {found.role}"
    if found.revoked:
        return "it is revoked"
    if not fits:
        return "it does not belong to the key"
    if found.authority != authority:
        return "the authority has a new key"
    if set(found.names) != set(wanted.names):
        return (
            f"it is for {', '.join(found.names) or 'no name'}, not for {', '.join(wanted.names) or 'no name'}"
        )
    if found.issued < record.renewed.get(wanted.owner, 0):
        return "a new one was asked for"
    left = (found.ends - now) // DAY
    return f"it has {left} days left" if left < renew_days else ""


def state_of(item: Issued, record: Record, hosts: Iterable[str], now: int, renew_days: int) -> str:
    if item.revoked:
        return "revoked"
    if item.ends <= now:
        return "expired"
    if item.owner not in (*hosts, PROMETHEUS_FILES):
        return "not in the inventory"
    newest = record.newest(item.owner, item.role)
    if newest is not None and newest.serial != item.serial:
        return "superseded"
    return "renewal due" if (item.ends - now) // DAY < renew_days else "valid"


def listing(record: Record, hosts: Iterable[str], now: int, renew_days: int) -> list[dict[str, str]]:
    """One row a certificate, by owner and role, newest first; those that ended are left out unless nothing replaced them."""
    known = tuple(hosts)
    rows = []
    for item in sorted(record.certificates, key=lambda one: (one.owner, one.role, -one.issued)):
        state = state_of(item, record, known, now, renew_days)
        newest = record.newest(item.owner, item.role)
        if item.ends <= now and newest is not None and newest.serial != item.serial:
            continue
        rows.append(
            {
                "names": ", ".join(item.names) or "-",
                "owner": item.owner,
                "role": item.role,
                "serial": item.serial,
                "expires": date(item.ends),
                "state": state,
            }
        )
    return rows


def date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def table(rows: Iterable[Mapping[str, str]]) -> list[str]:
    columns = ("owner", "role", "state", "expires", "serial", "names")
    lines = [list(columns), *([row[column] for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return ["  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines]


def matching(record: Record, asked: str) -> list[Issued]:
    """Certificates that -e revoke names: by owner, or by serial in any usual spelling."""
    serial = asked.lower().replace(":", "")
    serial = (serial[2:] if serial.startswith("0x") else serial).lstrip("0")
    return [item for item in record.certificates if item.owner == asked or item.serial.lstrip("0") == serial]
