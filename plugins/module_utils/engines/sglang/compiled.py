# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chosen settings compile at start, and which settings and releases compile nothing."""

from __future__ import annotations

from ...catalogue.entries import Release
from ...planner.case import Case
from ...planner.release_choice import BELOW_SECURITY_FLOOR
from ...planner.versions import at_least, served, version_key

MARLIN = "Marlin kernels"
MARLIN_METHODS = ("awq", "awq_marlin", "gptq", "gptq_marlin")


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
        found.append(MARLIN)
    if case.has("jit-kernels"):
        found.append("the engine's own kernels (rotary embedding, KV cache)")
    if case.value("quantization") == "humming":
        found.append("humming kernels")
    return list(dict.fromkeys(found))


def proofs(case: Case, wanted: list[str]) -> list[str]:
    """What is compiled once when the environment is made, so that a start does not find out."""
    if case.device != "cuda":
        return []
    found = ["triton"]
    if wanted:
        found.append("cuda")
    if any("flashinfer" in item for item in wanted):
        found.append("flashinfer")
    if case.has("jit-kernels") or MARLIN in wanted:
        found.append("tvm-ffi")
    return found


def without_compiler(case: Case, wanted: list[str]) -> list[str]:
    """Ways out where nothing can compile: other settings, a release that brings its kernels built."""
    offers = []
    if all("flashinfer" in item for item in wanted):
        offers.append("use attention-backend: triton and sampling-backend: pytorch")
    if wanted == [MARLIN]:
        offers += [f"use model: {key}" for key in _int8_family(case)]
    ready = [release for release in case.data.releases.values() if _built(case, release)]
    if ready:
        best = max(ready, key=lambda release: version_key(release.version))
        accept = f" with accept: [{BELOW_SECURITY_FLOOR}]" if best.security else ""
        offers.append(f"pin release: {best.key}{accept}, whose kernels are built into its wheels")
    return offers


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
