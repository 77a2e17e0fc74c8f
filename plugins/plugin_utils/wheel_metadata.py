# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a wheel says of itself: name, version, licence."""

from __future__ import annotations

import zipfile
from email.parser import HeaderParser
from pathlib import Path

from ansible_collections.baremetal.sglang.plugins.module_utils.cyclonedx import Package

LONGEST_LICENCE = 80
PREFIX = "License :: "


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
