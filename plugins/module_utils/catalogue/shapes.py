# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shape of a model: what memory, sharding and kernel files depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.refusals import Refusal, RefusedError


@dataclass(frozen=True)
class ModelShape:
    architecture: str
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    """From the config, never hidden_size / heads. For MLA the width of a query head (nope + rope)."""
    vocab_size: int
    max_context: int
    intermediate_size: int = 0
    attention: str = "gqa"
    """mha, gqa or mla."""
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    q_lora_rank: int = 0
    routed_experts: int = 0
    shared_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    dense_layers: int = 0
    """Leading layers without experts (first_k_dense_replace)."""
    mtp_layers: int = 0
    mtp_own_embeddings: bool = False
    """The checkpoint repeats embedding and head inside its MTP layer."""
    tied_embeddings: bool = False
    """One matrix serves as embedding and head."""
    index_head_dim: int = 0
    """Width of the sparse-attention index cached for each token and layer (DeepSeek V3.2)."""
    vision: bool = False
    vision_parameters: int = 0

    @property
    def mixture(self) -> bool:
        return self.routed_experts > 0


@dataclass(frozen=True)
class Quantization:
    method: str = ""
    """As the engine names it: "" (none), fp8, compressed-tensors, awq, gptq, w8a8_int8, modelopt_fp4 ..."""
    bits: int = 16
    weight_dtype: str = "bfloat16"
    """bfloat16, float8_e4m3, int8, int4, nvfp4."""
    activation_dtype: str = "bfloat16"
    group_size: int = 0
    strategy: str = ""
    """channel, tensor, block, group."""
    block_shape: tuple[int, ...] = ()
    """(128, 128) for block-wise scales."""
    zero_point: bool = False
    unconverted: tuple[str, ...] = ()
    """Module names left in the original dtype, as the checkpoint lists them."""


def raw(config: Mapping[str, Any], *names: str) -> Any:
    """The first of several keys that a config may use for one quantity, or None."""
    for name in names:
        if config.get(name) is not None:
            return config[name]
    return None


TEXT_PARTS = ("text_config", "language_config", "llm_config", "thinker_config")
"""Where multimodal configs keep the values of the language model."""

DERIVED_HEAD_DIM = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen2MoeForCausalLM",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Phi3ForCausalLM",
    "InternLM2ForCausalLM",
)
"""Architectures that define a head's width as hidden size / heads when the config does not say it."""

FUSED_MOE_WIDTH = ("MixtralForCausalLM", "GptOssForCausalLM")
"""Architectures whose intermediate_size is that of an expert."""

ENTRY = """\
family: {family}
shape:
{shape}
models:
  {family}: {{}}"""


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's own values, whether nested or not; its own keys win over the outer ones."""
    for part in TEXT_PARTS:
        if isinstance(config.get(part), Mapping):
            return {**config, **text_config(config[part])}
    return dict(config)


