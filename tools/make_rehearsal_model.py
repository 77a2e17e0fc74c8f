#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a model of GLM-4.7-INT8's architecture and quantization from the shape of a catalogue entry.

Its numbers are random and no engine has to answer with them: it is what a rehearsal carries, verifies and plans.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from make_tiny_model import Tensor, bfloat16, safetensors, shard
from tiny_model_language import end_tokens, make_vocabulary, tokenizer, tokenizer_config

SCALE = 0.01


class Int8Weights:
    """Tensors of the checkpoint, each from its own stream: the same bytes on every machine."""

    def __init__(self, shape: dict[str, Any]) -> None:
        self.shape = shape
        self.hidden = int(shape["hidden_size"])

    def plain(self, name: str, *size: int) -> Tensor:
        count = 1
        for number in size:
            count *= number
        stream = random.Random(name)
        return Tensor(
            name, "BF16", size, bfloat16(array("f", (stream.random() - 0.5 for _unused in range(count))))
        )

    def converted(self, name: str, rows: int, columns: int) -> Iterator[Tensor]:
        """INT8 with one scale a channel."""
        yield Tensor(f"{name}.weight", "I8", (rows, columns), random.Random(name).randbytes(rows * columns))
        yield Tensor(f"{name}.weight_scale", "BF16", (rows, 1), bfloat16(array("f", [SCALE] * rows)))

    def feed_forward(self, prefix: str, width: int) -> Iterator[Tensor]:
        yield from self.converted(f"{prefix}.gate_proj", width, self.hidden)
        yield from self.converted(f"{prefix}.up_proj", width, self.hidden)
        yield from self.converted(f"{prefix}.down_proj", self.hidden, width)

    def attention(self, prefix: str) -> Iterator[Tensor]:
        head = int(self.shape["head_dim"])
        queries = int(self.shape["attention_heads"]) * head
        keys = int(self.shape["kv_heads"]) * head
        for part, width in (("q", queries), ("k", keys), ("v", keys)):
            yield from self.converted(f"{prefix}.{part}_proj", width, self.hidden)
            yield self.plain(f"{prefix}.{part}_proj.bias", width)
        for part in ("q", "k"):
            yield self.plain(f"{prefix}.{part}_norm.weight", head)
        yield from self.converted(f"{prefix}.o_proj", self.hidden, queries)

    def layer(self, index: int) -> Iterator[Tensor]:
        prefix = f"model.layers.{index}"
        yield self.plain(f"{prefix}.input_layernorm.weight", self.hidden)
        yield self.plain(f"{prefix}.post_attention_layernorm.weight", self.hidden)
        yield from self.attention(f"{prefix}.self_attn")
        if index < self.shape["dense_layers"]:
            yield from self.feed_forward(f"{prefix}.mlp", int(self.shape["intermediate_size"]))
            return
        experts, width = int(self.shape["routed_experts"]), int(self.shape["moe_intermediate_size"])
        yield self.plain(f"{prefix}.mlp.gate.weight", experts, self.hidden)
        yield Tensor(f"{prefix}.mlp.gate.e_score_correction_bias", "F32", (experts,), bytes(4 * experts))
        yield from self.feed_forward(f"{prefix}.mlp.shared_experts", width)
        for expert in range(experts):
            yield from self.feed_forward(f"{prefix}.mlp.experts.{expert}", width)

    def draft(self) -> Iterator[Tensor]:
        """The layer of multi-token prediction, with an embedding and a head of its own."""
        prefix, vocabulary = f"model.layers.{self.shape['layers']}", int(self.shape["vocab_size"])
        yield self.plain(f"{prefix}.embed_tokens.weight", vocabulary, self.hidden)
        for name in ("enorm", "hnorm", "shared_head.norm"):
            yield self.plain(f"{prefix}.{name}.weight", self.hidden)
        yield self.plain(f"{prefix}.eh_proj.weight", self.hidden, 2 * self.hidden)
        yield self.plain(f"{prefix}.shared_head.head.weight", vocabulary, self.hidden)
        yield from self.layer(int(self.shape["layers"]))

    def all(self) -> Iterator[Tensor]:
        vocabulary = int(self.shape["vocab_size"])
        yield self.plain("model.embed_tokens.weight", vocabulary, self.hidden)
        for index in range(int(self.shape["layers"])):
            yield from self.layer(index)
        yield from self.draft()
        yield self.plain("model.norm.weight", self.hidden)
        yield self.plain("lm_head.weight", vocabulary, self.hidden)


