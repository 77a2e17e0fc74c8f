# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a host that tell a stranger how it serves: plan, units, logs, figures. Reads, and changes nothing."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence

from ..facts.host import RunCommand

MOST_BYTES = 2 << 20
"""Of one file; of longer ones the end is kept."""
COMMANDS: dict[str, Sequence[str]] = {
    "uname.txt": ("uname", "-a"),
    "os-release.txt": ("cat", "/etc/os-release"),
    "nvidia-smi.txt": ("nvidia-smi", "-q"),
    "nvidia-smi-topo.txt": ("nvidia-smi", "topo", "-m"),
    "units.txt": ("systemctl", "list-units", "--all", "--no-pager", "--plain", "sglang-*"),
    "kernel-log.txt": (
        "journalctl",
        "-k",
        "-b",
        "-q",
        "--no-pager",
        "-g",
        "NVRM|Xid|mlx5|infiniband|oom-kill|Out of memory",
    ),
    "memory.txt": ("cat", "/proc/meminfo"),
    "disks.txt": ("df", "-h"),
}
LOG = ("journalctl", "-q", "--no-pager", "-o", "short-iso", "-n", "4000", "-u")
FILES = {
    "plan.json": "current/plan.json",
    "switches.json": "releases/.switches.json",
    "verified.json": "releases/.verified.json",
    "acceptance.json": "acceptance.json",
}
"""Name in the archive -> path below the folder of the collection, where only root writes."""


def collected(run: RunCommand, root: str, units_folder: str = "/etc/systemd/system") -> dict[str, str]:
    """Name -> text; what is not there is left out."""
    found = {}
    for name, words in COMMANDS.items():
        status, out, _unused = run(list(words))
        if status == 0 and str(out).strip():
            found[name] = _end(str(out))
    for name, path in FILES.items():
        text = _read(os.path.join(root, path))
        if text:
            found[name] = text
    for path in sorted(glob.glob(os.path.join(glob.escape(units_folder), "sglang-*.service"))):
        unit = os.path.basename(path)
        found[f"units/{unit}"] = _read(path)
        _unused_status, out, _unused = run([*LOG, unit])
        if str(out).strip():
            found[f"logs/{unit.removesuffix('.service')}.txt"] = _end(str(out))
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "current", "*", "launch.json"))):
        found[f"launch/{os.path.basename(os.path.dirname(path))}.json"] = _read(path)
    found["files.json"] = json.dumps(sorted(found), indent=1)
    return found


def _end(text: str) -> str:
    return text if len(text) <= MOST_BYTES else f"(the end of {len(text)} characters)\n{text[-MOST_BYTES:]}"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(MOST_BYTES)
    except OSError:
        return ""
