# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which content hosts bring to each other before each makes its environments of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

File = dict[str, Any]


def asked(missing: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[File]:
    """Each file once that an environment is made of which some host lacks."""
    found = {item["sha256"]: item for items in missing.values() for env in items for item in env["files"]}
    return [dict(found[digest]) for digest in sorted(found)]


def rounds(
    missing: Mapping[str, Iterable[Mapping[str, Any]]], lacking: Mapping[str, Iterable[str]]
) -> list[dict[str, Any]]:
    """Files that the same hosts need and the same hosts hold, as one fan-out each, named as a content store names them.

    missing has the environments that each host is to make; lacking, the files of all of these that its store
    does not hold. What one host alone needs and no other holds is left to the controller.
    """
    lacks = {host: set(paths) for host, paths in lacking.items()}
    needs = {
        host: {item["path"] for env in items for item in env["files"]} for host, items in missing.items()
    }
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[File]] = {}
    for item in asked(missing):
        hosts = tuple(host for host in needs if item["path"] in needs[host] & lacks.get(host, set()))
        seeds = tuple(host for host in lacks if item["path"] not in lacks[host])
        if hosts and (seeds or len(hosts) > 1):
            groups.setdefault((hosts, seeds), []).append(_stored(item))
    return [
        {"name": _name(files), "hosts": list(hosts), "seeds": list(seeds), "files": files}
        for (hosts, seeds), files in groups.items()
    ]


def _stored(item: Mapping[str, Any]) -> File:
    name = item["path"].rsplit("/", 1)[-1]
    return {
        "path": f"{item['sha256']}/{name}",
        "size": item["size"],
        "sha256": item["sha256"],
        "source_path": item["path"],
    }


def _name(files: Iterable[File]) -> str:
    """The same for the same files, so that a run that was cut off is gone on with."""
    digest = hashlib.sha256("".join(item["sha256"] for item in files).encode()).hexdigest()
    return f"content {digest[:8]}"
