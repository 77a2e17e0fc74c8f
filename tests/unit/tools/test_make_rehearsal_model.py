# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of a rehearsal has the tensors that its catalogue entry says, in INT8 where that entry converts them."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "tests/lab/rehearsal/catalogue/models/glm-4.7.yml"
MODEL = "glm-4.7-int8"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "rehearsal_model_under_test", ROOT / "tools/make_rehearsal_model.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def entry() -> dict[str, Any]:
    """Narrower than the entry, so that it takes no second."""
    found = yaml.safe_load(ENTRY.read_text())
    found["shape"] |= {"routed_experts": 4, "moe_intermediate_size": 64, "attention_heads": 8}
    return found  # type: ignore[no-any-return]


def headers(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, data in files.items():
        if name.endswith(".safetensors"):
            size = int.from_bytes(data[:8], "little")
            found |= json.loads(data[8 : 8 + size])
    found.pop("__metadata__")
    return found


def test_converted_modules_are_int8_with_a_scale_for_each_channel(
    maker: ModuleType, entry: dict[str, Any]
) -> None:
    tensors = headers(maker.make_files(entry, MODEL))
    expert = "model.layers.3.mlp.experts.3.down_proj"
    assert tensors[f"{expert}.weight"]["dtype"] == "I8"
    assert tensors[f"{expert}.weight_scale"]["shape"] == [128, 1]
    assert {tensors[name]["dtype"] for name in ("lm_head.weight", "model.layers.3.mlp.gate.weight")} == {
        "BF16"
    }
    assert tensors["model.layers.4.shared_head.head.weight"]["shape"] == [576, 128], "a draft of its own"


def test_the_index_names_every_tensor_and_the_same_entry_gives_the_same_bytes(
    maker: ModuleType, entry: dict[str, Any]
) -> None:
    files = maker.make_files(entry, MODEL)
    index = json.loads(files["model.safetensors.index.json"])
    assert set(index["weight_map"]) == set(headers(files))
    assert files == maker.make_files(entry, MODEL)


def test_another_vocabulary_than_the_tokenizers_is_refused(maker: ModuleType, entry: dict[str, Any]) -> None:
    wrong = copy.deepcopy(entry)
    wrong["shape"]["vocab_size"] = 151552
    with pytest.raises(ValueError, match="vocab_size is 151552, the tokenizer has 576"):
        maker.make_files(wrong, MODEL)


def test_the_entry_keeps_what_decides_a_plan() -> None:
    tiny, real = (
        yaml.safe_load(path.read_text())["shape"] for path in (ENTRY, ROOT / "files/models/glm-4.7.yml")
    )
    narrowed = {"layers", "hidden_size", "intermediate_size", "vocab_size"}
    assert {key for key in real if tiny[key] != real[key]} == narrowed
