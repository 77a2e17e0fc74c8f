# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's way to look for kernel files, read from source text that was never run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import (
    UnreadableReleaseError,
    read_wheel,
    release_from,
    render,
)

FOLDER = "sglang/srt/moe"
MODULE = f"{FOLDER}/fused_moe_triton_config.py"
SOURCE = """
def get_moe_configs(E):
    if deterministic:
        logger.warning("Deterministic inference is enabled, using default MoE kernel config.")
    {versions}
    logger.info(f"Using MoE kernel config from {{config_file_path}}.")
    logger.warning(
        f"Config file not found at {{config_file_path}}. Fallback to triton version {{try_triton_version}} and use"
        f" MoE kernel config from {{try_config_file_path}}. Performance might be sub-optimal!"
    )
    logger.warning(("Using MoE kernel config with down_moe=False. At %s, you can create them with X"), config_file_path)
    logger.warning(("Using default MoE kernel config. At %s, you can create them with X"), config_file_path)
    {more}
"""
TILE = {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_N": 64, "BLOCK_SIZE_K": 128, "num_stages": 3}
NAME = "E=8,N=64,device_name=NVIDIA_H200,dtype=fp8_w8a8.json"
LISTED = 'supported_triton_versions = ["3.4.0", "3.3.1", "3.2.0", "3.1.0"]'


def wheel(versions: str = "", more: str = "", source: str = SOURCE) -> dict[str, str]:
    return {
        MODULE: source.format(versions=versions, more=more),
        f"{FOLDER}/configs/triton_3_6_0/{NAME}": json.dumps({"1": TILE, "64": {**TILE, "num_stages": 5}}),
        f"{FOLDER}/configs/triton_3_4_0/{NAME}": json.dumps({"1": TILE}),
        f"{FOLDER}/configs/triton_3_4_0/E=8,N=64,device_name=,dtype=x.json": "{}",
        f"{FOLDER}/configs/README.json": "{}",
    }


@pytest.mark.parametrize(
    ("versions", "order"),
    [("", ["triton_3_6_0", "triton_3_4_0"]), (LISTED, ["triton_3_4_0"])],
    ids=["newest on disk first", "a fixed list"],
)
def test_where_a_release_finds_a_name(versions: str, order: list[str]) -> None:
    document = read_wheel("1.0", wheel(versions))
    assert json.loads(render(document)) == document
    found = release_from(document)
    assert found.folder == f"{FOLDER}/configs"
    assert [folder for folder, _file in found.find(NAME, "3.8.0")] == order
    assert found.exact(NAME, "3.8.0") is None
    own = found.exact(NAME, "3.6.0")
    # The largest tile: (64 + 64) * 128 bytes, four buffers of five stages.
    assert own is not None and own.shared_memory == 65_536


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "0 modules"),
        (wheel(source="x = 1{versions}{more}"), "no function get_moe_configs"),
        (wheel('supported_triton_versions = ["9.9.9"]'), "9.9.9"),
        (wheel(more='logger.info("Tuned on the fly.")'), "something new"),
        (wheel(more='logger.info(f"Using MoE kernel config from {elsewhere}.")'), "elsewhere"),
        (wheel(source="def get_moe_configs(E):\n    pass{versions}{more}"), "no message for"),
    ],
)
def test_a_release_that_looks_otherwise_is_noticed(files: dict[str, str], words: str) -> None:
    with pytest.raises(UnreadableReleaseError, match=words):
        read_wheel("1.0", files)


def test_the_tool_writes_what_is_committed() -> None:
    path = Path(__file__).parents[6] / "files/engines/sglang/moe/releases/0.5.23.json"
    assert render(json.loads(path.read_text())) == path.read_text()
