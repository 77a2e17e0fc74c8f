# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conda packages for tests, made of files: this machine's CPython for real, the compiler as small stand-ins."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

PLACEHOLDER = b"/the_place_where_this_package_was_built"
LEFT_OUT = ("test", "tests", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip", "site-packages",
            "dist-packages", "__pycache__", "config-")  # fmt: skip


class Entry(NamedTuple):
    data: bytes
    mode: int = 0o644
    placeholder: bytes = b""


def package(channel: Path, subdir: str, name: str, version: str, files: dict[str, Entry], *,
            build: str = "0", depends: tuple[str, ...] = (), conda: bool = False) -> Path:  # fmt: skip
    """A .tar.bz2, or a .conda where this machine can compress one."""
    folder = channel / subdir
    folder.mkdir(parents=True, exist_ok=True)
    index = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends),
             "subdir": subdir, "arch": subdir.split("-")[1], "platform": "linux", "timestamp": 1700000000000}  # fmt: skip
    paths = {"paths_version": 1, "paths": [_path(*item) for item in files.items()]}
    info = {
        "info/index.json": Entry(json.dumps(index).encode()),
        "info/paths.json": Entry(json.dumps(paths).encode()),
    }
    stem = f"{name}-{version}-{build}"
    if conda and shutil.which("zstd"):
        target = folder / f"{stem}.conda"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            for kind, part in (("pkg", files), ("info", info)):
                archive.writestr(f"{kind}-{stem}.tar.zst", _zstd(_tar(part)))
        return target
    target = folder / f"{stem}.tar.bz2"
    target.write_bytes(_tar(info | files, "w:bz2"))
    return target


def _path(name: str, entry: Entry) -> dict[str, object]:
    described: dict[str, object] = {
        "_path": name, "path_type": "hardlink", "sha256": hashlib.sha256(entry.data).hexdigest(),
        "size_in_bytes": len(entry.data),
    }  # fmt: skip
    if entry.placeholder:
        binary = entry.data.startswith(b"\x7fELF")
        described |= {
            "prefix_placeholder": entry.placeholder.decode(),
            "file_mode": "binary" if binary else "text",
        }
    return described


def _tar(files: dict[str, Entry], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, entry in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(entry.data), entry.mode
            archive.addfile(member, io.BytesIO(entry.data))
    return stream.getvalue()


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-1", "-c"], input=data, capture_output=True, check=True).stdout


def this_python() -> tuple[str, dict[str, Entry]]:
    """The interpreter that runs the tests, without what nobody imports."""
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    prefix = Path(sys.base_prefix)
    program = Path(os.path.realpath(sys.executable))
    files = {f"bin/python{minor}": _repacked(program, prefix), "bin/python": _repacked(program, prefix)}
    for library in (prefix / "lib").glob(f"libpython{minor}.so.*"):
        files[f"lib/{library.name}"] = _repacked(library, prefix)
    root = prefix / f"lib/python{minor}"
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part.startswith(left) for part in parts for left in LEFT_OUT):
            files[f"lib/python{minor}/{'/'.join(parts)}"] = Entry(
                path.read_bytes(), path.stat().st_mode & 0o755
            )
    return minor, files


def _repacked(path: Path, prefix: Path) -> Entry:
    """Libraries are found beside the program, as conda builds them, not where this machine has them."""
    data = path.read_bytes()
    place, beside = f"{prefix}/lib".encode() + b"\0", b"$ORIGIN/../lib\0"
    if len(beside) <= len(place):
        data = data.replace(b"\0" + place, b"\0" + beside.ljust(len(place), b"\0"))
    return Entry(data, 0o755)


def compiler(channel: Path, subdir: str, version: str) -> None:
    """nvcc and its libraries in the places where conda packages have them."""
    level = ".".join(version.split(".")[:2])
    target = f"targets/{'x86_64' if subdir == 'linux-64' else 'sbsa'}-linux"
    script = (
        b"#!/bin/sh\n# "
        + PLACEHOLDER
        + b"\necho release "
        + level.encode()
        + b", V"
        + version.encode()
        + b"\n"
    )
    needs = (f"__cuda >={level}", "__glibc >=2.17")
    package(channel, subdir, "cuda-nvcc-impl", version, depends=needs, files={
        "bin/nvcc": Entry(script, 0o755, PLACEHOLDER), "bin/nvcc.profile": Entry(b"TOP = $(_HERE_)/..\n"),
        "bin/ptxas": Entry(b"#!/bin/sh\n", 0o755), "nvvm/bin/cicc": Entry(b"#!/bin/sh\n", 0o755)})  # fmt: skip
    package(channel, subdir, "cuda-cudart-dev", version, depends=needs, files={
        f"{target}/include/cuda.h": Entry(b"/* cuda.h */\n"), f"{target}/lib/libcudart.so.{level}": Entry(b"runtime"),
        f"{target}/lib/stubs/libcuda.so": Entry(b"stub")})  # fmt: skip
    for name in ("cuda-cccl", "cuda-nvrtc-dev"):
        package(channel, subdir, name, version, {f"{target}/include/{name}.h": Entry(b"\n")})


def upstream(channel: Path) -> str:
    """A channel with everything that an environment asks for, on two machines; the Python's minor version."""
    minor, files = this_python()
    package(channel, "linux-64", "python", f"{minor}.1", files, conda=True)
    package(channel, "linux-aarch64", "python", f"{minor}.1", {"bin/python": Entry(b"not run here")})
    for subdir in ("linux-64", "linux-aarch64"):
        for name in ("libcublas-dev", "libcurand-dev", "ninja"):
            package(channel, subdir, name, "1.0", {f"share/{name}": Entry(b"\n")})
        for version in ("12.6.85", "12.8.93", "13.0.88"):
            compiler(channel, subdir, version)
    (channel / "noarch").mkdir()
    return minor
