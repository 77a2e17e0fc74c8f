# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle's bill of materials in CycloneDX 1.6. No times and no random numbers: the same content, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Package:
    """What a file of a bundle is called where software is named, and under which licence it came."""

    name: str
    version: str
    type: str = "pypi"
    """Kind of package address: pypi, deb, conda."""
    expression: str = ""
    """Licence as an SPDX expression, where its metadata says one."""
    licence: str = ""
    """Licence in the author's own words, where there is no expression."""

    @property
    def purl(self) -> str:
        return f"pkg:{self.type}/{quote(self.name, safe='/')}@{quote(self.version)}"

    @property
    def licence_words(self) -> str:
        return self.expression or self.licence or "not stated in its metadata"


def document(files: Mapping[str, Mapping[str, Any]], packages: Mapping[str, Package]) -> str:
    """Every listed file is a component, and knows the hash that the manifest gives it."""
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "bundle", "name": "bundle"}},
        "components": [_component(path, files[path], packages.get(path)) for path in sorted(files)],
    }
    return json.dumps(bom, indent=1, sort_keys=True) + "\n"


def _component(path: str, entry: Mapping[str, Any], package: Package | None) -> dict[str, Any]:
    own: dict[str, Any] = {
        "bom-ref": path,
        "hashes": [{"alg": "SHA-256", "content": entry["sha256"]}],
    }
    if package is None:
        kind = "machine-learning-model" if entry["kind"] == "weights" else "file"
        return {**own, "type": kind, "name": path}
    own |= {"type": "library", "name": package.name, "version": package.version, "purl": package.purl}
    if package.expression:
        own["licenses"] = [{"expression": package.expression}]
    elif package.licence:
        own["licenses"] = [{"license": {"name": package.licence}}]
    return own


def licences(packages: Mapping[str, Package]) -> str:
    """One line a package, for people."""
    lines = {f"{item.name} {item.version}\t{item.licence_words}\n" for item in packages.values()}
    return "".join(sorted(lines))


def problems_of(text: str, files: Mapping[str, Mapping[str, Any]], where: str) -> list[str]:
    """Where a bill of materials and the manifest's files disagree."""
    try:
        found = {
            entry["bom-ref"]: {item["content"] for item in entry["hashes"]}
            for entry in json.loads(text)["components"]
        }
    except (ValueError, KeyError, TypeError):
        return [f"{where}: is not a bill of materials"]
    problems = [
        f"{where}: names {path}, which the bundle does not hold" for path in sorted(set(found) - set(files))
    ]
    for path, entry in sorted(files.items()):
        if path not in found:
            problems.append(f"{where}: does not name {path}")
        elif found[path] != {entry["sha256"]}:
            problems.append(f"{where}: gives {path} another sha256 than the manifest")
    return problems
