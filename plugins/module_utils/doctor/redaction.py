# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of texts what names people, places and secrets, so that they can be given to strangers. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SECRET = "(removed)"
# A word that announces a secret, what joins the two, and the secret: in headers, JSON, variables and flags.
WORDS = r"(?:api[_-]?key|secret|token|password|passwd|passphrase|credential|authorization|cookie)"
VALUE = r"(?:bearer\s{1,8}|basic\s{1,8})?)([^\s\"',;&}\]]{6,})"
ANNOUNCED = (
    re.compile(rf"({WORDS}[\"']?\s{{0,8}}[:=]\s{{0,8}}[\"']?{VALUE}", re.I),
    re.compile(rf"(--[\w-]{{0,40}}{WORDS}\s{{1,8}}[\"']?{VALUE}", re.I),
)
BEGIN, END = "-----BEGIN ", "-----END "
LONGEST_BLOCK = 20_000
KNOWN = re.compile(r"\b(?:sk-|hf_|ghp_|glpat-|AKIA)[A-Za-z0-9_-]{8,}")
IN_URL = re.compile(r"(?<=://)[^/\s@]{1,200}@")
MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.I)
V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
V6 = re.compile(
    r"(?<![\w:.])(?:[0-9a-f]{1,4}:){2,7}[0-9a-f]{0,4}(?![\w:.])|(?<![\w:.])[0-9a-f]{1,4}::[0-9a-f:]{1,35}",
    re.I,
)
GPU = re.compile(r"\bGPU-[0-9a-f]{8}-[0-9a-f-]{27}\b", re.I)
SERIAL = re.compile(r"(serial(?: number)?[\"']?\s{0,20}[:=>]\s{0,20}[\"']?)(\w[\w-]{5,})", re.I)
# Counts of tokens are figures, not tokens.
FIGURE = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[a-z%]{0,3})\Z", re.I)


@dataclass
class Redaction:
    """One for a whole archive: what was the same before is the same afterwards, under another name."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Names of hosts, users and domains -> what stands in their place."""
    _given: dict[tuple[str, str], str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        text = _without_keys(text)
        text = KNOWN.sub(SECRET, text)
        text = IN_URL.sub(f"{SECRET}@", text)
        for pattern in ANNOUNCED:
            text = pattern.sub(self._announced, text)
        text = SERIAL.sub(lambda found: found[1] + self._instead("serial", found[2]), text)
        text = GPU.sub(lambda found: self._instead("GPU", found[0].lower()), text)
        text = MAC.sub(lambda found: self._instead("mac", found[0].lower()), text)
        text = V4.sub(self._address, text)
        text = V6.sub(self._address, text)
        for name in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", self.names[name], text)
        return text

    @staticmethod
    def _announced(found: re.Match[str]) -> str:
        figure = FIGURE.match(found[2]) or found[2] == SECRET
        return found[0] if figure else found[1] + SECRET

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified:
            return found[0]
        return self._instead("address", str(address))

    def _instead(self, kind: str, value: str) -> str:
        number = sum(1 for other, _value in self._given if other == kind) + 1
        return self._given.setdefault((kind, value), f"{kind}-{number}")


def _without_keys(text: str) -> str:
    """Without private keys and certificates, from their first line to their last."""
    parts, place = [], 0
    while (begin := text.find(BEGIN, place)) >= 0:
        end = text.find(END, begin)
        if end < 0:
            break
        if end - begin > LONGEST_BLOCK:
            parts.append(text[place : begin + len(BEGIN)])
            place = begin + len(BEGIN)
            continue
        line = text.find("\n", end)
        parts += [text[place:begin], SECRET]
        last = text.find("-----", end + len(END))
        place = last + 5 if last >= 0 and (line < 0 or last < line) else end + len(END)
    return "".join([*parts, text[place:]])


def numbered(names: Iterable[str], kind: str) -> dict[str, str]:
    """host-1, host-2 ... in the order of the inventory."""
    return {name: f"{kind}-{number}" for number, name in enumerate(dict.fromkeys(filter(None, names)), 1)}
