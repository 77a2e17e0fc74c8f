# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that is shared with the host, and kernel files that do not fit a small GPU."""

from __future__ import annotations

from collections.abc import Iterator

from ....core.refusals import Advice, Refusal
from ....planner.case import Case
from ....planner.rules.registry import Finding, Rule, releases_with
from ..kernels import tile_problems, unfit


def automatic_memory(case: Case) -> Iterator[Finding]:
    if not case.hardware.unified_memory or case.device != "cuda":
        return
    graphs = case.contract.first("cuda-graph-max-bs-decode", "cuda-graph-max-bs")
    for flag, harm in (
        ("mem-fraction-static", "the engine would take about nine tenths of the host's own memory"),
        (graphs, "the engine would capture graphs as for a data-centre GPU of this size"),
    ):
        if flag and case.value(flag) is None:
            yield Refusal(
                "unified-memory-auto",
                case.head.host,
                f"serve.{case.instance.name}.options.{flag} = null",
                f"GPU and host share one memory: {harm}, and the host goes down",
                f"leave {flag} to the plan, or give a number",
            )


def fraction(case: Case) -> Iterator[Finding]:
    value = case.value("mem-fraction-static")
    if not isinstance(value, (int, float)) or not case.asked("mem-fraction-static"):
        return
    most = case.hardware.memory_fraction_max
    if case.hardware.unified_memory and most and value > most:
        yield Refusal(
            "memory-fraction-unified",
            case.head.host,
            case.where("mem-fraction-static"),
            f"{case.hardware.key} shares its memory with the host: above {most} the host freezes",
            f"use memory_fraction: {most} or less",
        )
    elif value > case.policy["memory"]["fraction_unwise"]:
        yield Advice(
            "memory-fraction-high",
            case.head.host,
            case.where("mem-fraction-static"),
            "little is left for activations and graphs: the engine may end with out of memory under load",
        )


def default_tiles(case: Case) -> Iterator[Finding]:
    problems = tile_problems(case)
    if not problems:
        return
    able = releases_with(case, lambda features: "low-smem-fp8-tiles" in features)
    fix = "add a kernel file for this GPU below engines/sglang/moe/ of a directory in catalogue_dirs"
    if able:
        fix = f"use release: {able[-1]}, which takes smaller tiles, or {fix}"
    yield Refusal(
        "moe-tile-too-large",
        case.head.host,
        f"serve.{case.instance.name} on {case.release.key}",
        f"{'; '.join(problems)}: the first long prompt ends the engine",
        fix,
    )


def unfit_kernel_file(case: Case) -> Iterator[Finding]:
    for source, problems in unfit(case):
        yield Refusal(
            "kernel-file-unfit",
            case.head.host,
            source,
            f"this kernel file would be used, and cannot run on {case.hardware.key}: {problems}",
            "tune it on this GPU, or take it out of the directory: the plan then takes the next best",
        )


RULES = (
    Rule(
        "unified-memory-auto", "The automatic value counts the host's memory as the GPU's.", automatic_memory
    ),
    Rule("memory-fraction-unified", "What the engine takes the host lacks.", fraction),
    Rule("moe-tile-too-large", "Default tiles are made for large GPUs.", default_tiles, of_release=True),
    Rule("kernel-file-unfit", "What the user brings is used, or refused by name.", unfit_kernel_file),
)
