# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which family an RDMA device belongs to, and what its settings of a lossless network are."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from .entries import Nic

UNKNOWN = Nic("", "an RDMA card")
PLACE = re.compile(r"\{(netdev|device|port|priority|dscp|tos|pfc|pfc_pattern)\}")
PRIORITIES = 8


def nic_of(
    nics: Mapping[str, Nic], hardware: Collection[str], vendor: str = "", device: str = "", driver: str = ""
) -> Nic:
    """The entry that says most of what is known of a device. A declared device has neither vendor nor driver."""
    known = {"vendor": vendor.removeprefix("0x"), "device": device.removeprefix("0x"), "driver": driver}
    fitting = [(score, nic) for nic in nics.values() if (score := _score(nic, hardware, known))]
    return max(fitting, key=lambda item: item[0])[1] if fitting else UNKNOWN


def _score(nic: Nic, hardware: Collection[str], known: Mapping[str, str]) -> int:
    """0 where it does not fit."""
    if nic.hardware and not set(nic.hardware) & set(hardware):
        return 0
    score = 8 if nic.hardware else 0
    ids = (
        (4, nic.devices, known["device"]),
        (2, (nic.vendor,), known["vendor"]),
        (2, nic.drivers, known["driver"]),
    )
    for weight, wanted, found in ids:
        if not any(wanted) or not found:
            continue
        if found not in wanted:
            return 0
        score += weight
    return score or (1 if nic.default else 0)


def lineage(nics: Mapping[str, Nic], nic: Nic) -> list[Nic]:
    """The entry, those that it is like, and the default."""
    found = [nic]
    while (like := nics.get(found[-1].like)) is not None and like not in found:
        found.append(like)
    return found + [item for item in nics.values() if item.default and item not in found]


def lossless(nics: Mapping[str, Nic], nic: Nic, values: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Tools, the first that is there serves, and files of one port. `values`: netdev, device, port, priority, dscp, tos."""
    bits = ["1" if number == values["priority"] else "0" for number in range(PRIORITIES)]
    given = {**values, "pfc": ",".join(bits), "pfc_pattern": "\\s+".join(bits)}
    entries = lineage(nics, nic)
    return {
        part: [_filled(item, given) for entry in entries for item in entry.lossless.get(part, ())]
        for part in ("tools", "files")
    }


def _filled(value: Any, given: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _filled(
                item, {**given, "netdev": re.escape(str(given["netdev"]))} if key == "says" else given
            )
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_filled(item, given) for item in value]
    if isinstance(value, str):
        return PLACE.sub(lambda match: str(given[match[1]]), value)
    return value


def twins_key(nic: Nic, name: str) -> str:
    """The same for two devices behind one cable; "" where their names do not say it."""
    found = re.match(nic.twins, name) if nic.twins else None
    return "".join(found.groups("")) if found else ""
