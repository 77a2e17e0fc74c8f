# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chosen settings compile at start, and where a compiler for it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..catalogue.entries import Release
from ..core.refusals import Refusal
from .case import Case
from .release_choice import BELOW_SECURITY_FLOOR
from .versions import at_least, minor, served, version_key

MARLIN_METHODS = ("awq", "awq_marlin", "gptq", "gptq_marlin")
FIRST_FP8_CAPABILITY = "8.9"


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


def uses_marlin(case: Case) -> bool:
    """Whether a Marlin kernel runs: 4-bit weights, or FP8 layers on a GPU without FP8."""
    method = case.value("quantization") or case.model.quantization.method
    if method in ("humming", "w8a8_int8", "moe_wna16"):
        return False
    if method in MARLIN_METHODS:
        return True
    if case.model.quantization.weight_dtype == "int4":
        return True
    return case.model.quantization.weight_dtype.startswith("float8") and not case.hardware.fp8


def needs(case: Case) -> list[str]:
    """What is compiled with nvcc at start, in words; empty on a CPU."""
    if case.device != "cuda":
        return []
    found = []
    for flag in ("attention-backend", "prefill-attention-backend", "decode-attention-backend"):
        if case.value(flag) == "flashinfer":
            found.append("flashinfer attention")
    if case.value("sampling-backend") == "flashinfer":
        found.append("flashinfer sampling")
    if uses_marlin(case) and case.has("jit-marlin"):
        found.append("Marlin kernels")
    if case.has("jit-kernels"):
        found.append("the engine's own kernels (rotary embedding, KV cache)")
    if case.value("quantization") == "humming":
        found.append("humming kernels")
    return list(dict.fromkeys(found))


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


def compiler_problems(case: Case, source: Source) -> list[Refusal]:
    """Refusals for what must be compiled where nothing can compile it."""
    wanted = needs(case)
    if not wanted or source:
        return []
    return [
        Refusal(
            "no-compiler",
            case.head.host,
            f"serve.{case.instance.name} on {case.release.key}",
            f"{', '.join(wanted)} are compiled at start and no compiler is there: {source.words}",
            _without_compiler(case, wanted),
        )
    ]


def _without_compiler(case: Case, wanted: list[str]) -> str:
    """Every way out: a toolkit, conda packages, other settings, a release that brings its kernels built."""
    offers = [
        f"install a CUDA {minor(cuda_version(case))} toolkit on {', '.join(host.host for host in case.hosts)}",
        "set runtime_backend: pixi",
    ]
    if all("flashinfer" in item for item in wanted):
        offers.append("use attention-backend: triton and sampling-backend: pytorch")
    if wanted == ["Marlin kernels"]:
        offers += [f"use model: {key}" for key in _int8_family(case)]
    ready = [release for release in case.inputs.catalogues.releases.values() if _built(case, release)]
    if ready:
        best = max(ready, key=lambda release: version_key(release.version))
        accept = f" with accept: [{BELOW_SECURITY_FLOOR}]" if best.security else ""
        offers.append(f"pin release: {best.key}{accept}, whose kernels are built into its wheels")
    return ", or ".join(offers)


def _int8_family(case: Case) -> list[str]:
    return [
        model.key
        for model in case.inputs.catalogues.models.values()
        if model.family == case.model.family and model.quantization.weight_dtype == "int8"
    ]


def _built(case: Case, release: Release) -> bool:
    """A release that would run here and compiles nothing by itself."""
    if "jit-kernels" in release.features or (uses_marlin(case) and "aot-marlin" not in release.features):
        return False
    driver = case.head.driver.version if case.head.driver else ""
    return case.model.shape.architecture in release.architectures and any(
        variant.arch == case.variant.arch
        and at_least(driver, variant.driver)
        and served(case.capability, variant.compute_capabilities)
        for variant in release.variants
    )


def to_dict(case: Case, source: Source, ptxas: str) -> dict[str, Any]:
    wanted = needs(case)
    return {
        "nvcc": wanted,
        "source": source.kind if wanted else "",
        "source_words": source.words if wanted else "",
        "cuda_home": source.cuda_home if wanted and source.kind else "",
        "ptxas_path": ptxas,
        "triton": case.device == "cuda",
        "needs": _programs(case, wanted),
        "capability": case.capability if case.device == "cuda" else "",
        "proofs": _proofs(case, wanted),
    }


def _proofs(case: Case, wanted: list[str]) -> list[str]:
    """What is compiled once when the environment is made, so that a start does not find out."""
    if case.device != "cuda":
        return []
    found = ["triton"]
    if wanted:
        found.append("cuda")
    if any("flashinfer" in item for item in wanted):
        found.append("flashinfer")
    if case.has("jit-kernels") or "Marlin kernels" in wanted:
        found.append("tvm-ffi")
    return found


def _programs(case: Case, wanted: list[str]) -> list[str]:
    if wanted:
        return ["nvcc", "c++", "ninja", "python-headers"]
    # Triton builds its launcher with the C compiler, against Python's headers, and its kernels with its
    # own assembler.
    return ["cc", "python-headers"] if case.device == "cuda" else []
