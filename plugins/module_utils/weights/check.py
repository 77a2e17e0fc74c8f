# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a folder of files is a model that an engine can load: index, shards, config, tokenizer.

Pure: the reader gives names, sizes, parsed headers and texts; every problem is found at once, each with its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..catalogue.shapes import ModelShape, Quantization, derive_quantization, derive_shape
from ..core.refusals import RefusedError
from .safetensors_header import Header, HeaderError, unique_keys

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
SHARD = re.compile(r"^(?P<stem>.*)-(?P<number>\d+)-of-(?P<count>\d+)\.safetensors\Z")
TOKENIZERS = (
    ("tokenizer.json",),
    ("tokenizer.model",),
    ("vocab.json", "merges.txt"),
    ("vocab.txt",),
)
SHOWN = 3


@dataclass
class Contents:
    """What the files of a model say."""

    names: tuple[str, ...]
    headers: dict[str, Header] = field(default_factory=dict)
    documents: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_contents(
    sizes: Mapping[str, int], header_of: Callable[[str], Header], text_of: Callable[[str], str]
) -> Contents:
    """Parses every header and every JSON document; what cannot be parsed is a problem with the file's name."""
    found = Contents(tuple(sorted(sizes)))
    for name in found.names:
        try:
            if name.endswith(".safetensors"):
                found.headers[name] = header_of(name)
            elif name.endswith(".json"):
                found.documents[name] = json.loads(text_of(name), object_pairs_hook=unique_keys)
        except HeaderError as error:
            found.problems.append(f"{name}: {error}")
        except (UnicodeDecodeError, ValueError) as error:
            found.problems.append(f"{name}: is no JSON: {error}")
    return found


def problems_of(contents: Contents) -> list[str]:
    """Everything that keeps an engine from loading it, a line each."""
    return [*contents.problems, *_config(contents), *_tokenizer(contents), *_shards(contents)]


def _config(contents: Contents) -> list[str]:
    if CONFIG not in contents.names:
        return [f"{CONFIG}: missing"]
    document = contents.documents.get(CONFIG)
    return [] if document is None or isinstance(document, dict) else [f"{CONFIG}: is no JSON object"]


def _tokenizer(contents: Contents) -> list[str]:
    names = set(contents.names)
    if any(name.endswith(".tiktoken") for name in names) or any(
        names.issuperset(kind) for kind in TOKENIZERS
    ):
        return []
    return ["tokenizer: missing (tokenizer.json, tokenizer.model or vocab.json with merges.txt)"]


def _shards(contents: Contents) -> list[str]:
    shards = [name for name in contents.names if name.endswith(".safetensors")]
    if not shards:
        return ["*.safetensors: missing, so the folder holds no weights"]
    owner: dict[str, str] = {}
    shared: dict[tuple[str, str], set[str]] = {}
    for shard, header in contents.headers.items():
        for name in header.tensors:
            if name in owner:
                shared.setdefault((owner[name], shard), set()).add(name)
            owner.setdefault(name, shard)
    problems = [
        line
        for (one, other), names in shared.items()
        for line in _some(f"{other}: holds tensors that are in {one} too", names)
    ]
    if INDEX in contents.names:
        return problems + _against_index(contents, shards)
    return problems + _complete_row(shards)


def _complete_row(shards: list[str]) -> list[str]:
    """Without an index the names must agree: 00001-of-00003 promises three files."""
    rows: dict[tuple[str, int], set[int]] = {}
    for match in filter(None, map(SHARD.match, shards)):
        rows.setdefault((match["stem"], int(match["count"])), set()).add(int(match["number"]))
    return [
        f"{stem}-{number:05d}-of-{count:05d}.safetensors: missing shard"
        for (stem, count), there in rows.items()
        for number in range(1, count + 1)
        if number not in there
    ]


