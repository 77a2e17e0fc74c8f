# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import struct
import sys
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TOOLS = Path(__file__).parents[3] / "tools"
BYTES_PER_VALUE = {"BF16": 2, "F32": 4}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_model_under_test", TOOLS / "make_tiny_model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def language(maker: ModuleType) -> ModuleType:
    return sys.modules["tiny_model_language"]


@pytest.fixture(scope="module")
def files(maker: ModuleType) -> dict[str, bytes]:
    return maker.make_files(7)


def read_shard(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def read_tensor(files: dict[str, bytes], name: str) -> list[list[float]]:
    shard = json.loads(files["model.safetensors.index.json"])["weight_map"][name]
    header, data = read_shard(files[shard])
    start, end = header[name]["data_offsets"]
    rows, columns = header[name]["shape"]
    raw = data[start:end]
    values = [struct.unpack("<f", b"\0\0" + raw[at : at + 2])[0] for at in range(0, len(raw), 2)]
    return [values[row * columns : (row + 1) * columns] for row in range(rows)]


def test_same_seed_gives_the_same_bytes(maker: ModuleType, files: dict[str, bytes]) -> None:
    assert maker.make_files(7) == files


def test_bytes_are_those_of_every_other_machine(files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()
    # Changing the model is fine; then this value, and whatever was recorded of its answers, changes too.
    assert digest == "dc5995f555eabd07370e745446beefbda51246a78533c1127d5685412f61c937"


def test_another_seed_changes_the_weights_only(maker: ModuleType, files: dict[str, bytes]) -> None:
    other = maker.make_files(8)
    changed = {name for name in files if files[name] != other[name]}
    assert changed == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}


def test_shards_are_whole_and_the_index_names_every_tensor(files: dict[str, bytes]) -> None:
    index = json.loads(files["model.safetensors.index.json"])
    found: dict[str, str] = {}
    total = 0
    for shard in sorted(set(index["weight_map"].values())):
        header, data = read_shard(files[shard])
        assert (len(files[shard]) - len(data)) % 8 == 0
        end = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            found[name] = shard
            assert entry["data_offsets"][0] == end
            end = entry["data_offsets"][1]
            size = prod(entry["shape"]) * BYTES_PER_VALUE[entry["dtype"]]
            assert end - entry["data_offsets"][0] == size, name
        assert end == len(data)
        total += end
    assert found == index["weight_map"]
    assert index["metadata"]["total_size"] == total
    assert len(set(found.values())) == 2


def test_tensors_are_those_of_the_shape_in_the_config(files: dict[str, bytes]) -> None:
    config = json.loads(files["config.json"])
    names = set(json.loads(files["model.safetensors.index.json"])["weight_map"])
    layers = range(config["num_hidden_layers"])
    dense = [n for n in layers if f"model.layers.{n}.mlp.down_proj.weight" in names]
    assert dense == list(range(config["first_k_dense_replace"]))
    for layer in set(layers) - set(dense):
        experts = {
            name.split(".")[5] for name in names if name.startswith(f"model.layers.{layer}.mlp.experts.")
        }
        assert experts == {str(number) for number in range(config["n_routed_experts"])}
        assert f"model.layers.{layer}.mlp.gate.e_score_correction_bias" in names
        assert f"model.layers.{layer}.mlp.shared_experts.up_proj.weight" in names
    assert {name.split(".")[2] for name in names if ".layers." in name} == {str(n) for n in layers}
    assert config["architectures"] == ["Glm4MoeForCausalLM"]
    assert config["hidden_size"] == config["num_attention_heads"] * config["head_dim"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_shape_splits_over_the_ranks_of_the_lab(files: dict[str, bytes], ranks: int) -> None:
    config = json.loads(files["config.json"])
    split = (
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "moe_intermediate_size",
        "vocab_size",
    )
    assert {key: config[key] % ranks for key in split} == dict.fromkeys(split, 0)


def test_every_word_of_the_grammar_is_one_token(files: dict[str, bytes], language: ModuleType) -> None:
    model = json.loads(files["tokenizer.json"])["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    special = dict(language.SPECIAL_TOKENS)
    for words, _followers in language.GRAMMAR.values():
        for word in words:
            if word in special:
                continue
            pieces = language.split(language.spell(word), merges)
            assert pieces == [language.spell(word)]
            assert pieces[0] in model["vocab"]


def test_every_merge_makes_a_token_and_every_byte_has_one(
    files: dict[str, bytes], language: ModuleType
) -> None:
    model = json.loads(files["tokenizer.json"])["model"]
    assert {left + right for left, right in model["merges"]} <= set(model["vocab"])
    assert set(language.byte_alphabet()) <= set(model["vocab"])
    assert len(set(language.byte_alphabet())) == 256
    assert sorted(model["vocab"].values()) == list(range(len(model["vocab"])))


def test_token_ids_agree_between_the_files(files: dict[str, bytes]) -> None:
    config, generation = (json.loads(files[name]) for name in ("config.json", "generation_config.json"))
    tokenizer = json.loads(files["tokenizer.json"])
    settings = json.loads(files["tokenizer_config.json"])
    added = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    assert {int(key): token["content"] for key, token in settings["added_tokens_decoder"].items()} == added
    assert min(added) == len(tokenizer["model"]["vocab"])
    assert max(added) < config["vocab_size"]
    assert config["eos_token_id"] == generation["eos_token_id"]
    assert [added[token] for token in config["eos_token_id"]] == [
        "<|endoftext|>",
        "<|user|>",
        "<|observation|>",
    ]
    # The reasoning and tool-call parsers read these marks in the text, so decoding must keep them.
    kept = {token["content"] for token in tokenizer["added_tokens"] if not token["special"]}
    assert {"<think>", "</think>", "<tool_call>", "</tool_call>", "<arg_key>", "<arg_value>"} <= kept


def test_the_head_prefers_exactly_the_words_that_may_follow(
    files: dict[str, bytes], maker: ModuleType, language: ModuleType
) -> None:
    vocabulary = language.make_vocabulary()
    embedding, head = read_tensor(files, "model.embed_tokens.weight"), read_tensor(files, "lm_head.weight")
    slots = len(language.GRAMMAR)
    for words, followers in language.GRAMMAR.values():
        expected = {vocabulary.id_of(word) for slot in followers for word in language.GRAMMAR[slot][0]}
        for word in words:
            mark = embedding[vocabulary.id_of(word)][:slots]
            scores = [sum(a * b for a, b in zip(mark, row)) for row in head]
            liked = {token for token, score in enumerate(scores) if score > 0}
            assert liked == expected, word


def test_layers_leave_the_slots_alone(files: dict[str, bytes], language: ModuleType) -> None:
    slots = len(language.GRAMMAR)
    names = json.loads(files["model.safetensors.index.json"])["weight_map"]
    outputs = [name for name in names if re.search(r"(o_proj|down_proj)\.weight$", name)]
    assert len(outputs) == 3 + 1 + 2 * (1 + 8)
    for name in outputs:
        rows = read_tensor(files, name)
        assert not any(any(row) for row in rows[:slots]), name
        assert all(any(row) for row in rows[slots:]), name


def test_grammar_has_no_dead_end(language: ModuleType) -> None:
    for slot, (_words, followers) in language.GRAMMAR.items():
        assert followers, slot
        assert set(followers) <= set(language.GRAMMAR)
    words = [word for words, _followers in language.GRAMMAR.values() for word in words]
    assert len(words) == len(set(words)), "a word belongs to one slot"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}]}, "[gMASK]<sop><|user|>Hi<|assistant|><think>"),
        (
            {"messages": [{"role": "user", "content": "Hi"}], "enable_thinking": False},
            "[gMASK]<sop><|user|>Hi<|assistant|></think>",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    {"role": "assistant", "content": "Hello."},
                    {"role": "user", "content": "Again"},
                ]
            },
            "[gMASK]<sop><|system|>Be brief.<|user|>Hi<|assistant|></think>Hello.<|user|>Again<|assistant|><think>",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "2+2"},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2, "b": "2"}}}],
                    },
                    {"role": "tool", "content": "4"},
                ]
            },
            "[gMASK]<sop><|user|>2+2<|assistant|></think><tool_call>add<arg_key>a</arg_key><arg_value>2</arg_value>"
            "<arg_key>b</arg_key><arg_value>2</arg_value></tool_call>"
            "<|observation|><tool_response>4</tool_response><|assistant|><think>",
        ),
    ],
)
def test_chat_template(language: ModuleType, arguments: dict[str, Any], expected: str) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(language.CHAT_TEMPLATE)
    assert template.render(add_generation_prompt=True, **arguments) == expected


def test_command_line_writes_the_files_and_prints_checksums(
    maker: ModuleType, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "tiny"
    assert maker.main([str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {name: (digest, int(size)) for digest, size, name in printed} == {
        name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in files.items()
    }


def test_a_file_in_the_way_is_refused(
    maker: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(SystemExit):
        maker.main([str(tmp_path / "model")])
    assert "name a folder" in capsys.readouterr().err
