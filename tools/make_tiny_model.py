#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a tiny model of GLM-4.7's shape that the real server loads and that answers in readable words.

The layers are random. What makes it speak is a small grammar laid over them: each word belongs to a
slot of a sentence, the first hidden dimensions say which slot the last token filled, and the output
head prefers the words of the slots that may follow. Which word of the slot it is, the random attention
and experts decide, so the answer depends on the prompt and on every weight file: a damaged shard shows.

The same seed gives the same bytes on every machine, so a test may compare checksums.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A script finds its neighbours by itself; a test that loads this file by its path does not.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tiny_model_language import (
    GRAMMAR,
    Vocabulary,
    end_tokens,
    make_vocabulary,
    tokenizer,
    tokenizer_config,
)

HIDDEN = 128
LAYERS = 3
DENSE_LAYERS = 1
HEADS = 8
KV_HEADS = 4
HEAD_DIM = 16
INTERMEDIATE = 256
EXPERTS = 8
EXPERTS_PER_TOKEN = 2
MOE_INTERMEDIATE = 64
CONTEXT = 4096
SHARDS = 2

# Logits: the slot's say (SLOT_EMBEDDING * SLOT_HEAD) must drown the random part, whatever the prompt.
SLOT_EMBEDDING = 20.0
SLOT_HEAD = 4.0
WORD_HEAD = 0.25
# An answer should end after a sentence or two, not run into the token limit.
END_BONUS = 1.12


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def bfloat16(values: array[float]) -> bytes:
    """Little-endian bfloat16: the upper half of each float32."""
    if sys.byteorder == "big":
        values = array("f", values)
        values.byteswap()
    raw = values.tobytes()
    out = bytearray(len(raw) // 2)
    out[0::2] = raw[2::4]
    out[1::2] = raw[3::4]
    return bytes(out)


class Weights:
    """Random tensors, each from its own stream, so that one tensor's shape does not move the others."""

    def __init__(self, seed: int, vocabulary: Vocabulary) -> None:
        self.seed = seed
        self.vocabulary = vocabulary
        self.slots = {slot: index for index, slot in enumerate(GRAMMAR)}
        self.slot_of = {
            vocabulary.id_of(word): slot for slot, (words, _followers) in GRAMMAR.items() for word in words
        }

    def noise(self, name: str, rows: int, columns: int, rms: float) -> array[float]:
        """Uniform rather than normal: plain arithmetic gives the same bits on every machine."""
        stream = random.Random(f"{self.seed}:{name}")
        width = 2 * rms * 3**0.5
        return array("f", ((stream.random() - 0.5) * width for _unused in range(rows * columns)))

    def matrix(self, name: str, rows: int, columns: int, gain: float = 1.0) -> Tensor:
        """A projection whose output is `gain` times as strong as its input."""
        return Tensor(
            name, "BF16", (rows, columns), bfloat16(self.noise(name, rows, columns, gain / columns**0.5))
        )

    def to_residual(self, name: str, columns: int, gain: float) -> Tensor:
        """A projection back into the hidden state that leaves the slot dimensions alone."""
        values = self.noise(name, HIDDEN, columns, gain / columns**0.5)
        reserved = len(self.slots) * columns
        values[:reserved] = array("f", bytes(4 * reserved))
        return Tensor(name, "BF16", (HIDDEN, columns), bfloat16(values))

    def vector(self, name: str, size: int, *, base: float = 0.0, rms: float = 0.05) -> Tensor:
        values = array("f", (base + value for value in self.noise(name, 1, size, rms)))
        return Tensor(name, "BF16", (size,), bfloat16(values))

    def layer_norm(self, name: str) -> Tensor:
        """Layers should read words; the slots, so much louder, would make all words of a slot alike."""
        values = array("f", (1.0 + value for value in self.noise(name, 1, HIDDEN, 0.05)))
        values[: len(self.slots)] = array("f", bytes(4 * len(self.slots)))
        return Tensor(name, "BF16", (HIDDEN,), bfloat16(values))

    def embedding(self) -> Tensor:
        name = "model.embed_tokens.weight"
        values = self.noise(name, self.vocabulary.padded_size, HIDDEN, 1.0)
        for token in range(self.vocabulary.padded_size):
            start = token * HIDDEN
            values[start : start + len(self.slots)] = array("f", bytes(4 * len(self.slots)))
            values[start + self.slots[self.slot_of.get(token, "other")]] = SLOT_EMBEDDING
        return Tensor(name, "BF16", (self.vocabulary.padded_size, HIDDEN), bfloat16(values))

    def head(self) -> Tensor:
        name = "lm_head.weight"
        values = self.noise(name, self.vocabulary.padded_size, HIDDEN, WORD_HEAD)
        for token in range(self.vocabulary.padded_size):
            mine = self.slot_of.get(token, "other")
            start = token * HIDDEN
            if mine == "other":
                values[start : start + HIDDEN] = array("f", bytes(4 * HIDDEN))
                continue
            strength = SLOT_HEAD * (END_BONUS if mine == "end" else 1.0)
            for slot, (_words, followers) in GRAMMAR.items():
                values[start + self.slots[slot]] = strength if mine in followers else 0.0
        return Tensor(name, "BF16", (self.vocabulary.padded_size, HIDDEN), bfloat16(values))

    def feed_forward(self, prefix: str, width: int, gain: float) -> Iterator[Tensor]:
        yield self.matrix(f"{prefix}.gate_proj.weight", width, HIDDEN)
        yield self.matrix(f"{prefix}.up_proj.weight", width, HIDDEN)
        yield self.to_residual(f"{prefix}.down_proj.weight", width, gain)

    def layer(self, index: int) -> Iterator[Tensor]:
        prefix = f"model.layers.{index}"
        attention = f"{prefix}.self_attn"
        yield self.layer_norm(f"{prefix}.input_layernorm.weight")
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield self.matrix(f"{attention}.{part}_proj.weight", heads * HEAD_DIM, HIDDEN)
            yield self.vector(f"{attention}.{part}_proj.bias", heads * HEAD_DIM)
        for part in ("q", "k"):
            yield self.vector(f"{attention}.{part}_norm.weight", HEAD_DIM, base=1.5)
        yield self.to_residual(f"{attention}.o_proj.weight", HEADS * HEAD_DIM, gain=4.0)
        yield self.layer_norm(f"{prefix}.post_attention_layernorm.weight")
        if index < DENSE_LAYERS:
            yield from self.feed_forward(f"{prefix}.mlp", INTERMEDIATE, gain=1.5)
            return
        yield self.matrix(f"{prefix}.mlp.gate.weight", EXPERTS, HIDDEN)
        bias = f"{prefix}.mlp.gate.e_score_correction_bias"
        yield Tensor(bias, "F32", (EXPERTS,), little_endian(self.noise(bias, 1, EXPERTS, 0.01)))
        yield from self.feed_forward(f"{prefix}.mlp.shared_experts", MOE_INTERMEDIATE, gain=1.0)
        for expert in range(EXPERTS):
            yield from self.feed_forward(f"{prefix}.mlp.experts.{expert}", MOE_INTERMEDIATE, gain=1.0)

    def all(self) -> Iterator[Tensor]:
        yield self.embedding()
        for index in range(LAYERS):
            yield from self.layer(index)
        yield self.vector("model.norm.weight", HIDDEN, base=1.0, rms=0.0)
        yield self.head()


def little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values = array("f", values)
        values.byteswap()
    return values.tobytes()


def safetensors(tensors: list[Tensor]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(tensor.data)],
        }
        offset += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensor.data for tensor in tensors)