def _against_index(contents: Contents, shards: list[str]) -> list[str]:
    index = contents.documents.get(INDEX)
    if index is None:
        return []
    mapping = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(mapping, dict) or not mapping:
        return [f"{INDEX}: has no weight_map"]
    named = {str(shard) for shard in mapping.values()}
    problems = [f"{shard}: missing shard, named by {INDEX}" for shard in sorted(named - set(shards))]
    problems += [f"{shard}: not named by {INDEX}" for shard in shards if shard not in named]
    for shard in shards:
        header = contents.headers.get(shard)
        if header is None or shard not in named:
            continue
        wanted = {name for name, place in mapping.items() if place == shard}
        problems += _some(f"{shard}: lacks tensors of {INDEX}", wanted - set(header.tensors))
        problems += _some(
            f"{shard}: holds tensors that {INDEX} does not name", set(header.tensors) - set(mapping)
        )
        problems += _some(
            f"{shard}: holds tensors that {INDEX} puts elsewhere",
            {name for name in header.tensors if name in mapping and mapping[name] != shard},
        )
    total = (index.get("metadata") or {}).get("total_size")
    held = sum(header.data_bytes for header in contents.headers.values())
    complete = len(contents.headers) == len(shards) and named == set(shards)
    if total is not None and complete and int(total) != held:
        problems.append(f"{INDEX}: total_size {int(total)}, the shards hold {held} bytes of tensors")
    return problems


def _some(words: str, names: set[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(sorted(names)[:SHOWN])
    return [f"{words}: {shown}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")]


def tensor_summary(headers: Mapping[str, Header]) -> dict[str, Any]:
    dtypes: dict[str, int] = {}
    count = 0
    for header in headers.values():
        for tensor in header.tensors.values():
            dtypes[tensor.dtype] = dtypes.get(tensor.dtype, 0) + tensor.size
            count += 1
    return {"bytes": sum(dtypes.values()), "count": count, "dtypes": dict(sorted(dtypes.items()))}


EQUAL = (
    "architecture",
    "layers",
    "hidden_size",
    "attention_heads",
    "kv_heads",
    "head_dim",
    "vocab_size",
    "attention",
    "kv_lora_rank",
    "routed_experts",
    "shared_experts",
    "experts_per_token",
    "moe_intermediate_size",
    "dense_layers",
)
AT_LEAST = ("max_context", "mtp_layers")
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def shape_problems(
    contents: Contents, shape: ModelShape, quantization: Quantization, entry: str
) -> list[str]:
    """Where the files are another model than the one that was planned with."""
    config = contents.documents.get(CONFIG)
    if not isinstance(config, dict):
        return []
    try:
        found = derive_shape(config, CONFIG)
    except RefusedError as error:
        return [f"{refusal.where} {refusal.what}" for refusal in error.refusals]
    different = [name for name in EQUAL if getattr(found, name) != getattr(shape, name)]
    different += [name for name in AT_LEAST if getattr(found, name) < getattr(shape, name)]
    problems = [
        f"{CONFIG}: {name} is {getattr(found, name)}, {entry} was planned with {getattr(shape, name)}"
        for name in different
    ]
    stored = derive_quantization(config)
    for name in ("method", "bits", "weight_dtype", "group_size"):
        mine, planned = getattr(stored, name), getattr(quantization, name)
        if mine != planned and not (name == "group_size" and not (mine and planned)):
            problems.append(
                f"{CONFIG}: quantisation {name} is {mine or 'none'}, {entry} was planned with {planned or 'none'}"
            )
    return problems + _layers(contents, found)


def _layers(contents: Contents, shape: ModelShape) -> list[str]:
    """The right config beside the shards of a smaller model is found by their layers."""
    numbers = {
        int(match[1])
        for header in contents.headers.values()
        for match in map(LAYER.search, header.tensors)
        if match and "vis" not in match.string
    }
    lacking = sorted(set(range(shape.layers)) - numbers)
    if not numbers or not lacking:
        return []
    return [f"*.safetensors: no tensor of layer {lacking[0]}, {CONFIG} promises {shape.layers} layers"]
