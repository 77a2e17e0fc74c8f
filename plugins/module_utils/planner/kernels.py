# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel tuning file the engine will look for, whether we bring it, and what happens without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import moe_config
from ..moe_config import MoeFile
from .case import Case

FP8_WORD = "fp8_w8a8"


def searched(case: Case) -> MoeFile | None:
    """The file that the engine asks for; None for dense models, CPUs and kernels that read none."""
    if case.device != "cuda" or not case.head.gpus:
        return None
    quantization = case.model.quantization
    asked = case.value("quantization")
    if asked == "humming":
        return None
    if asked in ("w8a8_int8", "moe_wna16"):
        quantization = replace(quantization, method=str(asked))
    first = case.parallel.gpus.get(case.head.host, ())
    product = next((gpu.product for gpu in case.head.gpus if gpu.index in first), "")
    return moe_config.moe_file(
        case.model.shape,
        quantization,
        case.parallel.tensor,
        product,
        case.capability,
        int(case.value("ep-size") or 1),
        bool(case.value("disable-shared-experts-fusion")),
    )


def tile_problems(case: Case) -> list[str]:
    """Why the release's own tiles cannot run here; a file that we bring cures it."""
    file = searched(case)
    if file is None or file.dtype != FP8_WORD or ours(case) is not None:
        return []
    return moe_config.default_tile_problems(
        file, case.hardware.shared_memory_bytes, case.has("low-smem-fp8-tiles")
    )


def ours(case: Case) -> dict[str, Any] | None:
    """The collection's own file under the name that the engine looks for."""
    file = searched(case)
    found = case.inputs.moe_files.get(file.name) if file is not None else None
    return dict(found) if found is not None else None


def to_dict(case: Case) -> dict[str, Any]:
    file = searched(case)
    if file is None:
        reads = "no experts" if not case.experts() else "its experts run on kernels that read no tuning file"
        return {"moe_file": "", "source": "", "words": reads if case.device == "cuda" else "plain PyTorch"}
    words = f"MoE E={file.experts},N={file.width} {file.dtype or 'bfloat16'}"
    words += " per channel" if file.per_channel else ""
    mine = ours(case)
    by_user = "SGLANG_MOE_CONFIG_DIR" in case.instance.environment
    if mine is None or by_user or not case.component("triton"):
        return {
            "moe_file": file.name,
            "source": "engine",
            "words": f"{words}: the engine's own file for this GPU, or its default tiles",
        }
    root = f"{case.inputs.policy['directories']['root']}/moe/{case.instance.name}"
    folder = moe_config.directory(case.component("triton"))
    names = [(file.name, mine)]
    down = file.for_down_projection().name
    if down in case.inputs.moe_files:
        names.append((down, dict(case.inputs.moe_files[down])))
    measured = str(mine.get("measured", ""))
    return {
        "moe_file": file.name,
        "source": str(mine["source"]),
        "words": f"{words}: from {mine['source']}, "
        + (f"measured on {measured}" if measured else f"never measured on {file.device}"),
        "directory": root,
        "why": "it replaces the engine's own files: only this one is looked for",
        "files": [
            {"source": str(entry["source"]), "path": f"{root}/configs/{folder}/{name}"}
            for name, entry in names
        ],
        # The engine says this when the file was really taken; verify looks for it.
        "log_line": f"Using MoE kernel config from {root}/configs/{folder}/{file.name}",
    }
