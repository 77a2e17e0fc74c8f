# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped kernel tuning files: named as engines ask, small enough for their GPU, each with its origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_config import (
    parse_name,
    tile_problems,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import release_from
from ansible_collections.baremetal.sglang.tests.unit.files_under_test import SGLANG, shipped_hardware

MOE = SGLANG / "moe"
OURS = sorted(MOE.glob("E=*.json"))
RELEASES = sorted(path.stem for path in (SGLANG / "releases").glob("*.yml"))
INDEX = yaml.safe_load((MOE / "index.yml").read_text())


def schema(name: str) -> Any:
    text = (SGLANG / f"schemas/{name}.schema.json").read_text(encoding="utf-8")
    return jsonschema.Draft202012Validator(json.loads(text))


def release(version: str) -> Any:
    return json.loads((MOE / f"releases/{version}.json").read_text(encoding="utf-8"))


def test_every_file_is_in_the_index_and_the_other_way_round() -> None:
    schema("moe_index").validate(INDEX)
    assert {path.name for path in OURS} == set(INDEX)


def test_the_index_schema_refuses() -> None:
    (name, entry), *_rest = INDEX.items()
    for bad in (
        {"some.json": entry},
        {name: {key: value for key, value in entry.items() if key != "origin"}},
        {name: {key: value for key, value in entry.items() if key != "measured"}},
        {name: {**entry, "measured": [{"gpu": "NVIDIA H200"}]}},
        {name: {**entry, "colour": "red"}},
    ):
        assert list(schema("moe_index").iter_errors(bad)), bad


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_tiles_fit_the_gpu_that_the_name_says(path: Path) -> None:
    parsed = parse_name(path.name)
    assert parsed is not None and parsed.name == path.name
    limits = {
        product.replace(" ", "_"): item.shared_memory_bytes
        for item in shipped_hardware().values()
        for product in item.products
    }
    tiles = json.loads(path.read_text())
    assert tile_problems(tiles, parsed.dtype, limits[parsed.device]) == []
    assert INDEX[path.name]["tuned_on"].replace(" ", "_") == parsed.device


@pytest.mark.parametrize("version", RELEASES)
def test_what_a_release_brings_was_read_from_its_wheel(version: str) -> None:
    document = release(version)
    schema("moe_release").validate(document)
    found = release_from(document)
    assert document["version"] == version
    assert {item.outcome for item in found.messages} == {"file", "fallback", "default", "up", "never"}
    for folder in found.files.values():
        assert all(parse_name(name) is not None for name in folder)


def test_the_release_schema_refuses() -> None:
    good = release("0.5.23")
    for bad in (
        {**good, "folder": "configs"},
        {**good, "listed": ["3"]},
        {**good, "messages": [{"outcome": "guess", "text": "x" * 20}] * 5},
        {**good, "files": {"triton_next": {}}},
        {**good, "files": {"triton_3_2_0": {"E=1.json": ["0" * 64, 0]}}},
    ):
        assert list(schema("moe_release").iter_errors(bad)), bad


def test_no_release_finds_the_int8_files_of_the_a800_under_the_name_that_its_int8_path_asks_for() -> None:
    """Why they are brought: the day that a release has them, the release's own come first."""
    ours = [path.name for path in OURS if "A800" in path.name]
    assert len(ours) == 2
    for version in RELEASES:
        found = release_from(release(version))
        for name in ours:
            assert not any(name in folder for folder in found.files.values())
            assert name.replace(",per_channel_quant=True", "") in found.files["triton_3_2_0"]
