# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs the conda part of one environment of a bundle's pixi.lock into a folder, offline.

py-rattler does not compare the hash of a package at a file:// place, so each archive is compared with the
lock here first. Paths written into files name the place where the environment will lie in the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import rattler


def fail(message: str) -> None:
    print(json.dumps({"problem": message}))
    sys.exit(1)


def compare(records: list) -> None:
    """Every archive against the lock, before anything reads it."""
    problems = []
    for record in records:
        path = Path(unquote(urlsplit(record.url).path))
        if not path.is_file():
            problems.append(f"{path.name}: missing")
            continue
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            for chunk in iter(lambda stream=stream: stream.read(1 << 20), b""):
                digest.update(chunk)
        if record.sha256 is None or digest.hexdigest() != record.sha256.hex():
            problems.append(f"{path.name}: content differs from pixi.lock (sha256)")
    if problems:
        fail("; ".join(problems))


async def install(asked: dict) -> int:
    lock = Path(asked["work"]) / "pixi.lock"
    text = Path(asked["lock"]).read_text(encoding="utf-8")
    for name, path in asked["places"].items():
        text = text.replace(f"file:///@BUNDLE@/{name}\n", f"file://{path}\n")
    lock.write_text(text, encoding="utf-8")
    environment = rattler.LockFile.from_path(lock).environment(asked["environment"])
    if environment is None:
        fail(f"pixi.lock has no environment {asked['environment']}")
    platform = next((item for item in environment.platforms() if str(item.name) == asked["platform"]), None)
    if platform is None:
        fail(f"environment {asked['environment']} of pixi.lock has nothing for {asked['platform']}")
    records = environment.conda_repodata_records_for_platform(platform) or []
    compare(records)
    await rattler.install(
        records,
        asked["prefix"],
        cache_dir=Path(asked["work"]) / "conda-cache",
        platform=rattler.Subdir(asked["platform"]),
        execute_link_scripts=False,
        show_progress=False,
        alternative_target_prefix=asked["dest"],
    )
    return len(records)


if __name__ == "__main__":
    print(
        json.dumps(
            {"packages": asyncio.run(install(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))}
        )
    )
