# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a pixi project: pixi.toml and pixi.lock (version 6) for several environments. No I/O.

Version 6 is read by every pixi of the last years; nothing here needs a newer one. Locations begin with a
placeholder, because a lock may not name a relative place: `here.sh` beside it puts the real folder in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}
PLACEHOLDER = "file:///@BUNDLE@"
CHANNEL = f"{PLACEHOLDER}/conda"
# What a lock says of a conda package, in the order in which pixi writes it.
CONDA_KEYS = ("build", "build_number", "subdir", "noarch", "sha256", "md5", "depends", "constrains",
              "arch", "platform", "license", "size", "timestamp", "python_site_packages_path")  # fmt: skip
HERE = """#!/bin/sh
# Writes pixi.toml and pixi.lock for the bundle as it lies here:  sh pixi/here.sh TARGET
# and then, in TARGET:  pixi install --frozen --environment NAME
set -eu
bundle=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
for name in pixi.toml pixi.lock; do
  sed "s|@BUNDLE@|${bundle#/}|g" "$bundle/pixi/$name" >"$1/$name"
done
"""


@dataclass(frozen=True)
class CondaPackage:
    """One archive of the channel, as the index describes it."""

    filename: str
    name: str
    version: str
    record: Mapping[str, Any]

    @property
    def subdir(self) -> str:
        return str(self.record["subdir"])

    @property
    def location(self) -> str:
        return f"{CHANNEL}/{self.subdir}/{self.filename}"


@dataclass(frozen=True)
class WheelFile:
    filename: str
    name: str
    version: str
    sha256: str

    @property
    def location(self) -> str:
        return f"{PLACEHOLDER}/wheels/{self.filename}"


@dataclass(frozen=True)
class PixiEnvironment:
    """One variant: what conda and the wheels give it, and the CUDA that it asks the machine for."""

    name: str
    platform: str
    cuda: str
    """12.8; empty on a CPU."""
    glibc: str
    python: str
    specs: tuple[str, ...]
    conda: tuple[CondaPackage, ...] = ()
    wheels: tuple[WheelFile, ...] = field(default=(), repr=False)


def bundle_paths(files: Iterable[str], arch: str) -> list[str]:
    """What a host of one machine needs of a bundle to install the conda half, beside wheels and lock."""
    subdirs = (f"conda/{PLATFORMS[arch]}/", "conda/noarch/")
    return sorted(
        name
        for name in files
        if name == "pixi/pixi.lock"
        or (name.startswith(subdirs) and name.endswith((".conda", ".tar.bz2")))
        or (name.startswith("wheels/py_rattler-") and name.endswith(f"_{arch}.whl"))
    )


def environment_name(release: str, cuda: str, python: str) -> str:
    """pixi takes lower-case letters, digits and dashes: v0-5-9-cu128-py311."""
    return re.sub(r"[^a-z0-9]+", "-", f"v{release}-{cuda}-py{python.replace('.', '')}".lower())


def project(environments: Sequence[PixiEnvironment]) -> str:
    """pixi.toml; environments of one name differ by platform only."""
    platforms = sorted({item.platform for item in environments})
    lines = [
        "[workspace]",
        'name = "sglang"',
        f"channels = [{_text(CHANNEL)}]",
        f"platforms = [{', '.join(map(_text, platforms))}]",
        "",
        "[environments]",
    ]
    names = list(dict.fromkeys(item.name for item in environments))
    lines += [
        f"{_text(name)} = {{ features = [{_text(name)}], no-default-feature = true }}" for name in names
    ]
    for name in names:
        alike = [item for item in environments if item.name == name]
        lines += [
            "",
            f"[feature.{name}]",
            f"platforms = [{', '.join(_text(item.platform) for item in alike)}]",
        ]
        asked = [
            f"libc = {_text(alike[0].glibc)}",
            *([f"cuda = {_text(alike[0].cuda)}"] if alike[0].cuda else []),
        ]
        lines += [f"[feature.{name}.system-requirements]", *asked, f"[feature.{name}.dependencies]"]
        lines += [f"{spec.split()[0]} = {_text([*spec.split(), '*'][1])}" for spec in alike[0].specs]
        for item in alike:
            lines.append(f"[feature.{name}.target.{item.platform}.pypi-dependencies]")
            lines += [f"{_text(wheel.name)} = {{ url = {_text(wheel.location)} }}" for wheel in item.wheels]
    return "\n".join(lines) + "\n"


def lock(environments: Sequence[PixiEnvironment]) -> str:
    """pixi.lock in version 6. Quoted text is JSON, which is YAML as well."""
    lines = ["version: 6", "environments:"]
    for name in dict.fromkeys(item.name for item in environments):
        lines += [f"  {name}:", "    channels:", f"    - url: {CHANNEL}/", "    packages:"]
        for item in sorted((one for one in environments if one.name == name), key=lambda one: one.platform):
            lines.append(f"      {item.platform}:")
            lines += [f"      - conda: {package.location}" for package in item.conda]
            lines += [f"      - pypi: {wheel.location}" for wheel in item.wheels]
    lines.append("packages:")
    conda = {package.location: package for item in environments for package in item.conda}
    for location, package in sorted(conda.items()):
        lines += [f"- conda: {location}", f"  name: {package.name}", f"  version: {_text(package.version)}"]
        for key in CONDA_KEYS:
            value = package.record.get(key)
            if value not in (None, [], ""):
                lines.append(f"  {key}: {json.dumps(value)}")
    wheels = {wheel.location: wheel for item in environments for wheel in item.wheels}
    for location, wheel in sorted(wheels.items()):
        lines += [f"- pypi: {location}", f"  name: {wheel.name}", f"  version: {_text(wheel.version)}",
                  f"  sha256: {wheel.sha256}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value)
