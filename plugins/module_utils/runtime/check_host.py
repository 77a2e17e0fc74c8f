# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a finished environment whether it is the planned one, with its own Python."""

from __future__ import annotations

import json
from typing import Any

# Runs in the environment. CUDA_VISIBLE_DEVICES would hide what the host has from torch.
PROGRAM = """
import importlib, importlib.metadata, json, os, sys
asked = json.loads(sys.argv[1])
os.environ.pop("CUDA_VISIBLE_DEVICES", None)
problems = []
for name, wanted in asked["versions"].items():
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "nothing"
    if found != wanted and found.partition("+")[0] != wanted:
        problems.append(f"{name}: {wanted} was planned, {found} is installed")
for name in asked["imports"]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        problems.append(f"import {name}: {type(error).__name__}: {error}")
torch = sys.modules.get("torch")
if torch and asked["cuda"]:
    found = "cu" + (torch.version.cuda or "").replace(".", "")
    if found != asked["cuda"]:
        problems.append(f"torch: {asked['cuda']} was planned, this build is for {found if found != 'cu' else 'no CUDA'}")
if torch and asked["gpus"]:
    found = torch.cuda.device_count()
    if found != asked["gpus"]:
        reason = "no reason was given"
        try:
            torch.cuda.init()
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or reason
        if found:
            reason = "nvidia-smi -L on the host lists those that the driver has"
        problems.append(
            f"torch.cuda sees {found} GPUs, the plan has {asked['gpus']}: {reason}. On the host, nvidia-smi -L and "
            "ls /dev/nvidia* show what is missing; systemctl start gpu-device-nodes makes device nodes"
        )
print(json.dumps(problems))
"""


def question(imports: list[str], versions: dict[str, str], cuda: str = "", gpus: int = 0) -> str:
    return json.dumps({"imports": imports, "versions": versions, "cuda": cuda, "gpus": gpus})


def answer(output: str) -> list[str]:
    """What does not fit; libraries may print before it."""
    found: Any = json.loads(output.strip().splitlines()[-1])
    return [str(line) for line in found]
