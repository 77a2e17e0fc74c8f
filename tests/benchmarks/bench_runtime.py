# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Times of an environment on this machine's disk, beside `cp -a` of it and pip, all in one run.

    make bench-runtime [FOLDER=.work/bench-runtime] [LOCK=files/locks/...]

Wheels come from the download cache; what is not there is fetched before any clock runs. About 30 GB of disk
are needed for a while. `returned` is when the command ended, `on disk` when a sync after it did.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "collections"))

from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.maker import Asked, Maker
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store import Store
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, parse_lock

LOCK = ROOT / "files" / "locks" / "0.5.23-cu130-x86_64-py3.11.txt"
NEEDED_GB = 32
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
    given = parser.parse_args()
    folder, lock = given.folder.resolve(), given.lock.resolve()
    minor = lock.stem.rsplit("-py", 1)[1]
    folder.mkdir(parents=True)
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEEDED_GB:
        folder.rmdir()
        sys.exit(f"STOPPED  {folder} has {free:.0f} GB free and {NEEDED_GB} GB are needed")
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

    def make(name: str) -> Maker:
        asked = Asked(str(folder / "envs" / name), store.folder, listed, lock.name, given.python)
        maker = Maker(asked, run, print)
        maker.make()
        print(f"  steps: {maker.seconds}")
        return maker

    cold = timed("environment, nothing unpacked before", lambda: make("one"))
    copy = timed(
        "cp -a of that environment",
        lambda: subprocess.run(["cp", "-a", folder / "envs" / "one", folder / "copy"], check=True),
    )
    shutil.rmtree(folder / "copy")
    # Mostly the file system's time for making folders: what no tool gets below.
    links = timed(
        "cp -al of that environment (links)",
        lambda: subprocess.run(["cp", "-al", folder / "envs" / "one", folder / "links"], check=True),
    )
    shutil.rmtree(folder / "links")
    shared = min(
        timed(f"environment that shares the wheels, {number}", lambda n=number: make(f"next{n}"))
        for number in (1, 2, 3)
    )
    lines = [
        f"cold install / cp -a     {cold / copy:5.2f}   (goal {GOAL_COLD})",
        f"sharing the wheels, best {shared:5.2f} s (goal {GOAL_SHARED}); of cp -al {shared / links:5.2f}",
    ]
    if not given.without_pip:
        shutil.rmtree(folder / "envs")
        shutil.rmtree(store.unpacked)
        subprocess.run(["uv", "venv", "--quiet", "--python", given.python, folder / "pip"], check=True)
        command = [
            sys.executable, "-m", "pip", "--isolated", "--python", folder / "pip" / "bin" / "python", "install", "--quiet",
            "--no-index", "--find-links", bundle / "wheels", "--require-hashes", "--no-deps", "--no-compile", "--requirement", lock,
        ]  # fmt: skip
        pip = timed("pip install --no-index --no-compile", lambda: subprocess.run(command, check=True))
        lines.append(f"pip / cold install       {pip / cold:5.2f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