def config(shape: dict[str, Any], quantization: dict[str, Any], ends: list[int]) -> dict[str, Any]:
    numbers = {"num_bits": 8, "type": "int", "symmetric": True}
    return {
        "architectures": [shape["architecture"]], "model_type": "glm4_moe", "dtype": "bfloat16",
        "attention_bias": True, "eos_token_id": ends, "first_k_dense_replace": shape["dense_layers"],
        "head_dim": shape["head_dim"], "hidden_act": "silu", "hidden_size": shape["hidden_size"],
        "intermediate_size": shape["intermediate_size"], "max_position_embeddings": shape["max_context"],
        "moe_intermediate_size": shape["moe_intermediate_size"], "n_routed_experts": shape["routed_experts"],
        "n_shared_experts": shape["shared_experts"], "norm_topk_prob": True, "n_group": 1, "topk_group": 1,
        "num_attention_heads": shape["attention_heads"], "num_experts_per_tok": shape["experts_per_token"],
        "num_hidden_layers": shape["layers"], "num_key_value_heads": shape["kv_heads"],
        "num_nextn_predict_layers": shape["mtp_layers"], "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-05,
        "rope_theta": 1000000, "routed_scaling_factor": 2.5, "tie_word_embeddings": False, "use_qk_norm": True,
        "vocab_size": shape["vocab_size"],
        "quantization_config": {
            "quant_method": "compressed-tensors", "format": "int-quantized", "ignore": quantization["unconverted"],
            "quantization_status": "compressed",
            "config_groups": {"group_0": {
                "targets": ["Linear"], "weights": {**numbers, "strategy": "channel", "dynamic": False},
                "input_activations": {**numbers, "strategy": "token", "dynamic": True},
            }},
        },
    }  # fmt: skip


def make_files(entry: dict[str, Any], model: str) -> dict[str, bytes]:
    """Every file of the model by name."""
    shape, vocabulary = entry["shape"], make_vocabulary()
    if vocabulary.padded_size != shape["vocab_size"]:
        raise ValueError(f"vocab_size is {shape['vocab_size']}, the tokenizer has {vocabulary.padded_size}")
    shards = shard(list(Int8Weights(shape).all()), 3)
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    documents = {
        "config.json": config(shape, entry["models"][model]["quantization"], end_tokens(vocabulary)),
        "generation_config.json": {
            "do_sample": True,
            "eos_token_id": end_tokens(vocabulary),
            "temperature": 1.0,
        },
        "model.safetensors.index.json": {
            "metadata": {"total_size": sum(len(tensor.data) for part in shards for tensor in part)},
            "weight_map": {tensor.name: name for name, part in zip(names, shards) for tensor in part},
        },
        "tokenizer.json": tokenizer(vocabulary),
        "tokenizer_config.json": tokenizer_config(vocabulary, int(shape["max_context"])),
    }
    files = {
        name: (json.dumps(text, indent=1, ensure_ascii=False) + "\n").encode()
        for name, text in documents.items()
    }
    return {**files, **{name: safetensors(part) for name, part in zip(names, shards)}}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("entry", type=Path, help="catalogue file with the shape, as in files/models")
    parser.add_argument("model", help="key of the model in that file")
    parser.add_argument("out", type=Path, help="folder to write the model into; made if it is missing")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in make_files(yaml.safe_load(options.entry.read_text()), options.model).items():
        (options.out / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
