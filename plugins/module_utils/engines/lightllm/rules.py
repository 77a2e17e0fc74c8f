# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Combinations of LightLLM's flags that cannot work, and those that deserve a warning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...core.refusals import Advice, Refusal
from ...planner.case import Case
from ...planner.rules.registry import Finding, Rule
from .settings import MODE, STEPS, WITH_FA3, whole

BACKENDS = ("llm_prefill_att_backend", "llm_decode_att_backend", "vit_att_backend")
OF_MLA = ("auto", "triton", "fa3", "flashinfer")
OWN_QUANTIZATION = (
    "none", "fp8w8a8-pt", "fp8w8a8-pt-triton", "fp8w8a8-pt-sgl", "fp8w8a8-b128", "fp8w8a8-b128-triton",
    "fp8w8a8g128", "fp8w8a8g128-triton", "fp8w8a8g64", "fp8w8a8g64-triton",
)  # fmt: skip
WITH_VLLM = (
    "w8a8", "w8a8-vllm", "fp8w8a8", "fp8w8a8-vllm", "fp8w8a8-pt-vllm", "fp8w8a8-b128-vllm", "awq", "awq_marlin",
)  # fmt: skip
WITH_DEEPGEMM = ("fp8w8a8-b128-deepgemm", "fp4fp8-b32-deepgemm")
NOT_INSTALLED: dict[str, dict[Any, str]] = {
    "output_constraint_mode": {"outlines": "outlines", "xgrammar": "xgrammar"},
    "enable_disk_cache": {True: "light_mem"},
    "enable_ep_moe": {True: "deep_ep"},
    "enable_torch_memory_saver": {True: "torch_memory_saver"},
    "pd_trans_mode": {"nixl": "nixl"},
}
"""Flag -> value -> the package that its code imports, which the lock leaves out."""
UNSAFE = {
    "enable_rl": "it opens routes that replace the weights, without a key",
    "visual_use_proxy_mode": "its processes unpickle what other hosts send",
    "config_server_host": "its processes unpickle what other hosts send",
}
REMOTE_CODE_RISK = "remote-code"
PICKLE_RISK = "pickled-weights"


def _refused(code: str, case: Case, flag: str, what: str, fix: str) -> Refusal:
    return Refusal(code, case.head.host, case.where(flag), what, fix)


def cpu(case: Case) -> Iterator[Finding]:
    if case.device != "cuda":
        yield Refusal(
            "engine-device",
            case.head.host,
            f"serve.{case.instance.name}.engine = lightllm",
            "LightLLM calls CUDA everywhere: it cannot serve on a CPU",
            "use engine: sglang, or a host with GPUs",
        )


def several_hosts(case: Case) -> Iterator[Finding]:
    """Its launcher passes Python objects over sockets without a password and finds its address by the host's name."""
    if case.parallel.nodes > 1:
        yield Refusal(
            "engine-hosts",
            case.head.host,
            case.instance.where("hosts", list(case.instance.hosts)),
            "between hosts LightLLM unpickles what anybody sends to its ports",
            "name one host for each instance, or use engine: sglang",
        )
    if case.parallel.pipeline > 1:
        yield Refusal(
            "engine-pipeline",
            case.head.host,
            f"serve.{case.instance.name} (pipeline {case.parallel.pipeline})",
            "LightLLM has no pipeline stages",
            "leave pipeline_parallel out and give a tensor_parallel that divides the model",
        )


def attention(case: Case) -> Iterator[Finding]:
    latent = case.model.shape.attention == "mla"
    for flag in BACKENDS:
        value = case.value(flag)
        for name in value if isinstance(value, list) else [value]:
            if name == "fa3" and (case.capability != WITH_FA3 or case.variant.arch != "x86_64"):
                yield _refused(
                    "attention-fa3",
                    case,
                    flag,
                    f"the kernel wheel for {case.variant.arch} has no FlashAttention 3 that was seen on compute "
                    f"capability {case.capability}, and an explicit fa3 is not tried before the first request",
                    f"leave {flag} out, or use triton",
                )
            elif latent and flag != "vit_att_backend" and name not in (None, *OF_MLA):
                yield _refused(
                    "attention-mla", case, flag, f"{name} is not for models with MLA", f"leave {flag} out"
                )
            elif name == "auto" and case.asked(flag):
                yield Advice(
                    "attention-auto",
                    case.head.host,
                    case.where(flag),
                    "the engine tries each backend first: a start may take half an hour longer for each",
                )


