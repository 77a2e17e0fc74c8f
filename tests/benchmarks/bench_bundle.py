#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a real bundle is built and verified, beside `cp` and `sha256sum` on the same files; and what a delta weighs.

Every figure is a ratio to the peer that ran right before or after it: other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import ANYBODY
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import verify
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import Wanted, WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, pins_for

LOCKS = ROOT / "files/engines/sglang/locks"
BUNDLED = "0.5.23-cu130-x86_64-py3.11.txt"
ONE_PATCH_AWAY = ("0.5.9-cu128-x86_64-py3.11.txt", "0.5.10.post1-cu128-x86_64-py3.11.txt")
TARGET = Target("3.11", "x86_64", "2.34")
LIMIT_VERIFY_GBPS = 2.5
LIMIT_BUILD = 1.2
LIMIT_MIB = 300
LIMIT_DISK = 1.1
ROUNDS = 3


def build(folder: Path, cache: Path, links: bool) -> None:
    if not links:
        # What a disk of another file system does to every link and reflink.
        bundle_content.linked = bundle_content.reflinked = lambda _source, _target: False
    builder = BundleBuilder(folder, cache, lambda _line: None)
    builder.add_environment(
        LOCKS / BUNDLED, TARGET.python, TARGET.arch, TARGET.glibc, "cu130", release="0.5.23"
    )
    builder.add_installer(ROOT / "requirements/uv.txt", TARGET.arch, TARGET.glibc)
    with builder.place.alone():
        builder.prepare()
        builder.fill()
        builder.finish()


class Spent(NamedTuple):
    seconds: float
    cpu: float
    mib: float


def alone(work: Callable[[], object]) -> Spent:
    """What it takes in a process of its own."""
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _pid, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"FAILED: a step of the benchmark ended with status {status}")
    return Spent(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def command(*words: str, cwd: Path | None = None) -> Spent:
    return alone(lambda: subprocess.run(words, check=True, cwd=cwd, stdout=subprocess.DEVNULL))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


class Watch(threading.Thread):
    """The most that a folder held at any time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.most, self.over = folder, 0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            with contextlib.suppress(FileNotFoundError):
                self.most = max(self.most, size_of(self.folder))

    def end(self) -> int:
        self.over.set()
        self.join()
        return max(self.most, size_of(self.folder))


def line(name: str, spent: list[Spent], gigabytes: float) -> str:
    best, cpu = min(item.seconds for item in spent), min(item.cpu for item in spent)
    rounds = " ".join(f"{item.seconds:.1f}" for item in spent)
    return f"  {name:30} {best:6.1f} s {gigabytes / best:6.2f} GB/s {cpu:6.1f} s of CPU   rounds {rounds}"


def bench_build(place: Path, cache: Path) -> Path:
    bundle = place / "bundle"
    linked = [alone(lambda: build(bundle, cache, links=True))]
    gigabytes = size_of(bundle) / 1e9
    copies, builds, most = [], [], 0
    for _round in range(ROUNDS):
        copies.append(command("cp", "-r", str(bundle), str(place / "copy")))
        shutil.rmtree(place / "copy")
        watch = Watch(place / "built")
        watch.start()
        builds.append(alone(lambda: build(place / "built", cache, links=False)))
        most = max(most, watch.end())
        shutil.rmtree(place / "built")
    ratios = [mine.seconds / theirs.seconds for mine, theirs in zip(builds, copies, strict=True)]
    print(f"build, warm cache, {gigabytes:.2f} GB")
    print(line("same disk: linked and hashed", linked, gigabytes))
    print(line("copied and hashed", builds, gigabytes))
    print(line("cp -r", copies, gigabytes))
    print(f"  ratio to cp, median of {ROUNDS}: {statistics.median(ratios):.2f}, goal {LIMIT_BUILD}")
    peak = max(item.mib for item in (*builds, *linked))
    print(f"  peak memory {peak:.0f} MiB, goal {LIMIT_MIB}")
    print(f"  most disk to bundle {most / (gigabytes * 1e9):.2f}, goal {LIMIT_DISK}")
    return bundle


def bench_verify(bundle: Path) -> None:
    gigabytes = size_of(bundle) / 1e9
    check = ("sha256sum", "--quiet", "--check", "SHA256SUMS")
    command(*check, cwd=bundle)  # all of it is in memory from here on
    two = "cut -c 67- SHA256SUMS | tr '\\n' '\\0' | xargs -0 -n 4 -P 2 sha256sum"
    mine, single, double = [], [], []

    def work() -> None:
        if problems := verify(bundle, lambda _line: None, ANYBODY).problems:
            raise SystemExit("\n".join(problems))

    for _round in range(ROUNDS):
        mine.append(alone(work))
        single.append(command(*check, cwd=bundle))
        double.append(command("sh", "-c", two, cwd=bundle))
    print(f"verify, {gigabytes:.2f} GB in memory, {bundle_content.threads()} threads")
    print(line("bundle_verify", mine, gigabytes))
    print(line("sha256sum", single, gigabytes))
    print(line("sha256sum, two at once", double, gigabytes))
    print(f"  goal {LIMIT_VERIFY_GBPS} GB/s; peak memory {max(item.mib for item in mine):.0f} MiB")


def hashes_of(lock: str) -> dict[str, frozenset[str]]:
    text = (LOCKS / lock).read_text(encoding="utf-8")
    return {str(pin): pin.sha256 for pin in pins_for(text, TARGET)}


def bench_delta(cache: Path, ask: bool) -> None:
    """What the newer lock needs and the older one does not have; sizes come from the cache or the index."""
    old, new = (hashes_of(lock) for lock in ONE_PATCH_AWAY)
    changed = [pin for pin, hashes in new.items() if not hashes & frozenset().union(*old.values())]
    print(f"delta, {ONE_PATCH_AWAY[0]} to {ONE_PATCH_AWAY[1]}")
    print(f"  {len(changed)} of {len(new)} wheels are others")
    if not ask:
        print("  --sizes asks the index for their sizes")
        return
    wheels = WheelCache(cache / "wheels", print)
    pins = pins_for((LOCKS / ONE_PATCH_AWAY[1]).read_text(encoding="utf-8"), TARGET)
    wanted = [Wanted(pin, TARGET) for pin in pins]
    offers = wheels.offers(wheels.missing(wanted), Indexes())
    sizes = {offer.sha256: offer.size for offer in offers}
    sizes |= {
        path.parent.name: path.stat().st_size
        for entry in wanted
        if (path := wheels.wheel(entry.pin, entry.target))
    }
    shipped = sum(size for digest, size in sizes.items() if any(digest in new[pin] for pin in changed))
    print(f"  {shipped / 1e9:.2f} of {sum(sizes.values()) / 1e9:.2f} GB, {shipped / sum(sizes.values()):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cache = os.environ.get("BAREMETAL_CACHE", Path.home() / ".cache/baremetal-sglang")
    parser.add_argument("--cache", type=Path, default=cache, help="the cache of wheels")
    parser.add_argument("--folder", type=Path, default=ROOT / ".work", help="where to build, 3 x the bundle")
    parser.add_argument("--sizes", action="store_true", help="ask the index what a delta's wheels weigh")
    parser.add_argument("--only", choices=["all", "delta"], default="all")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()[0]}))
    if given.only == "all":
        with tempfile.TemporaryDirectory(dir=given.folder, prefix="bench-bundle-") as place:
            build(Path(place) / "warm", given.cache, links=True)
            bench_verify(bench_build(Path(place), given.cache))
    bench_delta(given.cache, given.sizes)


if __name__ == "__main__":
    main()
