# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LightLLM, as the rest of the collection asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import Behaviour, Engine, Settled
from ..flags.contract import render
from . import budget, settings
from .notes import NOTES
from .parse_wheel import parse_wheel
from .program import PROGRAM
from .rules import RULES

if TYPE_CHECKING:
    from ...planner.case import Case
    from ...planner.compilers import Source
    from ...planner.network import Link
    from ...planner.plan import Argument

AUTOTUNE_LEVEL = "LIGHTLLM_TRITON_AUTOTUNE_LEVEL"


class LightLLM(Engine):
    name = "lightllm"
    title = "LightLLM"
    module = "lightllm.server.api_server"
    distribution = "lightllm"
    program = PROGRAM
    own_modules = ("lightllm.server.api_server", "lightllm.server.api_http")
    given_wheel = True
    rules = RULES
    notes = NOTES

    def wheel_files(self, version: str, wheel: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
        # Everybody builds a wheel of their own: its name and hash would say nothing.
        return {f"flags/{version}.json": render(version, {"name": "", "sha256": ""}, parse_wheel(wheel))}

    def settle(self, case: Case, source: Source) -> Settled:
        on, off = settings.speculation(case)
        made = budget.assess(settings.derive(case, source, on))
        wanted = []
        for flag in ("llm_prefill_att_backend", "llm_decode_att_backend"):
            if settings.backend(made.case.value(flag)) == "flashinfer":
                wanted.append("flashinfer attention")
        if made.case.value("sampling_backend") == "flashinfer":
            wanted.append("flashinfer sampling")
        wanted = list(dict.fromkeys(wanted))
        proofs = ["triton", *(["cuda", "flashinfer"] if wanted else [])] if case.device == "cuda" else []
        return Settled(
            case=made.case,
            memory=made.memory,
            context={**made.context, "speculative": off or on},
            compiled=wanted,
            proofs=proofs,
            refusals=made.refusals,
            advice=made.advice,
        )

    def rank_arguments(self, case: Case, rank: int, head_address: str) -> list[Argument]:
        return settings.rank_arguments(case)

    def variables(
        self, case: Case, link: Link, kernel_files: Mapping[str, Any]
    ) -> list[tuple[str, str, str]]:
        return [
            (
                "LOADWORKER",
                str(settings.load_workers(case)),
                "threads that read weights; the engine's own is one",
            ),
            (
                AUTOTUNE_LEVEL,
                str(case.policy["autotune_level"]),
                "what is tuned is kept in the instance's cache",
            ),
            ("LIGHTLLM_LOG_LEVEL", "info", "the engine's own level writes the state of every step"),
        ]

    def behaviour(self, values: Mapping[str, Any]) -> Behaviour:
        return settings.behaviour(values)

    def without_compiler(self, case: Case, wanted: Sequence[str]) -> list[str]:
        return (
            ["use llm_decode_att_backend: fa3"]
            if case.capability == settings.WITH_FA3
            else ["use llm_prefill_att_backend: triton and llm_decode_att_backend: triton"]
        )


ENGINE = LightLLM()