def shard(tensors: list[Tensor], count: int = SHARDS) -> list[list[Tensor]]:
    """Cut into `count` runs of about the same number of bytes, keeping the order."""
    total = sum(len(tensor.data) for tensor in tensors)
    shards: list[list[Tensor]] = [[] for _unused in range(count)]
    seen = 0
    for tensor in tensors:
        shards[min(count - 1, seen * count // total)].append(tensor)
        seen += len(tensor.data)
    return shards


def model_config(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "dtype": "bfloat16",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "eos_token_id": end_tokens(vocabulary),
        "pad_token_id": vocabulary.id_of("<|endoftext|>"),
        "first_k_dense_replace": DENSE_LAYERS,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "moe_intermediate_size": MOE_INTERMEDIATE,
        "n_group": 1,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": EXPERTS_PER_TOKEN,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "num_nextn_predict_layers": 0,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "routed_scaling_factor": 1.0,
        "tie_word_embeddings": False,
        "topk_group": 1,
        "use_cache": True,
        "use_qk_norm": True,
        "vocab_size": vocabulary.padded_size,
    }


def make_files(seed: int) -> dict[str, bytes]:
    """Every file of the model by name."""
    vocabulary = make_vocabulary()
    shards = shard(list(Weights(seed, vocabulary).all()))
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    index = {
        "metadata": {"total_size": sum(len(tensor.data) for part in shards for tensor in part)},
        "weight_map": {tensor.name: name for name, part in zip(names, shards) for tensor in part},
    }
    generation = {
        "do_sample": True,
        "eos_token_id": end_tokens(vocabulary),
        "pad_token_id": vocabulary.id_of("<|endoftext|>"),
        "temperature": 1.0,
        "top_p": 0.95,
    }
    documents = {
        "config.json": model_config(vocabulary),
        "generation_config.json": generation,
        "model.safetensors.index.json": index,
        "tokenizer.json": tokenizer(vocabulary),
        "tokenizer_config.json": tokenizer_config(vocabulary, CONTEXT),
    }
    files = {
        name: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        for name, document in documents.items()
    }
    files.update({name: safetensors(part) for name, part in zip(names, shards)})
    return dict(sorted(files.items()))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path, help="folder to write the model into; made if it is missing")
    parser.add_argument(
        "--seed", type=int, default=7, help="another seed, other words (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"{options.out} is a file; name a folder")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in make_files(options.seed).items():
        (options.out / name).write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()}  {len(content):>8}  {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
