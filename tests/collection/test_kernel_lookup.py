# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases' own look-up, run for real on a tree of ours: it takes the planned file and says so.

The module of each wheel is run with stand-ins for what it imports: torch, triton and the server's settings.
"""

from __future__ import annotations

import logging
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.kernel_log import (
    Message,
    problems,
    read,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_config import parse_name
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_release import MODULE
from ansible_collections.baremetal.sglang.plugins.module_utils.service.kernel_tree import selected, wanted
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner.conftest import World

CASES = {
    "a800": ("a800", 1, {"model": "glm-4.7-int8"}, "0.5.10.post1", (161, 192, "int8_w8a8")),
    "a800-580": ("a800-580", 1, {"model": "glm-4.7-int8"}, "0.5.23", (161, 192, "int8_w8a8")),
    "spark": ("spark", 4, {"model": "glm-4.7-fp8"}, "0.5.23", (161, 384, "fp8_w8a8")),
    "h200": ("h200", 1, {"model": "glm-4.7-fp8"}, "0.5.23", (161, 192, "fp8_w8a8")),
}


def look_up(archive: zipfile.ZipFile, device: str, triton: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """get_moe_configs of the wheel, on a GPU and a Triton that are not here."""
    module = next(name for name in archive.namelist() if name.endswith(f"/{MODULE}"))
    settings = types.SimpleNamespace(
        enable_deterministic_inference=False,
        deterministic=types.SimpleNamespace(enable_deterministic_inference=False),
    )
    stands = {
        "torch": {"cuda": types.SimpleNamespace(is_available=lambda: False), "dtype": object},
        "triton": {"__version__": triton},
        "sglang": {},
        "sglang.srt": {},
        "sglang.srt.utils": {"get_device_name": lambda: device, "is_hip": lambda: False},
        "sglang.srt.server_args": {"get_global_server_args": lambda: settings},
        "sglang.srt.runtime_context": {"get_exec": lambda: settings},
    }
    for name, values in stands.items():
        stand = types.ModuleType(name)
        vars(stand).update(values)
        monkeypatch.setitem(sys.modules, name, stand)
    scope: dict[str, Any] = {"__name__": "looked_up", "__file__": "/nowhere/x.py"}
    exec(compile(archive.read(module).decode(), module, "exec"), scope)
    return scope["get_moe_configs"]


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("broken", ["", "file", "folder"])
def test_the_engine_takes_the_planned_file(
    case: str, broken: str, engine_wheels: dict[str, zipfile.ZipFile], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    kind, count, serve, version, (experts, width, dtype) = CASES[case]
    plan = World(load_data_files([])).instance(kind, count, **serve)
    assert plan.release["version"] == version
    kernels, archive = plan.kernels, engine_wheels[version]
    folder = kernels["tree"]["shipped"]
    inside = [name[len(folder) + 1 :] for name in archive.namelist() if name.startswith(f"{folder}/")]
    shipped = {name: archive.read(f"{folder}/{name}") for name in selected(inside, kernels["tree"]["names"])}
    planned = kernels["tree"]
    tree = wanted(planned["files"], shipped, planned["leave_out"], planned["note"], planned["below"])
    asked = parse_name(kernels["moe_file"])
    assert asked is not None
    for name, content in tree.items():
        first = name == planned["files"][0]["path"]
        if first and broken == "file":
            continue
        target = tmp_path / (name.replace("configs/", "configs/triton_0_0_1/") if first and broken else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    monkeypatch.setenv("SGLANG_MOE_CONFIG_DIR", str(tmp_path))
    triton = plan.environment["versions"]["triton"]
    look = look_up(archive, asked.device.replace("_", " "), triton, monkeypatch)
    with caplog.at_level(logging.INFO):
        tiles = look(experts, width, dtype, 0, 0, per_channel_quant=True, down_moe=False)
        look(experts, width, dtype, 0, 0, per_channel_quant=True, down_moe=True)
    said = read(
        [line.getMessage().replace(str(tmp_path), kernels["directory"]) for line in caplog.records],
        [Message(item["outcome"], item["text"]) for item in kernels["log"]["messages"]],
    )
    wrong = problems(said, kernels["log"])
    if broken:
        assert wrong, [item.words() for item in said]
    else:
        assert wrong == []
        assert tiles and 4096 in tiles
