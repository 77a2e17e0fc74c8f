# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compilers that a server may call while it starts."""

from __future__ import annotations

import re

from .host import HostIo
from .schema import Toolkit
from .values import version

_LONGEST = 4096


def parse_nvcc(output: str) -> str:
    """`nvcc --version` and `ptxas --version`: the full number behind `V`."""
    found = re.search(r"\bV(\d{1,9}(?:\.\d{1,9}){1,4})", output)
    return found.group(1) if found else ""


def parse_cxx(output: str) -> str:
    """The last dotted number of the first line: before it stands the packager's own."""
    first = (output[:_LONGEST].splitlines() or [""])[0]
    numbers = re.findall(r"\d{1,9}(?:\.\d{1,9}){1,4}", re.sub(r"\([^()]*\)", "", first))
    return str(numbers[-1]) if numbers else version(output)


def _order(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def toolkit(io: HostIo) -> Toolkit:
    """Of several CUDA homes /usr/local/cuda counts, else the newest that has nvcc."""
    names = [name for name in io.names("/usr/local") if re.fullmatch(r"cuda(-\d+(\.\d+)*)?", name)]
    names.sort(key=lambda name: (name == "cuda", _order(name)), reverse=True)
    homes = [f"/usr/local/{name}" for name in names]
    home = next((home for home in homes if io.program(f"{home}/bin/nvcc")), "")
    inside = f"{home}/bin/" if home else ""
    return Toolkit(
        cuda_home=home,
        nvcc=parse_nvcc(io.run([f"{inside}nvcc", "--version"]).out),
        ptxas=parse_nvcc(io.run([f"{inside}ptxas", "--version"]).out),
        cxx=parse_cxx(io.run(["c++", "--version"]).out),
        ninja=version(io.run(["ninja", "--version"]).out),
        cuda_homes=tuple(homes),
    )