def derive_shape(config: Mapping[str, Any], where: str = "config.json") -> ModelShape:
    """The shape of any model out of its config.json; raises RefusedError naming every key that is missing."""
    values = text_config(config)
    architecture = str((config.get("architectures") or values.get("architectures") or [""])[0])
    mla = raw(values, "kv_lora_rank") is not None
    experts = raw(values, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts") or 0
    mixture = bool(experts)
    heads = raw(values, "num_attention_heads", "n_head", "n_heads")
    hidden = raw(values, "hidden_size", "n_embd", "d_model")
    found = {
        "layers": raw(values, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "hidden_size": hidden,
        "attention_heads": heads,
        "kv_heads": _kv_heads(values, architecture, heads, mla),
        "head_dim": _head_dim(values, architecture, hidden, heads, mla),
        "vocab_size": raw(values, "vocab_size", "padded_vocab_size"),
        "max_context": raw(
            values, "max_position_embeddings", "seq_length", "max_sequence_length", "n_positions"
        ),
    }
    if not mixture or architecture not in FUSED_MOE_WIDTH:
        found["intermediate_size"] = raw(values, "intermediate_size", "ffn_hidden_size", "n_inner")
    if mixture:
        found["experts_per_token"] = raw(values, "num_experts_per_tok", "experts_per_token", "moe_topk")
        width = ("intermediate_size",) if architecture in FUSED_MOE_WIDTH else ()
        found["moe_intermediate_size"] = raw(
            values, "moe_intermediate_size", "expert_ffn_hidden_size", *width
        )
    if mla:
        found["qk_rope_head_dim"] = raw(values, "qk_rope_head_dim")
        found["v_head_dim"] = raw(values, "v_head_dim")
    _refuse_missing(found, architecture, where, mla)
    kv_heads = found["kv_heads"]
    return ModelShape(
        architecture=architecture,
        attention="mla" if mla else ("mha" if kv_heads == heads else "gqa"),
        kv_lora_rank=raw(values, "kv_lora_rank") or 0,
        q_lora_rank=raw(values, "q_lora_rank") or 0,
        routed_experts=experts,
        shared_experts=_shared_experts(values),
        dense_layers=_dense_layers(values) if mixture else 0,
        mtp_layers=raw(values, "num_nextn_predict_layers", "num_mtp_layers") or 0,
        tied_embeddings=bool(raw(config, "tie_word_embeddings") or values.get("tie_word_embeddings")),
        index_head_dim=raw(values, "index_head_dim") or 0,
        vision=isinstance(config.get("vision_config"), Mapping),
        **found,
    )


def _kv_heads(values: Mapping[str, Any], architecture: str, heads: Any, mla: bool) -> Any:
    stated = raw(values, "num_key_value_heads", "multi_query_group_num", "num_kv_heads", "n_head_kv")
    # A config of such an architecture leaves the key out when every head has keys of its own.
    return heads if stated is None and (mla or architecture in DERIVED_HEAD_DIM) else stated


def _head_dim(values: Mapping[str, Any], architecture: str, hidden: Any, heads: Any, mla: bool) -> Any:
    if mla:
        nope, rope = raw(values, "qk_nope_head_dim"), raw(values, "qk_rope_head_dim")
        return nope + rope if nope is not None and rope is not None else None
    stated = raw(values, "head_dim", "kv_channels", "attention_head_dim")
    if stated is None and architecture in DERIVED_HEAD_DIM and hidden and heads:
        return hidden // heads
    return stated


def _shared_experts(values: Mapping[str, Any]) -> int:
    stated = raw(values, "n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
    if stated is not None:
        return int(stated)
    width, expert = raw(values, "shared_expert_intermediate_size"), raw(values, "moe_intermediate_size")
    return max(1, int(width) // int(expert)) if width and expert else 0


def _dense_layers(values: Mapping[str, Any]) -> int:
    stated = raw(values, "first_k_dense_replace", "moe_layer_start_index")
    if stated is not None:
        return int(stated)
    only = raw(values, "mlp_only_layers") or []
    return len(only)


NVFP4_BITS = 4
NVFP4_GROUP = 16
MXFP4_GROUP = 32

CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "max_context": "max_position_embeddings",
    "experts_per_token": "num_experts_per_tok",
}
"""Names that config.json uses for ours, where they differ."""


def _refuse_missing(found: Mapping[str, Any], architecture: str, where: str, mla: bool) -> None:
    missing = [name for name, value in found.items() if not isinstance(value, int) or isinstance(value, bool)]
    if architecture and not missing:
        return
    lines = [f"  architecture: {architecture or '...'}"]
    lines += [f"  {name}: {'...' if name in missing else value}" for name, value in found.items()]
    entry = ENTRY.format(family="my-model", shape="\n".join(lines))
    keys = [CONFIG_KEYS.get(name, name) for name in missing]
    if mla and "head_dim" in missing:
        keys[missing.index("head_dim")] = "qk_nope_head_dim and qk_rope_head_dim"
    if not architecture:
        keys.insert(0, "architectures")
    raise RefusedError(
        Refusal(
            "model-shape-unknown",
            "",
            f"{where}: {key}",
            "is missing or no number, and the shape cannot be derived without it",
            f"add it to the config, or put this entry beside the model catalogue and fill in the dots:\n{entry}",
        )
        for key in keys
    )


def derive_quantization(config: Mapping[str, Any]) -> Quantization:
    """How the weights are stored, out of config.json; bfloat16 when it says nothing."""
    values = text_config(config)
    stored = raw(config, "quantization_config", "compression_config") or raw(values, "quantization_config")
    dtype = str(raw(values, "dtype", "torch_dtype") or "bfloat16")
    if not isinstance(stored, Mapping):
        return Quantization(weight_dtype=dtype, activation_dtype=dtype)
    method = str(stored.get("quant_method", "")).lower()
    kept = raw(stored, "modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
    unconverted = tuple(str(name) for name in kept or ())
    if method == "compressed-tensors" or "config_groups" in stored:
        return _compressed_tensors(stored, method or "compressed-tensors", dtype, unconverted)
    if method.startswith("modelopt"):
        fp4 = "FP4" in str(stored.get("quant_algo", "")).upper()
        return Quantization(
            method="modelopt_fp4" if fp4 else "modelopt_fp8",
            bits=4 if fp4 else 8,
            weight_dtype="nvfp4" if fp4 else "float8_e4m3",
            activation_dtype="nvfp4" if fp4 else "float8_e4m3",
            group_size=NVFP4_GROUP if fp4 else 0,
            strategy="group" if fp4 else "tensor",
            unconverted=unconverted,
        )
    if method == "mxfp4":
        return Quantization("mxfp4", 4, "mxfp4", dtype, MXFP4_GROUP, "group", unconverted=unconverted)
    if method in {"fp8", "fbgemm_fp8"}:
        block = tuple(stored.get("weight_block_size") or ())
        strategy = "block" if block else "channel" if method == "fbgemm_fp8" else "tensor"
        return Quantization(
            method, 8, "float8_e4m3", "float8_e4m3", 0, strategy, block_shape=block, unconverted=unconverted
        )
    if method == "w8a8_int8":
        return Quantization(method, 8, "int8", "int8", 0, "channel", unconverted=unconverted)
    bits = int(raw(stored, "bits", "w_bit", "num_bits") or (4 if stored.get("load_in_4bit") else 8))
    return Quantization(
        method=method,
        bits=bits,
        weight_dtype=f"int{bits}",
        activation_dtype=dtype,
        group_size=max(0, int(raw(stored, "group_size", "q_group_size") or 0)),
        strategy="group",
        zero_point=bool(stored.get("zero_point", stored.get("sym") is False)),
        unconverted=unconverted,
    )


def _compressed_tensors(
    stored: Mapping[str, Any], method: str, dtype: str, unconverted: tuple[str, ...]
) -> Quantization:
    """The group that most weights belong to; a checkpoint with several widths is sized by its widest."""
    groups = [group for group in (stored.get("config_groups") or {}).values() if isinstance(group, Mapping)]
    groups = sorted(groups, key=lambda group: int((group.get("weights") or {}).get("num_bits") or 0))
    group = groups[-1] if groups else {}
    weights, inputs = group.get("weights") or {}, group.get("input_activations")
    bits = int(raw(weights, "num_bits") or raw(stored, "bits") or 8)
    floating = "nvfp4" if bits == NVFP4_BITS else "float8_e4m3"
    weight_dtype = floating if weights.get("type") == "float" else f"int{bits}"
    activations = dtype if inputs is None else weight_dtype
    return Quantization(
        # The engine's reader for compressed-tensors refuses INT8 experts: the method must be said by name.
        method="w8a8_int8" if weight_dtype == "int8" and activations == "int8" else method,
        bits=bits,
        weight_dtype=weight_dtype,
        activation_dtype=activations,
        group_size=max(0, int(raw(weights, "group_size") or raw(stored, "group_size") or 0)),
        strategy=str(weights.get("strategy") or ""),
        block_shape=tuple(weights.get("block_structure") or ()),
        zero_point=weights.get("symmetric") is False,
        unconverted=unconverted,
    )
