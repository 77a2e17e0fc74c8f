# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's own lines against the plan: what was loaded, and what must not pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.kernel_log import problems, read
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import release_from

ROOT = Path(__file__).parents[5]
LOGS = ROOT / "tests/unit/fixtures/logs"
RELEASES = sorted(path.stem for path in (ROOT / "files/engines/sglang/moe/releases").glob("*.json"))
PLACE = "/opt/sglang/current/it/moe/configs/triton_3_6_0"
UP, DOWN = "E=161,N=192,device_name=NVIDIA_H200.json", "E=161,N=192,device_name=NVIDIA_H200_down.json"
OTHER = "E=8,N=8,device_name=NVIDIA_H200.json"


def messages(version: str) -> Any:
    return release_from(
        json.loads((ROOT / f"files/engines/sglang/moe/releases/{version}.json").read_text())
    ).messages


def said(version: str, outcome: str, name: str, place: str = PLACE) -> str:
    text = next(item.text for item in messages(version) if item.outcome == outcome)
    filled = text.format(wanted=f"{place}/{name}", used=f"/x/triton_3_1_0/{name}", triton="3.1.0")
    return f"[2026-11-21 10:00:00 TP3] {filled}, you can create them with https://example.invalid"


def log(outcome: str = "file", **changes: Any) -> dict[str, Any]:
    path = f"{PLACE}/{UP}" if outcome == "file" else ""
    name = "" if outcome == "never" else UP
    return {"expected": [{"name": name, "outcome": outcome, "path": path}], "tolerated": [DOWN], **changes}


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize(
    ("planned", "lines", "wrong"),
    [
        (log(), [("file", UP), ("up", DOWN)], ""),
        (log(), [("file", UP), ("file", UP), ("file", DOWN)], ""),
        (log(), [("file", UP, "/elsewhere")], "/elsewhere"),
        (log(), [("default", UP)], "default tiles"),
        (log(), [("fallback", UP)], "Triton 3.1.0"),
        (log(), [("file", UP), ("default", OTHER)], "knows nothing"),
        (log(), [("file", UP), ("fallback", OTHER)], "knows nothing"),
        (log(tolerated=[OTHER]), [("file", UP), ("default", OTHER)], ""),
        (log(), [("file", UP), ("file", OTHER)], ""),
        (log(), [], "no line of the log"),
        (log(quiet=True), [], "the log level"),
        (log(), [("never", "")], "deterministic"),
        (log("default"), [("default", UP)], ""),
        (log("default"), [("file", UP)], "planned default tiles"),
        (log("never"), [("never", "")], ""),
        (log("never"), [("default", UP)], "no line"),
    ],
)
def test_what_the_server_took(
    version: str, planned: dict[str, Any], lines: list[tuple[str, ...]], wrong: str
) -> None:
    text = ["loading", *(said(version, *line) for line in lines), "ready"]
    found = problems(read(text, messages(version)), planned)
    if not wrong:
        assert found == []
    else:
        assert any(wrong in line for line in found), found


def test_lines_of_real_servers() -> None:
    lines = (LOGS / "sglang-moe-config-lines.txt").read_text().splitlines()
    found = read(lines, messages("0.5.10.post1"))
    assert [(item.outcome, item.name, item.triton) for item in found] == [
        ("default", "E=264,N=256,device_name=NVIDIA_B200,dtype=fp8_w8a8,block_shape=[128, 128].json", ""),
        ("fallback", "E=8,N=2048,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8.json", "3.1.0"),
        ("file", "E=160,N=384,device_name=NVIDIA_GB10,dtype=fp8_w8a8.json", ""),
        ("file", "E=160,N=384,device_name=NVIDIA_GB10,dtype=fp8_w8a8_down.json", ""),
    ]


def test_other_kernels_speak_alike_and_are_not_meant() -> None:
    lines = (LOGS / "sglang-fp8-linear-config-line.txt").read_text().splitlines()
    assert read(lines, messages("0.5.23")) == []
