# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of ours is on the host, and what serves."""

from __future__ import annotations

import re
from typing import Any

from .host import HostIo
from .values import labelled

ROOT = "/opt/sglang"
UNITS = "/etc/systemd/system"
_UNIT = re.compile(r"sglang-(.+)\.service\Z")


def parse_properties(text: str) -> dict[str, str]:
    """KEY=value lines of `systemctl show`."""
    return {key: value for key, value in labelled(text, "=") if key.isidentifier()}


def _visible(io: HostIo, path: str) -> list[str]:
    """Directories under work have names that start with a dot."""
    return [name for name in io.names(path) if not name.startswith(".")]


def unit_port(text: str) -> int | None:
    found = re.search(r"--port[ =](\d{1,5})\b", text)
    return int(found.group(1)) if found else None


def _ports(io: HostIo, listening: tuple[dict[str, Any], ...], unit: str) -> list[int]:
    """Ports that processes in the unit's control group hold."""
    return sorted(
        {
            entry["port"]
            for entry in listening
            if entry["pid"] and f"/{unit}" in io.read(f"/proc/{entry['pid']}/cgroup")
        }
    )


def _instance(io: HostIo, file: str, current: str, listening: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    name = _UNIT.match(file)
    text = io.read(f"{UNITS}/{file}")
    said = parse_properties(
        io.run(["systemctl", "show", file, "--property=ActiveState,SubState,Result,MainPID,NRestarts"]).out
    )
    release = re.search(rf"{ROOT}/releases/([^/\s]+)", text)
    ports = _ports(io, listening, file)
    return {
        "name": name.group(1) if name else file,
        "unit": file,
        "state": said.get("ActiveState", ""),
        "sub_state": said.get("SubState", ""),
        "result": said.get("Result", ""),
        "port": unit_port(text) or (ports[0] if ports else None),
        "ports": ports,
        "release": release.group(1) if release else current,
    }


def installed(io: HostIo, listening: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    current = io.link(f"{ROOT}/current").rpartition("/")[2]
    return {
        "environments": _visible(io, f"{ROOT}/envs"),
        "weights": [
            f"{model}/{revision}"
            for model in _visible(io, f"{ROOT}/weights")
            for revision in _visible(io, f"{ROOT}/weights/{model}")
        ],
        "releases": _visible(io, f"{ROOT}/releases"),
        "current": current,
        "instances": [
            _instance(io, file, current, listening) for file in io.names(UNITS) if _UNIT.match(file)
        ],
    }
