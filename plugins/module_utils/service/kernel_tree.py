# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole tree of kernel tuning files of an instance: the planned ones first, then the release's own for this GPU.

It replaces the release's tree, so whatever the engine looks for besides must be in it as well.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable, Mapping

NOTE = "ORIGIN.txt"


class TreeError(Exception):
    """The environment does not hold what the plan was made for."""


def selected(names: Iterable[str], pattern: str) -> list[str]:
    """Those whose last part is as the plan says that an engine on this GPU could ask for."""
    wanted_name = re.compile(pattern)
    return sorted(name for name in names if wanted_name.fullmatch(posixpath.basename(name)))


def wanted(
    files: Iterable[Mapping[str, str]],
    shipped: Mapping[str, bytes],
    leave_out: Iterable[str],
    note: str,
    below: str = "",
) -> dict[str, bytes]:
    """Path below the tree -> content. `shipped` are the release's own for this GPU, which go into the folder `below`."""
    left = set(leave_out)
    tree = {
        posixpath.join(below, name): content
        for name, content in shipped.items()
        if posixpath.basename(name) not in left
    }
    for entry in files:
        content = entry["content"].encode()
        if entry["copy"]:
            if entry["copy"] not in shipped:
                raise TreeError(f"the environment has no {entry['copy']}, which the plan takes")
            content = shipped[entry["copy"]]
        found = hashlib.sha256(content).hexdigest()
        if found != entry["sha256"]:
            raise TreeError(
                f"{entry['copy'] or entry['path']} has sha256 {found}, the plan checked {entry['sha256']}"
            )
        tree[entry["path"]] = content
    tree[NOTE] = f"{note}\n".encode()
    return tree
