#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast weights are verified, beside sha256sum in the same run; what a look at 360 GB takes; the agent's memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as weights_files
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import PIECE_BYTES
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sparse_model import sparse_model

SIZE = 1 << 29
ROUNDS = 3
LIMIT_LOOK_S = 3.0
LIMIT_MEMORY_MB = 200
LIMIT_RATE = 1e9


def timed(work: Callable[[], object]) -> float:
    """Seconds of processor time, of this process and the ones it waited for: the machine may be shared."""
    before = os.times()
    work()
    after = os.times()
    return sum(after[:4]) - sum(before[:4])


def in_child(code: str, *words: str) -> tuple[float, float]:
    """Seconds inside and peak megabytes of a process of its own, as a module is one on a host."""
    head = f"import sys; sys.path.insert(0, {str(ROOT / 'collections')!r}); import resource, time; s = time.monotonic()\n"
    tail = "\nprint(time.monotonic() - s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    done = subprocess.run(
        [sys.executable, "-c", head + code + tail, *words], check=True, capture_output=True, text=True
    )
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


LOOK = """
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
found = weights_folder.look(sys.argv[1])
assert found["state"] == "whole", found
"""
READ = """
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as weights_files
for _round in range(2):
    weights_files.digests_of(sys.argv[1])
"""


def hashing(folder: Path) -> bool:
    """In memory, so that the disk is not what is measured; in turns, so that each meets the same neighbours."""
    path = folder / "shard"
    with path.open("wb") as stream:
        for _unused in range(SIZE >> 24):
            stream.write(os.urandom(1 << 24))
    found = weights_files.digests_of(str(path))
    entry = {"path": "shard", "size": SIZE, "sha256": found.sha256, "pieces": found.pieces}
    times: dict[str, list[float]] = {"sha256sum": [], "verify": [], "manifest": []}
    for _unused in range(ROUNDS):
        times["sha256sum"].append(
            timed(lambda: subprocess.run(["sha256sum", path], check=True, capture_output=True))
        )
        times["verify"].append(timed(lambda: weights_files.bad_pieces(str(path), entry, PIECE_BYTES)))
        times["manifest"].append(timed(lambda: weights_files.digests_of(str(path))))
    best = {name: min(values) for name, values in times.items()}
    for name in times:
        rate = SIZE / best[name]
        ratio = best["sha256sum"] / best[name]
        print(f"{name:10} {rate / 1e9:6.2f} GB per second of one core, {ratio:.2f} x sha256sum")
    good = SIZE / best["verify"] >= LIMIT_RATE
    print(f"  verify reads >= 1 GB/s a core: {'yes' if good else 'NO'}")
    return good


def looking(folder: Path) -> bool:
    dest = folder / "m" / "r"
    size = sparse_model(dest, shards=400, size=900_000_000)
    seconds, memory = in_child(LOOK, str(dest))
    print(
        f"look       {size / 1e9:.0f} GB in 400 files: {seconds:.2f} s, peak {memory:.0f} MB (limits {LIMIT_LOOK_S}, {LIMIT_MEMORY_MB})"
    )
    return seconds <= LIMIT_LOOK_S and memory <= LIMIT_MEMORY_MB


def memory_of_reading(path: Path) -> bool:
    _seconds, memory = in_child(READ, str(path))
    print(
        f"read       peak {memory:.0f} MB while a file of {SIZE / 1e9:.1f} GB is read (limit {LIMIT_MEMORY_MB})"
    )
    return memory <= LIMIT_MEMORY_MB


def main() -> int:
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        good = [hashing(Path(name)), memory_of_reading(Path(name) / "shard")]
    with tempfile.TemporaryDirectory() as name:
        good.append(looking(Path(name)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    raise SystemExit(main())
