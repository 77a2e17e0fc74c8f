#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a Python that runs wherever it is unpacked, for hosts of the lab whose own is too new.

    tools/python_kit.py FILE.tar.gz

It is Debian 12's Python 3.11, with the libraries that it needs beside it and found from where they lie. On real
hosts use an archive of python-build-standalone: it is made for older systems too. The same packages give the same
bytes.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "molecule"))

from lab import aptconf

CODENAME, MINOR = "bookworm", "3.11"
PACKAGES = [f"python{MINOR}-minimal", f"libpython{MINOR}-stdlib", "patchelf"]
# Every glibc system brings these itself, and they belong to its loader.
SYSTEM = (
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "libresolv.so",
    "libutil.so",
    "ld-linux",
)
UNUSED = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__")


def extract(root: Path) -> None:
    command = [
        "mmdebstrap", "--mode=root", "--variant=extract", "--quiet", f"--include={','.join(PACKAGES)}",
        *[f"--aptopt={option}" for option in aptconf.acquire_options()],
        CODENAME, str(root), *[source.line for source in aptconf.sources_for(CODENAME)],
    ]  # fmt: skip
    subprocess.run(command, check=True, env=os.environ | {"TMPDIR": "/tmp", "LC_ALL": "C.UTF-8"})


def needed(program: Path, tool: Path) -> list[str]:
    said = subprocess.run([tool, "--print-needed", program], check=True, capture_output=True, text=True)
    return [name for name in said.stdout.split() if not name.startswith(SYSTEM)]


def gather(root: Path, kit: Path) -> None:
    """The interpreter, its modules, and what they load; each told where that is, seen from itself."""
    tool = root / "usr" / "bin" / "patchelf"
    libraries = {path.name: path for path in sorted(root.glob("**/lib/*-linux-gnu/*.so*"))}
    modules = kit / "lib" / f"python{MINOR}"
    shutil.copytree(
        root / "usr" / "lib" / f"python{MINOR}", modules, symlinks=False, ignore=shutil.ignore_patterns(*UNUSED),
        ignore_dangling_symlinks=True,
    )  # fmt: skip
    (kit / "bin").mkdir()
    program = kit / "bin" / f"python{MINOR}"
    shutil.copy2(root / "usr" / "bin" / program.name, program)
    for name in ("python3", "python"):
        (kit / "bin" / name).symlink_to(program.name)
    queue = [(program, "$ORIGIN/../lib")]
    queue += [(path, "$ORIGIN/../..") for path in sorted(modules.glob("lib-dynload/*.so"))]
    brought: set[str] = set()
    while queue:
        binary, place = queue.pop()
        names = needed(binary, tool)
        if names:
            subprocess.run([tool, "--set-rpath", place, binary], check=True)
        for name in set(names) - brought:
            brought.add(name)
            target = kit / "lib" / name
            shutil.copy2(libraries[name].resolve(), target)
            queue.append((target, "$ORIGIN"))


def pack(kit: Path, target: Path) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    part = target.with_name(f"{target.name}.part")
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in sorted(kit.rglob("*")):
            archive.add(path, f"python/{path.relative_to(kit)}", recursive=False, filter=plain)
    part.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    target = parser.parse_args().archive.resolve()
    if os.geteuid() != 0:
        sys.exit("STOPPED  mmdebstrap unpacks the packages as root: run this with sudo")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        extract(Path(folder) / "root")
        gather(Path(folder) / "root", Path(folder) / "kit")
        pack(Path(folder) / "kit", target)
    print(f"{target}: Python {MINOR}, {target.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
