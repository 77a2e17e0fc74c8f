# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Debian packages a bundle is to carry: those that plans name, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .manifest import BundleError

Entry = dict[str, Any]


def wanted(
    plans: Iterable[Mapping[str, Any]],
    given: Iterable[Mapping[str, Any]],
    table: Mapping[str, Any],
    derive: bool,
) -> list[Entry]:
    """One entry for each release and architecture, in their order; a planned one is in plans and was not asked for."""
    found = _asked_for(given)
    asked = {key: bool(entry["packages"]) for key, entry in found.items()}
    everything: set[str] = set()
    problems = []
    for plan in plans:
        packages, system = plan["host_settings"]["packages"], _system(plan, table)
        if not packages or not system["deb"]:
            continue
        everything |= set(packages)
        key = (system["codename"], system["arch"])
        if key in found or (derive and system["codename"]):
            found.setdefault(key, _entry(*key))["packages"] += packages
        elif derive and not asked:
            problems.append(
                f"bundle_debs: the plan of {plan['host']} names packages ({', '.join(packages)}), and the code name of "
                f"{plan['facts']['os']} is not in files/operating_systems.yml: set bundle_debs: [{{release: CODENAME, "
                f"arch: {system['arch']}}}], or bundle_debs_planned: false where they are installed already"
            )
    if problems:
        raise BundleError("\n".join(problems))
    for key, named in asked.items():
        if not named and not found[key]["packages"]:
            found[key]["packages"] = list(everything)
    return [
        {
            **entry,
            "packages": sorted(set(entry["packages"])),
            "sources": list(dict.fromkeys(entry["sources"])),
            "planned": key not in asked,
        }
        for key, entry in sorted(found.items())
    ]


def _entry(release: str, arch: str) -> Entry:
    return {"release": release, "arch": arch, "packages": [], "sources": []}


def _asked_for(given: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Entry]:
    found: dict[tuple[str, str], Entry] = {}
    for entry in given:
        if wrong := {"release", "arch"} - set(entry) | set(entry) - set(_entry("", "")):
            raise BundleError(
                f"bundle_debs: an entry has release and arch, and may have packages and sources; look at "
                f"{', '.join(sorted(wrong))} in {dict(entry)}"
            )
        made = found.setdefault((entry["release"], entry["arch"]), _entry(entry["release"], entry["arch"]))
        for name in ("packages", "sources"):
            made[name] += entry.get(name) or []
    return found


def _system(plan: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """How Debian calls the release and the architecture of a host."""
    name, _unused, version = plan["facts"]["os"].partition(" ")
    alike = [entry for entry in table["operating_systems"].values() if entry["id"] == name]
    family = table["families"].get(alike[0]["family"] if alike else "", {})
    arch = plan["facts"]["arch"]
    return {
        "deb": family.get("format") == "deb",
        "codename": next(
            (entry.get("codename", "") for entry in alike if entry["version_id"] == version), ""
        ),
        "arch": family.get("architectures", {}).get(arch, arch),
    }
