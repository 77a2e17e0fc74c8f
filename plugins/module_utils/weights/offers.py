# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks of its planned weights, and where on the controller it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .manifest import MANIFEST


class OffersError(Exception):
    """Something that a host needs is nowhere; every gap is named."""


def rounds(
    planned: Mapping[str, Iterable[Mapping[str, Any]]], missing: Mapping[str, Iterable[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Each model that some host lacks, once for all hosts: who is to have it, and who can give it already.

    Both arguments are by host, in the order in which a first host is chosen.
    """
    found: dict[str, dict[str, Any]] = {}
    for host, items in missing.items():
        for item in items:
            shared = {key: value for key, value in item.items() if key != "damage"}
            found.setdefault(item["path"], {**shared, "hosts": [], "seeds": {}})["hosts"].append(host)
    for host, plan in planned.items():
        for wanted in plan:
            entry = found.get(wanted["path"])
            if entry and host not in entry["hosts"]:
                entry["seeds"][host] = wanted["path"]
    return list(found.values())


def held(
    planned: Mapping[str, Iterable[Mapping[str, Any]]], looked: Mapping[str, Iterable[Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """What hosts have whole and can give to one that comes late, when the controller no longer holds it."""
    offers: dict[str, dict[str, Any]] = {}
    for host, items in planned.items():
        for item, look in zip(items, looked.get(host, ())):
            if look.get("state") == "whole" and look.get("manifest_sha256"):
                offer = {
                    "source": "",
                    "below_bundle": "",
                    "manifest": "",
                    "manifest_text": "",
                    "manifest_sha256": look["manifest_sha256"],
                    "manifest_on": {"host": host, "path": f"{item['path']}/{MANIFEST}"},
                }
                offers.setdefault(f"{item['model']}/{item['revision']}", offer)
    return offers


def to_bring(
    planned: Iterable[Mapping[str, Any]],
    looked: Iterable[Mapping[str, Any]],
    offers: Mapping[str, Any],
    host: str,
) -> list[dict[str, Any]]:
    """Planned weights that are not whole here, each with the offer that mends that."""
    found, problems = [], []
    for item, look in zip(planned, looked):
        name, state = f"{item['model']}/{item['revision']}", look["state"]
        offer = offers.get(name)
        # A folder that the plan names by its path and that somebody else made is used as it is.
        if state == "whole" or (state == "foreign" and item["path"] == item["model"]):
            continue
        if offer:
            found.append({**item, **offer, "damage": list(look.get("damage", ()))})
            continue
        now = {"absent": "is not there", "foreign": "was not put there by this collection"}.get(
            state, f"is {state}"
        )
        problems.append(
            f"REFUSED  {item['path']} on {host} {now}\n"
            f"  neither weights_dir nor the bundle holds {name}: fetch it with playbooks/weights.yml on a connected "
            "machine and give -e weights_dir=FOLDER, or a bundle that carries it"
        )
    if problems:
        raise OffersError("\n".join(problems))
    return found
