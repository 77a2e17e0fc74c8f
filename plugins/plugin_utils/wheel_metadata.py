# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wheel says of itself: name, version, licence."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from email.parser import HeaderParser
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle.cyclonedx import Package
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import kept

LONGEST_LICENCE = 80
PREFIX = "License :: "
# Another number where package_of reads something else out of the same wheel.
CACHE_FORMAT = 1


class Packages:
    """Kept by the wheel's hash: a big wheel's list of files alone takes long to read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, wheel: Path, sha256: str) -> Package:
        note = self.folder / f"{sha256}.json"
        try:
            kept_note = json.loads(note.read_bytes())
            if kept_note.pop("format") == CACHE_FORMAT and all(
                isinstance(word, str) for word in kept_note.values()
            ):
                return Package(**kept_note)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        found = package_of(wheel)
        kept(note, json.dumps({"format": CACHE_FORMAT, **asdict(found)}).encode())
        return found


def package_of(wheel: Path) -> Package:
    """Some wheels put the whole text of a licence where its name belongs; then the classifiers name it."""
    from packaging.utils import parse_wheel_filename

    name, version = parse_wheel_filename(wheel.name)[:2]
    headers = HeaderParser().parsestr(_metadata(wheel))
    words = " ".join((headers.get("License") or "").split())
    if words.upper() == "UNKNOWN" or len(words) > LONGEST_LICENCE:
        words = ""
    classified = [
        value.removeprefix(PREFIX).removeprefix("OSI Approved :: ").removeprefix("OSI Approved")
        for value in headers.get_all("Classifier", [])
        if value.startswith(PREFIX)
    ]
    return Package(
        str(name),
        str(version),
        expression=" ".join((headers.get("License-Expression") or "").split()),
        licence=words or ", ".join(sorted(filter(None, classified))),
    )


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.count("/") == 1 and member.endswith(".dist-info/METADATA"):
                return archive.read(member).decode("utf-8", errors="replace")
    return ""