def mtp(case: Case) -> Iterator[Finding]:
    mode, steps = case.value("mtp_mode"), case.value("mtp_step")
    folders = case.value("mtp_draft_model_dir")
    if not mode:
        for flag in ("mtp_step", "mtp_draft_model_dir"):
            if case.value(flag):
                yield _refused(
                    "mtp-incomplete",
                    case,
                    flag,
                    "without mtp_mode the engine ends at start",
                    f"remove it, or use speculative: true ({MODE}, {STEPS} steps); options may say mtp_mode as well",
                )
        return
    model = case.model
    if not model.shape.mtp_layers and not case.asked("mtp_draft_model_dir"):
        yield _refused(
            "mtp-draft",
            case,
            "mtp_mode",
            f"{model.key} has no MTP layer",
            "remove it, or name the folder of a draft in mtp_draft_model_dir",
        )
    if str(mode).endswith("_no_att"):
        yield _refused(
            "mtp-mode",
            case,
            "mtp_mode",
            f"the MTP layer of {model.name} has attention",
            "use eagle_with_att or vanilla_with_att",
        )
    if whole(steps) is None:
        yield _refused(
            "mtp-incomplete", case, "mtp_step", "the engine wants at least one step", f"use mtp_step: {STEPS}"
        )
        return
    wanted = steps if str(mode).startswith("vanilla") else 1
    given = folders if isinstance(folders, list) else [folders] if folders else []
    if given and len(given) < wanted:
        yield _refused(
            "mtp-incomplete",
            case,
            "mtp_draft_model_dir",
            f"{mode} takes one folder for each of its {wanted} drafts, {len(given)} are named",
            "leave it out: the plan names the model's own folder for each",
        )


def quantization(case: Case) -> Iterator[Finding]:
    value = case.value("quant_type")
    if value is not None and value not in OWN_QUANTIZATION:
        package = "vllm" if value in WITH_VLLM else "deep_gemm" if value in WITH_DEEPGEMM else ""
        yield _refused(
            "quantization-package" if package else "quantization-unknown",
            case,
            "quant_type",
            f"its kernels are in {package}, which the lock of {case.release.key} leaves out"
            if package
            else f"LightLLM {case.release.key} has no such method",
            f"use one of {', '.join(OWN_QUANTIZATION[1:])}, or leave it out",
        )
    stored = case.model.quantization
    if stored.bits < 16 and not (stored.method == "fp8" and stored.block_shape == (128, 128) and value):
        what = {
            "awq": "its kernels are in vllm, which the lock leaves out",
            "fp8": "without quant_type the engine takes kernels of vllm or deep_gemm, which the lock leaves out",
        }.get(stored.method, f"LightLLM reads no checkpoint of the method {stored.method}")
        family = [
            model.key
            for model in case.inputs.catalogues.models.values()
            if model.family == case.model.family and model.quantization.bits == 16
        ]
        yield Refusal(
            "quantization-checkpoint",
            case.head.host,
            case.instance.where("model"),
            what,
            f"use model: {' or '.join(family) or 'a checkpoint in BF16'}, or engine: sglang",
        )
    elif value not in (None, "none") and str(value).startswith("fp8") and not case.hardware.fp8:
        yield _refused(
            "quantization-fp8",
            case,
            "quant_type",
            f"{case.hardware.key} (capability {case.capability}) has no FP8",
            "leave it out",
        )


def kv_cache(case: Case) -> Iterator[Finding]:
    value = case.value("llm_kv_type")
    if value not in (None, "None") and case.model.shape.attention == "mla":
        yield _refused(
            "kv-cache-mla",
            case,
            "llm_kv_type",
            "LightLLM quantizes no cache of MLA",
            "leave kv_cache_dtype and llm_kv_type out",
        )


