# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a compiler for what an engine compiles at start comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.refusals import Refusal
from .case import Case
from .versions import at_least, minor, version_key


@dataclass(frozen=True)
class Source:
    """Where nvcc comes from; falsy when there is none."""

    kind: str
    """wheels, conda, host or "" for none."""
    words: str
    cuda_home: str = ""
    version: str = ""

    def __bool__(self) -> bool:
        return bool(self.kind)


def compiler_source(case: Case, environment_path: str) -> Source:
    """The first of: the environment's own wheels, conda packages, a toolkit that every member has."""
    nvcc = case.component("nvcc")
    if nvcc:
        return Source(
            "wheels", f"nvcc {nvcc} from the environment's wheels", f"{environment_path}/cuda", nvcc
        )
    if case.inputs.runtime_backend == "pixi":
        return Source("conda", "nvcc from conda packages (runtime_backend: pixi)", f"{environment_path}/cuda")
    kits = [host.toolkit for host in case.hosts]
    wanted = cuda_version(case)
    if all(kit.nvcc and fits(kit.nvcc, wanted, case.hardware.ptxas) for kit in kits):
        return Source("host", f"nvcc {kits[0].nvcc} of the host", kits[0].cuda_home, kits[0].nvcc)
    return Source("", why_no_source(case, wanted))


def cuda_version(case: Case) -> str:
    """12.8 for cu128."""
    digits = case.variant.cuda.replace("cu", "")
    return f"{digits[:2]}.{digits[2:]}" if digits else ""


def fits(nvcc: str, wanted: str, floor: str) -> bool:
    """Same CUDA major as the libraries that the code is linked with, and new enough for the chip."""
    same_major = not wanted or nvcc.partition(".")[0] == wanted.partition(".")[0]
    return same_major and (not floor or at_least(nvcc, floor))


def why_no_source(case: Case, wanted: str) -> str:
    for host in case.hosts:
        nvcc = host.toolkit.nvcc
        if not nvcc:
            return f"the wheels of {case.variant.cuda} bring no nvcc and {host.host} has no CUDA toolkit"
        if not fits(nvcc, wanted, case.hardware.ptxas):
            floor = max((minor(wanted), case.hardware.ptxas), key=version_key)
            return f"the toolkit of {host.host} is {nvcc}, CUDA {floor} of the same major is needed"
    return "no compiler"


def triton_ptxas(case: Case, source: Source) -> tuple[str, list[Refusal]]:
    """The assembler that Triton must be given, where the one inside it is too old for the chip."""
    floor = case.hardware.ptxas
    bundled = case.component("ptxas")
    if case.device != "cuda" or not floor or not bundled or at_least(bundled, floor):
        return "", []
    if source and (not source.version or at_least(source.version, floor)):
        return f"{source.cuda_home}/bin/ptxas", []
    for host in case.hosts:
        if not host.toolkit.ptxas or not at_least(host.toolkit.ptxas, floor):
            return "", [
                Refusal(
                    "ptxas-too-old",
                    host.host,
                    f"release {case.release.key} (triton {case.component('triton')})",
                    f"its assembler is {bundled}; compute capability {case.capability} needs {floor}: "
                    "every kernel fails",
                    f"leave the release to the plan, or install a CUDA toolkit of {floor} or newer on {host.host}",
                )
            ]
    return f"{case.head.toolkit.cuda_home or '/usr/local/cuda'}/bin/ptxas", []


def compiler_problems(case: Case, source: Source, wanted: Sequence[str]) -> list[Refusal]:
    """Refusals for what must be compiled where nothing can compile it."""
    if not wanted or source:
        return []
    offers = [
        f"install a CUDA {minor(cuda_version(case))} toolkit on {', '.join(host.host for host in case.hosts)}",
        "set runtime_backend: pixi",
        *case.engine.without_compiler(case, list(wanted)),
    ]
    return [
        Refusal(
            "no-compiler",
            case.head.host,
            f"serve.{case.instance.name} on {case.release.key}",
            f"{', '.join(wanted)} are compiled at start and no compiler is there: {source.words}",
            ", or ".join(offers),
        )
    ]


def to_dict(
    case: Case, source: Source, ptxas: str, wanted: Sequence[str], proofs: Sequence[str]
) -> dict[str, Any]:
    """`wanted`: what nvcc compiles at start; `proofs`: what is compiled once when the environment is made."""
    return {
        "nvcc": list(wanted),
        "source": source.kind if wanted else "",
        "source_words": source.words if wanted else "",
        "cuda_home": source.cuda_home if wanted and source.kind else "",
        "ptxas_path": ptxas,
        "triton": case.device == "cuda",
        "needs": _programs(case, bool(wanted)),
        "capability": case.capability if case.device == "cuda" else "",
        "proofs": list(proofs),
    }


def _programs(case: Case, compiles: bool) -> list[str]:
    if compiles:
        return ["nvcc", "c++", "ninja", "python-headers"]
    # Triton builds its launcher with the C compiler, against Python's headers, and its kernels with its
    # own assembler.
    return ["cc", "python-headers"] if case.device == "cuda" else []
