# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tuned MoE files that the collection or its user brings, with what is known of each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OURS, USERS = "collection", "user"


@dataclass(frozen=True)
class Tuned:
    name: str
    """As the engine asks for it."""
    source: str
    """Where it lies, in words for messages."""
    by: str
    tiles: Mapping[str, Mapping[str, Any]]
    triton: str = ""
    """The only Triton version that it is for; empty: any."""
    tuned_on: str = ""
    """Product name of the GPU."""
    origin: str = ""
    licence: str = ""
    measured: tuple[str, ...] = ()
    """GPUs on which it was compared with the default tiles."""

    def content(self) -> str:
        return content(self.tiles)

    def measured_words(self, device: str) -> str:
        shown = short(device)
        if any(short(other) == shown for other in self.measured):
            return f"measured on {shown}"
        if self.by == USERS and not self.measured:
            return "not said where it was measured"
        others = f", only on {', '.join(map(short, self.measured))}" if self.measured else ""
        return f"never measured on {shown}{others}"


def content(tiles: Mapping[str, Mapping[str, Any]]) -> str:
    """One batch size a line, the same bytes for the same tiles."""
    lines = ",\n".join(f"  {json.dumps(str(size))}: {json.dumps(dict(tile))}" for size, tile in tiles.items())
    return f"{{\n{lines}\n}}\n"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def short(device: str) -> str:
    """NVIDIA A800-SXM4-80GB as A800."""
    words = device.replace("_", " ").replace("NVIDIA ", "")
    return re.sub(r"[- ](SXM|PCIe|\d+ ?GB).*", "", words) or device


def tuned_from(
    name: str, tiles: Any, source: str, by: str, known: Mapping[str, Any], triton: str = ""
) -> Tuned:
    """`known` is the file's entry in the index beside it."""
    return Tuned(
        name=name,
        source=source,
        by=by,
        tiles=tiles if isinstance(tiles, Mapping) else {},
        triton=triton,
        tuned_on=str(known.get("tuned_on", "")),
        origin=str(known.get("origin", "")),
        licence=str(known.get("licence", "")),
        measured=tuple(str(item["gpu"]) for item in known.get("measured", ()) if "gpu" in item),
    )