def sizes(case: Case) -> Iterator[Finding]:
    chunk, batch = whole(case.value("chunked_prefill_size")), whole(case.value("batch_max_tokens")) or 16384
    if chunk and chunk > batch and not case.value("disable_chunked_prefill"):
        yield _refused(
            "chunk-too-large",
            case,
            "chunked_prefill_size",
            f"a prefill batch holds {batch} tokens (batch_max_tokens), and the engine ends at start",
            f"use {batch} or less, or a larger batch_max_tokens",
        )
    parallel, wanted = case.parallel.tensor, whole(case.value("dp")) or 1
    if wanted not in (1, parallel):
        yield _refused(
            "dp-size", case, "dp", f"it must be 1 or the tensor_parallel of {parallel}", "remove it"
        )


def packages(case: Case) -> Iterator[Finding]:
    for flag, values in NOT_INSTALLED.items():
        package = values.get(case.value(flag)) if case.asked(flag) else None
        if package:
            yield _refused(
                "package-missing",
                case,
                flag,
                f"its code is in {package}, which the lock of {case.release.key} leaves out",
                "remove it",
            )


def unsafe(case: Case) -> Iterator[Finding]:
    for flag, what in UNSAFE.items():
        if case.value(flag):
            yield _refused("unsafe-flag", case, flag, what, "remove it")


def remote_code(case: Case) -> Iterator[Finding]:
    """Some of its loads trust a checkpoint whatever the flag says."""
    if case.model.checkpoint_code or case.value("trust_remote_code"):
        flag = "trust_remote_code" if case.value("trust_remote_code") else "model_dir"
        if case.accepts(REMOTE_CODE_RISK):
            yield Advice(
                "trust-remote-code",
                case.head.host,
                case.where(flag),
                f"accepted: {REMOTE_CODE_RISK}; Python files of the checkpoint may run in the engine",
            )
        else:
            yield _refused(
                "remote-code",
                case,
                flag,
                "LightLLM runs the Python files that config.json of a checkpoint names (auto_map)",
                f"serve a checkpoint without them, or accept: [{REMOTE_CODE_RISK}] after reading them",
            )


def pickled_weights(case: Case) -> Iterator[Finding]:
    if not case.model.pickled_weights:
        return
    what = (
        "its folder has no *.safetensors, and Python unpickles its *.bin files: a changed file may run code"
    )
    where = case.instance.where("model")
    if case.accepts(PICKLE_RISK):
        yield Advice("pickled-weights", case.head.host, where, f"accepted: {PICKLE_RISK}; {what}")
    else:
        fix = f"convert the weights to safetensors, or accept: [{PICKLE_RISK}]"
        yield Refusal("pickled-weights", case.head.host, where, what, fix)


def unfulfilled(case: Case) -> Iterator[Finding]:
    """Keys of an instance that this engine has nothing for."""
    instance = case.instance
    for key in ("thinking_budget", "preserved_thinking", "checksum_at_start"):
        if getattr(instance, key):
            yield Refusal(
                "engine-lacks",
                case.head.host,
                f"serve.{instance.name}.{key} = true",
                "LightLLM has nothing for it",
                "remove it, or use engine: sglang",
            )


RULES = (
    Rule("engine-device", "It calls CUDA everywhere.", cpu),
    Rule("engine-hosts", "Unauthenticated sockets carry pickles.", several_hosts),
    Rule("attention-fa3", "An explicit backend is not tried before the first request.", attention),
    Rule("mtp-incomplete", "Half a set of MTP flags ends the engine at start.", mtp),
    Rule("quantization-package", "Some kernels are in packages that no lock has.", quantization),
    Rule("kv-cache-mla", "The engine has no quantized cache for MLA.", kv_cache),
    Rule("chunk-too-large", "The engine ends at start.", sizes),
    Rule("package-missing", "The flag's code cannot be imported.", packages),
    Rule("unsafe-flag", "Routes and sockets without a key.", unsafe),
    Rule(
        REMOTE_CODE_RISK, "A checkpoint is data; code in it runs only when the user accepts it.", remote_code
    ),
    Rule(PICKLE_RISK, "Unpickling a file may run code.", pickled_weights),
    Rule("engine-lacks", "A request that nothing fulfils is refused.", unfulfilled),
)
