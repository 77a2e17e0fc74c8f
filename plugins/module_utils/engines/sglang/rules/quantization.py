# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which weights, caches and kernel back ends a GPU and a release can work with."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.refusals import Advice, Refusal
from ....planner.case import Case
from ....planner.rules.registry import Finding, Rule, releases_with
from ..alternatives import HUMMING_RISK, family, nvfp4_feature, reads_nvfp4

# What --quantization may say about a checkpoint of another method.
READABLE_AS = {
    "compressed-tensors": ("w8a8_int8", "w8a8_fp8"),
    "awq": ("awq_marlin", "moe_wna16"),
    "gptq": ("gptq_marlin", "moe_wna16"),
    "modelopt_fp4": ("modelopt",),
    "w8a8_int8": ("compressed-tensors",),
}


def is_fp8(case: Case) -> bool:
    return case.model.quantization.weight_dtype.startswith("float8")


def fp8_experts(case: Case) -> Iterator[Finding]:
    if case.device != "cuda" or case.hardware.fp8 or not is_fp8(case) or not case.experts():
        return
    if case.value("quantization") == "humming" and case.accepts(HUMMING_RISK):
        yield Advice(
            "fp8-humming-unproven",
            case.head.host,
            case.where("quantization"),
            f"FP8 experts on capability {case.capability} run through humming kernels: never seen on this GPU",
        )
        return
    offers = family(case, lambda dtype: dtype in ("int8", "int4"))
    fix = f"use model: {' or '.join(offers)}" if offers else "use a checkpoint in INT8, INT4 or BF16"
    if case.has("humming"):
        fix += f"; unproven: accept: [{HUMMING_RISK}] runs it through humming kernels"
    elif releases_with(case, lambda features: "humming" in features):
        fix += "; a driver of 580 would allow an unproven way through humming kernels"
    yield Refusal(
        "fp8-experts",
        case.head.host,
        f"serve.{case.instance.name}.model = {case.model.key}",
        f"{case.hardware.key} (capability {case.capability}) has no FP8: the experts' kernel fails to compile "
        "at the first request, after the whole model was loaded",
        fix,
    )


def humming_alone(case: Case) -> Iterator[Finding]:
    runner = case.value("moe-runner-backend")
    if case.value("quantization") == "humming" and runner not in (None, "auto", "humming"):
        yield Refusal(
            "humming-runner",
            case.head.host,
            case.where("moe-runner-backend"),
            "humming brings its own expert kernels and refuses every other runner",
            "remove moe-runner-backend",
        )


def fp8_marlin_runner(case: Case) -> Iterator[Finding]:
    if is_fp8(case) and case.experts() and case.value("moe-runner-backend") == "marlin":
        yield Refusal(
            "moe-runner-fp8",
            case.head.host,
            case.where("moe-runner-backend"),
            "no release has Marlin kernels for FP8 experts: the first request fails",
            "remove moe-runner-backend; the engine takes Triton",
        )


def int8_experts(case: Case) -> Iterator[Finding]:
    weights = case.model.quantization
    if weights.weight_dtype != "int8" or not case.experts() or case.device != "cuda":
        return
    if case.value("quantization") not in ("w8a8_int8", "humming"):
        yield Refusal(
            "int8-needs-flag",
            case.head.host,
            f"serve.{case.instance.name}.model = {case.model.key} (--quantization "
            f"{case.value('quantization') or 'not given'})",
            "the engine's own reader refuses INT8 experts on NVIDIA GPUs unless it is told the method",
            "set quantization: w8a8_int8 in options, or in the model's catalogue entry",
        )


def shared_experts(case: Case) -> Iterator[Finding]:
    kept = [name for name in case.model.quantization.unconverted if "shared_expert" in name]
    if kept and case.experts() and case.model.quantization.bits < 16 and not _fusion_off(case):
        yield Refusal(
            "shared-experts-fusion",
            case.head.host,
            f"serve.{case.instance.name}.model = {case.model.key}",
            f"the checkpoint keeps {kept[0]} in 16 bits; the engine would join them with the quantized experts",
            "set disable-shared-experts-fusion: true in options",
        )


def _fusion_off(case: Case) -> bool:
    return bool(case.value("disable-shared-experts-fusion")) or (case.value("ep-size") or 1) != 1


