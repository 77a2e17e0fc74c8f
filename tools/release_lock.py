# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A resolver's answer as our lock text, and what the catalogue derives from it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import Wheel, best_wheel, wheel_tags

COMPONENTS = {
    "torch": ("torch",),
    "triton": ("triton",),
    "transformers": ("transformers",),
    "flashinfer": ("flashinfer-python",),
    "flashinfer_cubin": ("flashinfer-cubin",),
    "kernel": ("sglang-kernel", "sgl-kernel"),
    "nccl": ("nvidia-nccl-cu13", "nvidia-nccl-cu12"),
    "cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    "cuda_runtime": ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
    "nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
    # nvidia-cuda-nvcc-cu12 holds ptxas and headers only, so it is no compiler.
    "nvcc": ("nvidia-cuda-nvcc",),
    "humming": ("humming-kernels",),
    "tvm_ffi": ("apache-tvm-ffi",),
}
"""What rules look at -> the distributions that hold it, first found wins."""


@dataclass(frozen=True)
class Lock:
    text: str
    glibc: str
    """The lowest glibc that all wheels accept."""
    components: dict[str, str]
    wheels: tuple[Wheel, ...]


class NoWheelError(Exception):
    """A resolved package has no wheel for the target."""


def lock_name(version: str, cuda: str, arch: str, python: str) -> str:
    return f"{version}-{cuda}-{arch}-py{python}.txt"


def constraints_for(table: Mapping[str, Sequence[str]], cuda: str) -> list[str]:
    """What all releases of a CUDA tag are held to; a key is a tag or the start of one."""
    return [line for key, lines in table.items() if cuda.startswith(key) for line in lines]


def platform_glibc(platform: str) -> str:
    """manylinux_2_34 -> 2.34"""
    match = re.fullmatch(r"manylinux_(\d+)_(\d+)", platform)
    if not match:
        raise ValueError(f"platform {platform!r} is not of the form manylinux_2_34")
    return f"{match[1]}.{match[2]}"


def lock_of(pylock: Mapping[str, Any], python: str, arch: str, platform: str) -> Lock:
    """The one wheel of each package that the target installs: nothing else can match its hash."""
    ranks = wheel_tags(python, arch, platform_glibc(platform))
    chosen: list[tuple[str, str, Wheel]] = []
    missing = []
    for package in pylock["packages"]:
        name, version = package["name"], package["version"]
        wheel = best_wheel((_wheel(name, entry) for entry in package.get("wheels", ())), ranks)
        if wheel is None:
            missing.append(f"{name}=={version}")
        else:
            chosen.append((name, version, wheel))
    if missing:
        raise NoWheelError(f"no wheel for Python {python} on {arch}, {platform}: {', '.join(missing)}")
    chosen.sort(key=lambda item: item[0])
    text = "".join(f"{name}=={version} \\\n    --hash=sha256:{w.sha256}\n" for name, version, w in chosen)
    versions = {name: version for name, version, _unused in chosen}
    return Lock(
        text,
        glibc_floor([w for _unused, _unused, w in chosen]),
        components_of(versions),
        tuple(w for *_unused, w in chosen),
    )


def _wheel(name: str, entry: Mapping[str, Any]) -> Wheel:
    filename = entry.get("name") or unquote(urlsplit(entry["url"]).path.rsplit("/", 1)[-1])
    return Wheel(name, filename, entry["hashes"]["sha256"], entry.get("url", ""))


def glibc_floor(wheels: Sequence[Wheel]) -> str:
    """Each wheel asks for the lowest of its own tags; together they ask for the highest of those."""
    floors = []
    for wheel in wheels:
        found = [(int(a), int(b)) for a, b in re.findall(r"manylinux_(\d+)_(\d+)_", wheel.filename)]
        found += [{"2014": (2, 17), "2010": (2, 12), "1": (2, 5)}[year]
                  for year in re.findall(r"manylinux(2014|2010|1)_", wheel.filename)]  # fmt: skip
        if found:
            floors.append(min(found))
    highest = max(floors, default=(2, 5))
    return f"{highest[0]}.{highest[1]}"


def components_of(versions: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for component, names in COMPONENTS.items():
        present = [versions[name] for name in names if name in versions]
        if present:
            found[component] = present[0]
    return found


def with_variant_values(text: str, cuda: str, arch: str, values: Mapping[str, Any]) -> str:
    """A release's YAML text with keys of one variant replaced; comments and everything else stay."""
    lines = text.splitlines()
    start, end = _variant_block(lines, cuda, arch)
    block = lines[start:end]
    for key, value in values.items():
        block = _with_key(block, key, _rendered(key, value))
    return "\n".join([*lines[:start], *block, *lines[end:]]) + "\n"


def _variant_block(lines: list[str], cuda: str, arch: str) -> tuple[int, int]:
    starts = [index for index, line in enumerate(lines) if line.startswith("  - cuda:")]
    for start in starts:
        end = start + 1
        while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
            end += 1
        same_cuda = lines[start].split(":", 1)[1].split("#")[0].strip() == cuda
        if same_cuda and any(line.strip() == f"arch: {arch}" for line in lines[start:end]):
            return start, end
    raise ValueError(f"the release file has no variant with cuda: {cuda} and arch: {arch}")


def _with_key(block: list[str], key: str, rendered: list[str]) -> list[str]:
    for index, line in enumerate(block):
        if line.startswith(f"    {key}:"):
            end = index + 1
            while end < len(block) and block[end].startswith("      "):
                end += 1
            return [*block[:index], *rendered, *block[end:]]
    return [*block, *rendered]


def _rendered(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if not value:
            return [f"    {key}: {{}}"]
        return [f"    {key}:", *(f'      {_key(name)}: "{item}"' for name, item in value.items())]
    if isinstance(value, (list, tuple)):
        return [f"    {key}: [{', '.join(f'{item!r}'.replace(chr(39), chr(34)) for item in value)}]"]
    return [f"    {key}: {value}" if isinstance(value, int) else f'    {key}: "{value}"']


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f'"{name}"'
