# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a checkpoint of the GLM-4.7 shape with random weights at reduced depth: FP8, INT8 or AWQ.

The router is random too, so that tokens spread over all experts as in service; dummy weights send all of them to the
same few and hide what kernels cost. `plan_of` says which tensors there are and needs no torch.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN, HEADS, KV_HEADS, HEAD, VOCAB, DENSE, EXPERTS, GROUP = 5120, 96, 8, 128, 151552, 12288, 160, 128
CONTEXT, FIRST_SPECIAL, FILE_BYTES = 202752, 151329, 1_250_000_000
SPECIAL = {
    151329: "<|endoftext|>", 151330: "[MASK]", 151331: "[gMASK]", 151332: "[sMASK]", 151333: "<sop>", 151334: "<eop>",
    151335: "<|system|>", 151336: "<|user|>", 151337: "<|assistant|>", 151338: "<|observation|>",
    151350: "<think>", 151351: "</think>", 151352: "<tool_call>", 151353: "</tool_call>",
    151354: "<tool_response>", 151355: "</tool_response>", 151356: "<arg_key>", 151357: "</arg_key>",
    151358: "<arg_value>", 151359: "</arg_value>", 151360: "/nothink",
}  # fmt: skip
BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1, "I8": 1, "I32": 4}
METHODS = ("fp8", "int8", "awq")


@dataclass(frozen=True)
class Tensor:
    name: str
    kind: str
    """Type as safetensors names it."""
    shape: tuple[int, ...]
    fill: str
    """ones, zeros, normal, scale, bits."""

    @property
    def count(self) -> int:
        found = 1
        for side in self.shape:
            found *= side
        return found

    @property
    def bytes(self) -> int:
        return self.count * BYTES[self.kind]


def plan_of(method: str, layers: int, width: int, mtp: bool = True) -> Iterator[Tensor]:
    """Every tensor of the checkpoint: one dense layer, then layers with experts, then the MTP layer."""
    plain = "F16" if method == "awq" else "BF16"
    yield Tensor("model.embed_tokens.weight", plain, (VOCAB, HIDDEN), "normal")
    yield Tensor("lm_head.weight", plain, (VOCAB, HIDDEN), "normal")
    yield Tensor("model.norm.weight", plain, (HIDDEN,), "ones")
    for layer in range(layers + (1 if mtp else 0)):
        yield from _layer(f"model.layers.{layer}", method, plain, width, layer == 0)
    if mtp:
        own = f"model.layers.{layers}"
        yield Tensor(f"{own}.eh_proj.weight", plain, (HIDDEN, 2 * HIDDEN), "normal")
        for name in ("enorm", "hnorm", "shared_head.norm"):
            yield Tensor(f"{own}.{name}.weight", plain, (HIDDEN,), "ones")


