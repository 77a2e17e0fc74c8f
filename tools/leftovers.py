# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take away what an interrupted test run left: scratch folders, labs, mounts and network namespaces.

Each of them carries the number of the process that made it; one whose process is there is never touched.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

# Short: paths of sockets below it may have 107 characters.
PREFIX = "bsl-run-"
SCRATCH = re.compile(PREFIX + r"(\d+)-(\d+)-.*")
REGISTRY = Path("/run/baremetal-sglang-lab")
NAMESPACES = Path("/run/netns")
TEST_LAB = re.compile(r"test-(\d+)-.*")
SWARM_NAMESPACE = re.compile(r"(?:swt|swarm)(\d+)(?:-\d+)?")


def started(pid: int) -> int:
    """When that process began, in ticks since boot; 0 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def begin_scratch(parent: Path) -> Path:
    """Its name says whose it is: a file in it could be gone while the rest is still there."""
    owner = os.getpid()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner}-{started(owner)}-", dir=parent))
    folder.chmod(0o755)
    return folder


def is_orphan(folder: Path) -> bool:
    owner = SCRATCH.fullmatch(folder.name)
    return owner is not None and started(int(owner[1])) != int(owner[2])


def mounts_below(folder: Path) -> list[str]:
    """The innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4])
        if place == str(folder) or place.startswith(f"{folder}/"):
            found.append(place)
    return found[::-1]


def remove_tree(folder: Path) -> None:
    """With `--one-file-system`: nothing is removed through a mount that is left."""
    for place in mounts_below(folder):
        subprocess.run(["umount", "--lazy", place], check=False)
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(folder)], check=False)


def end_processes(folder: Path) -> None:
    """Those that were started with a path below that folder, whose name is nobody else's."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
            if f"{folder}/" in words and int(path.parent.name) != os.getpid():
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:
            continue


def state_of(lab: Path) -> Path | None:
    try:
        return Path(json.loads((lab / "lab.json").read_text())["state"])
    except (OSError, ValueError, KeyError):
        return None


def orphan_labs(orphans: list[Path]) -> list[str]:
    names = []
    for lab in REGISTRY.glob("*/"):
        of_test = TEST_LAB.fullmatch(lab.name)
        state = state_of(lab)
        in_orphan = state is not None and any(folder in state.parents for folder in orphans)
        if in_orphan or (of_test and not started(int(of_test[1]))):
            names.append(lab.name)
    return sorted(names)


def remove_leftovers(root: Path, *finished: Path) -> list[str]:
    """Of runs whose process is gone, and of the finished folders; what was removed, by name."""
    parents = {Path("/var/tmp"), Path(os.environ.get("TMPDIR") or "/var/tmp")}
    orphans = [path for parent in parents for path in parent.glob(f"{PREFIX}*") if is_orphan(path)]
    orphans += finished
    for folder in orphans:
        end_processes(folder)
    labs = orphan_labs(orphans)
    for name in labs:
        subprocess.run(
            [str(root / "tools/lab"), "--name", name, "down"], check=False, stdin=subprocess.DEVNULL
        )
    spaces = [
        path.name
        for path in NAMESPACES.glob("sw*")
        if (match := SWARM_NAMESPACE.fullmatch(path.name)) and not started(int(match[1]))
    ]
    for name in spaces:
        subprocess.run(["ip", "netns", "delete", name], check=False)
    for folder in orphans:
        remove_tree(folder)
    return [*labs, *spaces, *map(str, orphans)]