def method_mismatch(case: Case) -> Iterator[Finding]:
    asked = case.value("quantization")
    own = case.model.quantization.method
    if not asked or not own or asked in (own, "humming", *READABLE_AS.get(own, ())):
        return
    yield Refusal(
        "quantization-mismatch",
        case.head.host,
        case.where("quantization"),
        f"the checkpoint says {own} in its config; the engine refuses to read it as {asked}",
        f"remove quantization from options: the engine reads {own} by itself",
    )


def explicit_fp8(case: Case) -> Iterator[Finding]:
    if case.value("quantization") == "w8a8_fp8" and case.device == "cuda" and not case.hardware.fp8:
        yield Refusal(
            "w8a8-fp8-capability",
            case.head.host,
            case.where("quantization"),
            f"w8a8_fp8 needs compute capability 8.9, {case.hardware.key} has {case.capability}",
            "remove quantization, or use an INT8 or INT4 checkpoint",
        )


def nvfp4(case: Case) -> Iterator[Finding]:
    if case.model.quantization.weight_dtype != "nvfp4" or case.device != "cuda":
        return
    if reads_nvfp4(case, case.model):
        return
    feature = nvfp4_feature(case.model)
    able = releases_with(case, lambda features: feature in features)
    offers = family(case, lambda dtype: dtype in ("int8", "int4"))
    usable = [key for key in able if key in case.able]
    if usable:
        fix = f"use release: {' or '.join(usable)}"
    elif able and able[-1] in case.unable:
        fix = f"make the host fit for {able[-1]}, which reads it ({case.unable[able[-1]]})"
    else:
        fix = "use a GPU of the Blackwell family"
    yield Refusal(
        "nvfp4-capability",
        case.head.host,
        f"serve.{case.instance.name}.model = {case.model.key}",
        f"{case.release.key} reads NVFP4 only on Blackwell; {case.hardware.key} has capability {case.capability}",
        fix + (f", or model: {' or '.join(offers)}" if offers else ""),
    )


def kv_cache(case: Case) -> Iterator[Finding]:
    dtype = str(case.value("kv-cache-dtype") or "auto")
    if case.device != "cuda" or not dtype.startswith("fp8") or case.hardware.fp8:
        return
    if dtype == "fp8_e4m3" and case.value("attention-backend") == "triton":
        yield Refusal(
            "kv-fp8-capability",
            case.head.host,
            case.where("kv-cache-dtype"),
            f"Triton cannot compile fp8_e4m3 for compute capability {case.capability}",
            "use kv-cache-dtype: fp8_e5m2 (stored as such, computed in 16 bits), or remove it",
        )
        return
    yield Advice(
        "kv-fp8-storage",
        case.head.host,
        case.where("kv-cache-dtype"),
        f"on capability {case.capability} FP8 only halves the cache: nothing gets faster, answers lose precision",
    )


def parser_mix(case: Case) -> Iterator[Finding]:
    for flag, own in (
        ("tool-call-parser", case.model.tool_call_parser),
        ("reasoning-parser", case.model.reasoning_parser),
    ):
        value = case.value(flag)
        if own and case.asked(flag) and value != own and case.contract.allows(flag, value):
            yield Advice(
                "other-parser",
                case.head.host,
                case.where(flag),
                f"{case.model.name} writes for {own}: with {value} calls or thoughts may stay in the text",
            )


RULES = (
    Rule(
        "fp8-experts", "Triton has no FP8 type below capability 8.9, and no other path exists.", fp8_experts
    ),
    Rule("humming-runner", "humming takes over experts and linear layers together.", humming_alone),
    Rule("moe-runner-fp8", "The scheme for FP8 experts knows no Marlin runner.", fp8_marlin_runner),
    Rule("int8-needs-flag", "Without the flag INT8 experts are taken for another vendor's.", int8_experts),
    Rule(
        "shared-experts-fusion", "Fusion does not look at how the shared experts are stored.", shared_experts
    ),
    Rule("quantization-mismatch", "The config of the checkpoint wins over the flag.", method_mismatch),
    Rule("w8a8-fp8-capability", "Its kernels start at capability 8.9.", explicit_fp8),
    Rule("nvfp4-capability", "Weight-only kernels for it came late.", nvfp4, of_release=True),
    Rule("kv-fp8-capability", "Triton has no fp8e4nv below capability 8.9.", kv_cache),
    Rule("other-parser", "A parser reads one family's format.", parser_mix),
)