def _layer(own: str, method: str, plain: str, width: int, dense: bool) -> Iterator[Tensor]:
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield Tensor(f"{own}.{name}.weight", plain, (HIDDEN,), "ones")
    attention = f"{own}.self_attn"
    for name, rows in (("q_proj", HEADS * HEAD), ("k_proj", KV_HEADS * HEAD), ("v_proj", KV_HEADS * HEAD)):
        yield from _linear(f"{attention}.{name}", method, plain, rows, HIDDEN)
        yield Tensor(f"{attention}.{name}.bias", plain, (rows,), "zeros")
    yield from _linear(f"{attention}.o_proj", method, plain, HIDDEN, HEADS * HEAD)
    for name in ("q_norm", "k_norm"):
        yield Tensor(f"{attention}.{name}.weight", plain, (HEAD,), "ones")
    if dense:
        yield from _mlp(f"{own}.mlp", method, plain, DENSE)
        return
    yield Tensor(f"{own}.mlp.gate.weight", plain, (EXPERTS, HIDDEN), "normal")
    yield Tensor(f"{own}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,), "zeros")
    for expert in range(EXPERTS):
        yield from _mlp(f"{own}.mlp.experts.{expert}", method, plain, width)
    # The AWQ checkpoint leaves the shared expert as it is.
    yield from _mlp(f"{own}.mlp.shared_experts", "" if method == "awq" else method, plain, width)


def _mlp(own: str, method: str, plain: str, width: int) -> Iterator[Tensor]:
    yield from _linear(f"{own}.gate_proj", method, plain, width, HIDDEN)
    yield from _linear(f"{own}.up_proj", method, plain, width, HIDDEN)
    yield from _linear(f"{own}.down_proj", method, plain, HIDDEN, width)


def _linear(own: str, method: str, plain: str, rows: int, columns: int) -> Iterator[Tensor]:
    if method == "awq":
        yield Tensor(f"{own}.qweight", "I32", (columns, rows // 8), "bits")
        yield Tensor(f"{own}.qzeros", "I32", (columns // GROUP, rows // 8), "bits")
        yield Tensor(f"{own}.scales", "F16", (columns // GROUP, rows), "scale")
    elif method in ("fp8", "int8"):
        yield Tensor(f"{own}.weight", "F8_E4M3" if method == "fp8" else "I8", (rows, columns), "bits")
        yield Tensor(f"{own}.weight_scale", "F32", (rows, 1), "scale")
    else:
        yield Tensor(f"{own}.weight", plain, (rows, columns), "normal")


def config(method: str, layers: int, width: int, mtp: bool = True) -> dict[str, Any]:
    return {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": [151329, 151336, 151338],
        "first_k_dense_replace": 1,
        "head_dim": HEAD,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": DENSE,
        "max_position_embeddings": CONTEXT,
        "moe_intermediate_size": width,
        "n_group": 1,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": 8,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "num_nextn_predict_layers": 1 if mtp else 0,
        "pad_token_id": 151329,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "routed_scaling_factor": 2.5,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "torch_dtype": "float16" if method == "awq" else "bfloat16",
        "use_cache": True,
        "use_qk_norm": True,
        "vocab_size": VOCAB,
        "quantization_config": _quantization(method),
    }


def _quantization(method: str) -> dict[str, Any]:
    if method == "awq":
        return {
            "quant_method": "awq", "bits": 4, "group_size": GROUP, "version": "gemm", "zero_point": True,
            "modules_to_not_convert": ["embed_tokens", "shared_experts", "shared_head", "lm_head", "eh_proj", "mlp.gate."],
        }  # fmt: skip
    kind = "float" if method == "fp8" else "int"
    side = {"num_bits": 8, "type": kind, "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "float-quantized" if method == "fp8" else "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head", "re:.*mlp.gate$", "re:.*eh_proj$"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**side, "strategy": "channel", "dynamic": False},
                "input_activations": {**side, "strategy": "token", "dynamic": True},
            }
        },
    }


def tokenizer() -> dict[str, Any]:
    """One token for each printable character, a word of its own for every other number of the vocabulary."""
    letters = ["\n", *(chr(number) for number in range(32, 127))]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary.update(
        {f"w{number} ": number for number in range(len(letters), VOCAB) if number not in SPECIAL}
    )
    vocabulary.update({text: number for number, text in SPECIAL.items()})
    added = [
        {"id": number, "content": text, "special": number < 151350, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for number, text in sorted(SPECIAL.items())
    ]  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": " ", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocabulary, "merges": [],
        },
    }  # fmt: skip


TEMPLATE = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def files_of(tensors: Iterator[Tensor]) -> list[list[Tensor]]:
    files: list[list[Tensor]] = [[]]
    size = 0
    for tensor in tensors:
        if files[-1] and size + tensor.bytes > FILE_BYTES:
            files.append([])
            size = 0
        files[-1].append(tensor)
        size += tensor.bytes
    return files


def header(tensors: list[Tensor]) -> bytes:
    place, found = 0, {}
    for tensor in tensors:
        found[tensor.name] = {
            "dtype": tensor.kind,
            "shape": list(tensor.shape),
            "data_offsets": [place, place + tensor.bytes],
        }
        place += tensor.bytes
    text = json.dumps(found).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write(folder: Path, method: str, layers: int, width: int, mtp: bool = True) -> int:
    """Bytes of all tensors."""
    import torch  # type: ignore[import-not-found,unused-ignore]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    maker = torch.Generator(device=device).manual_seed(47)
    kinds = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

    def content(tensor: Tensor) -> Any:
        if tensor.fill in ("ones", "zeros"):
            return getattr(torch, tensor.fill)(tensor.shape, dtype=kinds[tensor.kind], device=device)
        if tensor.fill == "scale":
            # 4-bit values lie within 8 of their zero, 8-bit ones within a few dozen.
            size = 0.004 if method == "awq" else 0.02 if method == "fp8" else 0.02 / 32
            return torch.full(tensor.shape, size, dtype=kinds[tensor.kind], device=device)
        if tensor.fill == "bits" and tensor.kind == "I32":
            return torch.randint(
                -(2**31), 2**31, tensor.shape, dtype=torch.int32, device=device, generator=maker
            )
        noise = torch.randn(tensor.shape, device=device, generator=maker)
        if tensor.kind == "I8":
            return (noise * 32).clamp(-127, 127).round().to(torch.int8)
        if tensor.kind == "F8_E4M3":
            return noise.to(torch.float8_e4m3fn)
        return (noise * 0.02).to(kinds[tensor.kind])

    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    whole = 0
    files = files_of(plan_of(method, layers, width, mtp))
    for number, tensors in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        with (folder / name).open("wb") as out:
            out.write(header(tensors))
            for tensor in tensors:
                made = content(tensor)
                out.write(made.contiguous().view(torch.uint8).cpu().numpy().data)
                index[tensor.name] = name
                whole += tensor.bytes
    documents = {
        "config.json": config(method, layers, width, mtp),
        "model.safetensors.index.json": {"metadata": {"total_size": whole}, "weight_map": index},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>", "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
        },
        "generation_config.json": {"eos_token_id": [151329, 151336, 151338], "pad_token_id": 151329},
    }  # fmt: skip
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", choices=METHODS, default="fp8")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384, help="moe_intermediate_size: that of one GPU")
    parser.add_argument("--no-mtp", action="store_true")
    given = parser.parse_args()
    began = time.monotonic()
    whole = write(given.folder, given.method, given.layers, given.width, not given.no_mtp)
    json.dump({"bytes": whole, "seconds": round(time.monotonic() - began, 1)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
