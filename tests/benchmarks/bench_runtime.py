# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of an environment on this machine's disk, beside `cp -a` of it and pip, all in one run.

    make bench-runtime [FOLDER=.work/bench-runtime] [LOCK=files/engines/sglang/locks/...]

Wheels come from the download cache; what is not there is fetched before any clock runs. About 55 GB of disk
are needed for a while. `returned` is when the command ended, `on disk` when a sync after it did.

Nothing is deleted before the last clock has stopped: ext4 gives no inode out again for some minutes after its file went
away, and searches past all of them, which made whatever came after a deletion up to three times slower, ours and the peer.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.maker_host import Asked, Maker
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import Store
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, parse_lock

LOCK = ROOT / "files/engines/sglang/locks" / "0.5.23-cu130-x86_64-py3.11.txt"
# The store and pip's environment; one of ours and its copy in each round.
STORE_GB, ENVIRONMENT_GB = 5, 10
GOAL_COLD, GOAL_SHARED = 1.5, 2.0


def run(command: list[str], environment: dict[str, str], handles: tuple[int, ...]) -> tuple[int, str, str]:
    done = subprocess.run(
        command, env=os.environ | environment, pass_fds=handles, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def timed(name: str, work: Callable[[], Any]) -> float:
    os.sync()
    started = time.monotonic()
    work()
    returned = time.monotonic() - started
    os.sync()
    print(f"{name:<46} returned {returned:6.1f} s   on disk {time.monotonic() - started:6.1f} s", flush=True)
    return returned


def files_of(lock: Path, python: str) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    cache = Path(os.environ.get("BAREMETAL_CACHE", Path.home() / ".cache" / "baremetal-sglang"))
    wheels = WheelCache(cache / "wheels", print)
    target, indexes = Target(python, os.uname().machine, "2.35"), Indexes()
    paths = [
        path
        for source in (lock, ROOT / "requirements" / "uv.txt")
        for path in wheels.complete(parse_lock(source.read_text(encoding="utf-8")), target, indexes)
    ]
    listed = [
        {"path": f"wheels/{path.name}", "size": path.stat().st_size, "sha256": path.parent.name}
        for path in paths
    ]
    return listed, {f"wheels/{path.name}": path for path in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / ".work" / "bench-runtime")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--python", default="/usr/bin/python3.11")
    parser.add_argument("--without-pip", action="store_true")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    folder, lock = given.folder.resolve(), given.lock.resolve()
    minor = lock.stem.rsplit("-py", 1)[1]
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free / 1e9
    needed = STORE_GB + ENVIRONMENT_GB * (2 * given.rounds + (not given.without_pip))
    if free < needed:
        folder.rmdir()
        sys.exit(
            f"STOPPED  {folder} has {free:.0f} GB free and {needed} GB are needed (--rounds {given.rounds})"
        )
    try:
        measure(folder, lock, minor, given)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, lock: Path, minor: str, given: argparse.Namespace) -> None:
    listed, sources = files_of(lock, minor)
    bundle, store = folder / "bundle", Store(str(folder / "store"))
    for name, source in {**sources, f"locks/{lock.name}": lock}.items():
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).symlink_to(source)
    data = lock.read_bytes()
    listed.append(
        {"path": f"locks/{lock.name}", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    )
    total = sum(entry["size"] for entry in listed)
    print(
        f"{len(listed)} files, {total / 1e9:.2f} GB; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    store.open()
    timed(
        "bring and verify (from a folder on the host)", lambda: store.take(str(bundle), store.lacking(listed))
    )

    def make(name: str, unpacked: Path) -> None:
        shared = Store(str(unpacked))
        shared.open()
        if shared.folder != store.folder:
            for own, common in ((shared.content, store.content), (shared.verified, store.verified)):
                os.rmdir(own)
                os.symlink(common, own)
        asked = Asked(str(folder / "envs" / name), shared.folder, listed, lock.name, given.python)
        maker = Maker(asked, run, print)
        maker.make()
        print(f"  steps: {maker.seconds}")

    colds, ratios = [], []
    for number in range(given.rounds):
        colds.append(
            timed(
                "environment, nothing unpacked before",
                lambda n=number: make(f"cold{n}", folder / f"store{n}" if n else folder / "store"),
            )
        )
        copy = timed(
            "cp -a of that environment",
            lambda n=number: subprocess.run(
                ["cp", "-a", folder / "envs" / f"cold{n}", folder / f"copy{n}"], check=True
            ),
        )
        ratios.append(colds[-1] / copy)
    # Mostly the file system's time for making folders: what no tool gets below.
    links = timed(
        "cp -al of that environment (links)",
        lambda: subprocess.run(["cp", "-al", folder / "envs" / "cold0", folder / "links"], check=True),
    )
    nexts = [
        timed(
            f"environment that shares the wheels, {number}",
            lambda n=number: make(f"next{n}", folder / "store"),
        )
        for number in (1, 2, 3)
    ]
    shared = statistics.median(nexts)
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    lines = [
        f"cold install / cp -a        {statistics.median(ratios):5.2f}   (rounds {shown}; goal {GOAL_COLD})",
        f"sharing the wheels, median  {shared:5.2f} s (goal {GOAL_SHARED}); of cp -al {shared / links:5.2f}",
    ]
    if not given.without_pip:
        subprocess.run(["uv", "venv", "--quiet", "--python", given.python, folder / "pip"], check=True)
        command = [
            sys.executable, "-m", "pip", "--isolated", "--python", folder / "pip" / "bin" / "python", "install", "--quiet",
            "--no-index", "--find-links", bundle / "wheels", "--require-hashes", "--no-deps", "--no-compile", "--requirement", lock,
        ]  # fmt: skip
        pip = timed("pip install --no-index --no-compile", lambda: subprocess.run(command, check=True))
        lines.append(f"pip / cold install          {pip / statistics.median(colds):5.2f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
