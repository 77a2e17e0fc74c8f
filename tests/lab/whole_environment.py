# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment of the whole lock of the CPU lab, for hosts that get it as a read-only bind.

    python -m tests.lab.whole_environment FOLDER

makes it once for several runs; SGLANG_ENVIRONMENT=FOLDER then spares each of them the minute that it takes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import WheelCache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Target, parse_lock

REPOSITORY = Path(__file__).resolve().parents[2]
# That of the lab's hosts; where this machine has another one, they start slower.
PYTHON = "/usr/bin/python3.11"
LOCK = REPOSITORY / "files/engines/sglang/locks/0.5.23-cu130-x86_64-py3.11.txt"
CACHE = Path(os.environ.get("BAREMETAL_CACHE_DIR", Path.home() / ".cache" / "baremetal-sglang"))
MADE = os.environ.get("SGLANG_ENVIRONMENT", "")


def make(folder: Path) -> None:
    wheels = WheelCache(CACHE / "wheels", print).complete(
        parse_lock(LOCK.read_text()), Target("3.11", "x86_64", "2.36"), Indexes()
    )
    packages = folder / "lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    subprocess.run(
        [REPOSITORY / ".venv/bin/uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-index",
         "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36", "--target", packages,
         "--cache-dir", folder / "cache", *wheels],
        check=True,
    )  # fmt: skip
    shutil.rmtree(folder / "cache")
    (folder / "bin").mkdir()
    shutil.copy(packages / "bin/ninja", folder / "bin/ninja")
    leave_bytecode(folder, packages)


def leave_bytecode(folder: Path, packages: Path) -> None:
    """As the role does; without it each process of each engine compiles the same modules for half a minute."""
    if not os.path.exists(PYTHON):
        return
    driver = folder / "driver"
    subprocess.run(
        [sys.executable, REPOSITORY / "molecule/lab/stub_driver/build.py", driver],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    runtime = yaml.safe_load((REPOSITORY / "files/engines/sglang/runtime.yml").read_text(encoding="utf-8"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [PYTHON, "-c", f"import {', '.join(runtime['imports'])}"],
        env={
            **environment,
            "PYTHONPATH": str(packages),
            "LD_LIBRARY_PATH": str(driver),
            "HOME": str(driver),
            "SGLANG_USE_CPU_ENGINE": "1",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        # What the imports link to may lack on this machine and be on the hosts.
        print(f"no bytecode was left, engines start slower: {done.stderr[-500:]}", file=sys.stderr)
    shutil.rmtree(driver)


def whole_environment(folder: Path) -> Path:
    """One that is there, or one that is made below the folder."""
    if MADE:
        return Path(MADE)
    if not folder.exists():
        make(folder)
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
