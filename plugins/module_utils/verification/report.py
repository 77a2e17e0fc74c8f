# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of all hosts as a table for people, as JSON and as JUnit XML for machines. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from .run import FAILED, KNOWN, PASSED, SKIPPED

WORDS = {PASSED: "ok", FAILED: "FAILED", KNOWN: "known", SKIPPED: "skipped"}
WIDTH = 150
UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def report(hosts: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """`hosts` are the results of the module verify: per host a list of {instance, results, identity, nnodes}."""
    rows = [
        {"host": host, "instance": one["instance"], **result}
        for host, found in sorted(hosts.items())
        for one in found
        for result in one["results"]
        if result["name"] != "identity"
    ]
    rows += parity(hosts)
    silent = sorted(host for host, found in hosts.items() if not found)
    rows += [
        {"host": host, "instance": "", "tag": "health", "name": "asked", "status": FAILED, "seconds": 0,
         "said": "the host gave no results", "fix": "see the run above for its failure"}
        for host in silent
    ]  # fmt: skip
    counts = {status: sum(1 for row in rows if row["status"] == status) for status in WORDS}
    return {
        "rows": rows,
        "counts": counts,
        "failures": counts[FAILED],
        "seconds": round(
            max((sum(row["seconds"] for row in rows if row["host"] == host) for host in hosts), default=0), 1
        ),
        "lines": lines(rows, counts),
        "junit": junit(rows),
    }


def parity(hosts: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The hosts of one instance must be alike; so must those that serve one model side by side."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    asked = False
    for host, found in sorted(hosts.items()):
        for one in found:
            asked = asked or any(result["name"] == "identity" for result in one["results"])
            if one.get("identity"):
                groups.setdefault(one["instance"], {})[host] = one["identity"]
    rows = []
    for instance, members in sorted(groups.items()):
        row = {
            "host": ", ".join(members),
            "instance": instance,
            "tag": "parity",
            "name": "alike",
            "seconds": 0.0,
            "fix": "",
        }
        if len(members) < 2:
            rows.append({**row, "status": SKIPPED, "said": "one host serves it: nothing to compare with"})
            continue
        differ = []
        for key in sorted({key for identity in members.values() for key in identity}):
            values = {host: identity.get(key, "") for host, identity in members.items()}
            if len(set(values.values())) > 1:
                differ.append(
                    f"{key}: " + ", ".join(f"{host} {value or 'none'}" for host, value in values.items())
                )
        if differ:
            rows.append(
                {
                    **row,
                    "status": FAILED,
                    "said": "; ".join(differ),
                    "fix": "site.yml brings them to one state",
                }
            )
        else:
            rows.append({**row, "status": PASSED, "said": f"{len(members)} hosts are alike"})
    return rows if asked else []


def lines(rows: list[dict[str, Any]], counts: Mapping[str, int]) -> list[str]:
    found = []
    before = None
    wide = max((len(f"{row['tag']}: {row['name']}") for row in rows), default=0)
    for row in rows:
        if (row["host"], row["instance"]) != before:
            before = (row["host"], row["instance"])
            found.append(f"{row['host']}  {row['instance']}".rstrip())
        name = f"{row['tag']}: {row['name']}"
        said = " ".join(str(row["said"]).split())
        if row["status"] in (FAILED, KNOWN) and row["fix"]:
            said = f"{said}; {row['fix']}"
        text = f"  {WORDS[row['status']]:8}{name:{wide}}  {row['seconds']:6.1f} s  {said}"
        found.append(text if row["status"] in (FAILED, KNOWN) else text[:WIDTH])
    known = f"{counts[KNOWN]} failed as the plan warned, " if counts[KNOWN] else ""
    found.append(f"{counts[PASSED]} passed, {counts[FAILED]} failed, {known}{counts[SKIPPED]} skipped")
    return found


def junit(rows: list[dict[str, Any]]) -> str:
    suites: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        suites.setdefault(f"{row['host']}.{row['instance']}", []).append(row)
    parts = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for name, members in suites.items():
        failed = sum(1 for row in members if row["status"] == FAILED)
        skipped = sum(1 for row in members if row["status"] in (SKIPPED, KNOWN))
        seconds = sum(row["seconds"] for row in members)
        parts.append(
            f'<testsuite name={quoteattr(name)} tests="{len(members)}" failures="{failed}" skipped="{skipped}" '
            f'errors="0" time="{seconds:.3f}">'
        )
        for row in members:
            where = quoteattr(f"{name}.{row['tag']}")
            parts.append(
                f'<testcase classname={where} name={quoteattr(row["name"])} time="{row["seconds"]:.3f}">'
            )
            said = UNPRINTABLE.sub("?", str(row["said"]))
            if row["status"] == FAILED:
                parts.append(
                    f"<failure message={quoteattr(said)}>{escape(said)} {escape(row['fix'])}</failure>"
                )
            elif row["status"] in (SKIPPED, KNOWN):
                parts.append(f"<skipped message={quoteattr(said)}/>")
            else:
                parts.append(f"<system-out>{escape(said)}</system-out>")
            parts.append("</testcase>")
        parts.append("</testsuite>")
    return "\n".join([*parts, "</testsuites>"]) + "\n"
