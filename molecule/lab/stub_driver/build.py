#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the lab's "no device" CUDA driver library.

build.py OUT_DIR                         build OUT_DIR/libcuda.so.1
build.py OUT_DIR --check SITE_PACKAGES   also name symbols that an environment needs and the stub lacks
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("no_device_driver.c")
LIBRARY = "libcuda.so.1"
COMPILERS = ("gcc", "cc", "clang")
# cuFile is GPUDirect Storage: another library, that nothing in the lab loads.
DRIVER_SYMBOL = re.compile(r"^cu(?!File)[A-Z]\w*$")


class BuildError(Exception):
    """What to tell the person who asked for the library."""


def find_compiler() -> str:
    for name in COMPILERS:
        path = shutil.which(name)
        if path:
            return path
    raise BuildError(
        f"no C compiler ({', '.join(COMPILERS)}) on this machine. The lab compiles its stub CUDA driver "
        "here: install the Debian packages gcc and libc6-dev (apt-get install gcc libc6-dev)."
    )


def build(cc: str | None, out_dir: Path) -> Path:
    """Compile the library into `out_dir` with `cc`, or with the first compiler found; return its path."""
    compiler = cc or find_compiler()
    out_dir.mkdir(parents=True, exist_ok=True)
    library = out_dir / LIBRARY
    unfinished = out_dir / f".{LIBRARY}.new"
    # A build id or a path in the library would make two builds of one source differ.
    command = [
        compiler,
        *("-shared", "-fPIC", "-O1", "-std=c11", "-g0", "-fvisibility=hidden"),
        *("-Wall", "-Wextra", "-Werror"),
        f"-Wl,-soname,{LIBRARY},--build-id=none",
        *("-o", str(unfinished), SOURCE.name),
    ]
    try:
        done = subprocess.run(command, cwd=SOURCE.parent, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"cannot run the C compiler {compiler}: {error.strerror}") from error
    if done.returncode != 0:
        unfinished.unlink(missing_ok=True)
        raise BuildError(
            f"{compiler} cannot compile {SOURCE.name} (on Debian the packages gcc and libc6-dev are "
            f"needed):\n{done.stderr.strip()}"
        )
    unfinished.replace(library)
    return library


def symbols(path: Path, kind: str) -> set[str]:
    """The driver symbols that a shared object defines ("--defined-only") or needs ("--undefined-only")."""
    done = subprocess.run(["nm", "-D", kind, str(path)], capture_output=True, text=True, check=False)
    names = (line.split()[-1].partition("@")[0] for line in done.stdout.splitlines() if line.strip())
    return {name for name in names if DRIVER_SYMBOL.match(name)}


def missing_symbols(site_packages: Path, library: Path) -> dict[str, Path]:
    """Driver symbols that some object below `site_packages` needs and `library` lacks, with that object."""
    offered = symbols(library, "--defined-only")
    return {
        name: shared_object
        for shared_object in shared_objects(site_packages)
        for name in symbols(shared_object, "--undefined-only") - offered
    }


def shared_objects(site_packages: Path) -> Iterator[Path]:
    for path in sorted(site_packages.rglob("*.so*")):
        if path.is_file() and not path.is_symlink():
            yield path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out_dir", type=Path, help=f"where {LIBRARY} is written")
    parser.add_argument("--cc", help="the C compiler to use (default: the first of gcc, cc, clang)")
    parser.add_argument("--check", type=Path, metavar="SITE_PACKAGES", help="compare with an environment")
    options = parser.parse_args(arguments)
    try:
        library = build(options.cc, options.out_dir)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    print(library)
    if options.check is None:
        return 0
    missing = missing_symbols(options.check, library)
    for name, needed_by in sorted(missing.items()):
        print(f"{name} is needed by {needed_by}: add NO_DEVICE({name}) to {SOURCE.name}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
