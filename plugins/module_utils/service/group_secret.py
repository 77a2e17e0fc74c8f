# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The secrets by which the members of a group know each other: who keeps which, and what a secret looks like."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

BYTES = 32
SECRET = re.compile(r"[0-9a-f]{64}")
FINGERPRINT_LETTERS = 12


def usable(text: str) -> bool:
    return SECRET.fullmatch(text) is not None


def fingerprint(secret: str) -> str:
    """Names a secret in the text of a unit; says nothing about it, because it is 256 random bits."""
    return hashlib.sha256(f"group secret {secret}".encode()).hexdigest()[:FINGERPRINT_LETTERS]


def groups(plan: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Instance -> {path, head} of every group that the host of this plan is in."""
    found = {}
    for name, instance in sorted(plan.get("instances", {}).items()):
        group = instance.get("service", {}).get("group")
        if group:
            found[name] = {"path": group["secret"], "head": group["members"][0]["host"]}
    return found


def kept_by(plan: Mapping[str, Any], host: str) -> dict[str, str]:
    """Instance -> path of the secrets whose first copy this host keeps."""
    return {name: group["path"] for name, group in groups(plan).items() if group["head"] == host}


def given(plan: Mapping[str, Any], kept: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """`kept`: host -> what the module read there. Instance -> {path, secret} that a member is given."""
    return {
        name: {"path": group["path"], "secret": str(kept.get(group["head"], {}).get(name, ""))}
        for name, group in groups(plan).items()
    }
