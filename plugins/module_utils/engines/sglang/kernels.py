# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel tuning file the engine will look for, where it comes from, and what the server's log must say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...planner.case import Case
from ..kernel_log import DEFAULT, FILE, NEVER
from . import moe_config
from .kernel_choice import RELEASE, Candidate, candidates, chosen, release_of
from .moe_config import MoeFile
from .moe_tuned import USERS, digest

FP8_WORD = "fp8_w8a8"
VARIABLE = "SGLANG_MOE_CONFIG_DIR"
TRITON_RUNNERS = (None, "auto", "triton")
QUIET_LEVELS = ("warning", "error", "critical")


def searched(case: Case) -> MoeFile | None:
    """The file that the engine asks for; None for dense models, CPUs and kernels that read none."""
    if case.device != "cuda" or not case.head.gpus or case.value("moe-runner-backend") not in TRITON_RUNNERS:
        return None
    quantization = case.model.quantization
    asked = case.value("quantization")
    if asked == "humming" or _trtllm(case):
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


def _trtllm(case: Case) -> bool:
    """On capability 10.x the engine itself gives GLM without a method to another runner."""
    return (
        case.capability.startswith("10.")
        and case.model.shape.architecture == "Glm4MoeForCausalLM"
        and not case.model.quantization.method
        and case.value("moe-runner-backend") in (None, "auto")
    )


def deterministic(case: Case) -> bool:
    """Then the engine looks for no file, and takes one small tile for all."""
    return bool(case.value("enable-deterministic-inference"))


def by_user(case: Case) -> bool:
    return VARIABLE in case.instance.environment


def tile_problems(case: Case) -> list[str]:
    """Why the release's own tiles cannot run here; a file that fits cures it."""
    file = searched(case)
    if file is None or file.dtype != FP8_WORD or deterministic(case) or chosen(case, file) is not None:
        return []
    return moe_config.default_tile_problems(
        file, case.hardware.shared_memory_bytes, case.has("low-smem-fp8-tiles")
    )


def unfit(case: Case) -> list[tuple[str, str]]:
    """The user's own files under the name that is looked for, each with what is wrong with it."""
    file = searched(case)
    if file is None or deterministic(case) or by_user(case):
        return []
    return [
        (item.tuned.source, "; ".join(item.problems))
        for item in candidates(case, file)
        if item.by == USERS and item.tuned and item.problems
    ]


def to_dict(case: Case) -> dict[str, Any]:
    file = searched(case)
    if file is None:
        reads = "no experts" if not case.experts() else "its experts run on kernels that read no tuning file"
        return _without("", reads if case.device == "cuda" else "plain PyTorch")
    head = f"MoE E={file.experts},N={file.width} {file.dtype or 'bfloat16'}"
    head += " per-channel" if file.per_channel else ""
    release = release_of(case)
    if deterministic(case):
        log = _log(case, file, [{"name": "", "outcome": NEVER, "path": ""}])
        return _without(file.name, f"{head}: no file, deterministic inference takes one tile for all", log)
    if by_user(case):
        where = f"serve.{case.instance.name}.environment.{VARIABLE}"
        return _without(file.name, f"{head}: from the folder of {where}, not looked into")
    if release is None or not case.component("triton"):
        return _without(file.name, f"{head}: the engine's own file for this GPU, or its default tiles")
    choice = chosen(case, file)
    passed = "; ".join(
        f"passed over {item.folder or item.words}: {item.problems[0]}"
        for item in candidates(case, file)
        if item.problems
    )
    passed = f" ({passed})" if passed else ""
    if choice is None:
        log = _log(case, file, [{"name": file.name, "outcome": DEFAULT, "path": ""}])
        return _without(file.name, f"{head}: default tiles, {case.release.version} has no file{passed}", log)
    return _with(case, file, choice, f"{head}: {choice.words}{passed}")


def variables(planned: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What leads the engine to the planned files."""
    if not planned.get("directory"):
        return []
    return [(VARIABLE, str(planned["directory"]), str(planned["why"]))]


def _without(name: str, words: str, log: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "moe_file": name,
        "source": "engine" if name else "",
        "words": words,
        "variable": VARIABLE,
        "log": log or {},
    }


def _with(case: Case, file: MoeFile, choice: Candidate, words: str) -> dict[str, Any]:
    release = release_of(case)
    running = moe_config.directory(case.component("triton"))
    root = f"{case.inputs.policy['directories']['root']}/current/{case.instance.name}/moe"
    down = file.for_down_projection().name
    put = [_put(running, file.name, choice, choice.tuned, choice.shipped)]
    if choice.down or choice.down_shipped:
        put.append(_put(running, down, choice, choice.down, choice.down_shipped))
    expected = [
        {"name": name, "outcome": FILE, "path": f"{root}/configs/{running}/{name}"}
        for name in (item["name"] for item in put)
    ]
    source = f"{case.release.version} {choice.folder}" if choice.by == RELEASE else _source(choice)
    return {
        "moe_file": file.name,
        "source": source,
        "words": words,
        "variable": VARIABLE,
        "directory": root,
        "why": "a whole tree: the engine looks nowhere else, and says which file it took",
        "tree": {
            "shipped": release.folder if release else "",
            "below": "configs",
            "names": moe_config.names_of(file.device),
            "files": put,
            # An older twin would be loaded beside tiles that it was not made for.
            "leave_out": [] if len(put) > 1 else [down],
            "note": _note(choice, source, words),
        },
        "log": _log(case, file, expected),
    }


def _source(choice: Candidate) -> str:
    return choice.tuned.source if choice.tuned else ""


def _put(folder: str, name: str, choice: Candidate, tuned: Any, shipped: Any) -> dict[str, str]:
    """Either a copy of the release's own, known by its hash, or tiles that the plan carries."""
    text = tuned.content() if tuned else ""
    return {
        "path": f"configs/{folder}/{name}",
        "name": name,
        "copy": f"{choice.folder}/{name}" if shipped else "",
        "content": text,
        "sha256": shipped.sha256 if shipped else digest(text),
    }


def _note(choice: Candidate, source: str, words: str) -> str:
    lines = [words, f"taken from: {source}"]
    if choice.tuned:
        lines += [f"origin: {choice.tuned.origin}"] if choice.tuned.origin else []
        lines += [f"licence: {choice.tuned.licence}"] if choice.tuned.licence else []
    return "\n".join([*lines, "Everything else here is the release's own for this GPU."])


def _log(case: Case, file: MoeFile, expected: list[dict[str, str]]) -> dict[str, Any]:
    """What verify compares the server's own words with."""
    release = release_of(case)
    names = {item["name"] for item in expected}
    tolerated = [file.for_down_projection().name]
    if case.value("speculative-algorithm"):
        # The draft's experts may be left in 16 bits.
        draft = replace(file, dtype="", block_shape=(), per_channel=False)
        tolerated += [draft.name, draft.for_down_projection().name]
    return {
        "expected": expected,
        "tolerated": [name for name in tolerated if name not in names],
        "messages": [
            {"outcome": item.outcome, "text": item.text} for item in (release.messages if release else ())
        ],
        "quiet": str(case.value("log-level") or "").lower() in QUIET_LEVELS,
    }
