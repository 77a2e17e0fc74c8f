# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SGLang, as the rest of the collection asks it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import Behaviour, DataFile, Engine, Settled
from ..flags.contract import render
from . import compiled, kernels, memory, moe_release, settings
from .fit import draft_costs_too_much
from .kernel_choice import KernelFiles
from .notes import NOTES
from .parse_wheel import parse_wheel
from .rest import EngineMemory
from .rules import RULES
from .scripts import SCRIPTS
from .speculation import speculation

if TYPE_CHECKING:
    from ...planner.case import Case
    from ...planner.compilers import Source
    from ...planner.network import Link
    from ...planner.plan import Argument


class SGLang(Engine):
    name = "sglang"
    title = "SGLang"
    module = "sglang.launch_server"
    distribution = "sglang"
    rules = RULES
    notes = NOTES
    scripts = SCRIPTS
    release_memory = EngineMemory
    own_files = ("moe/index.yml", "moe/**/*.json")

    def wheel_files(self, version: str, wheel: Mapping[str, str], named: Mapping[str, str]) -> dict[str, str]:
        python = {path: text for path, text in wheel.items() if path.endswith(".py")}
        return {
            f"flags/{version}.json": render(version, named, parse_wheel(python)),
            f"moe/releases/{version}.json": moe_release.render(moe_release.read_wheel(version, wheel)),
        }

    def own_data(self, files: Iterable[DataFile]) -> KernelFiles:
        return KernelFiles.of(files)

    def settle(self, case: Case, source: Source) -> Settled:
        on, why_not = speculation(case)
        budget = memory.assess(settings.derive(case, source, on))
        if on and case.instance.speculative is None and (budget.refusals or budget.shortened):
            # The draft is worth less than the context that was asked for.
            without = memory.assess(settings.derive(case, source, ""))
            if budget.refusals and not without.refusals:
                budget, why_not = without, "off: its draft would not fit beside the context"
            elif draft_costs_too_much(budget.context["length"], without.context["length"]):
                budget, why_not = without, "off: its draft would cost more than half of the context"
        wanted = compiled.needs(budget.case)
        return Settled(
            case=budget.case,
            memory=budget.memory,
            context={**budget.context, "speculative": why_not or on},
            compiled=wanted,
            proofs=compiled.proofs(budget.case, wanted),
            refusals=budget.refusals,
            advice=budget.advice,
        )

    def rank_arguments(self, case: Case, rank: int, head_address: str) -> list[Argument]:
        return settings.rank_arguments(case, rank, head_address)

    def variables(
        self, case: Case, link: Link, kernel_files: Mapping[str, Any]
    ) -> list[tuple[str, str, str]]:
        own = ("SGLANG_HOST_IP", link.address, f"the address is not guessed: {link.why}")
        return [own, *kernels.variables(kernel_files)]

    def behaviour(self, values: Mapping[str, Any]) -> Behaviour:
        return settings.behaviour(values)

    def checksums(self, case: Case) -> str:
        return settings.checksums(case)

    def head_ports(self, case: Case) -> list[tuple[str, int]]:
        return settings.head_ports(case)

    def kernel_files(self, case: Case) -> dict[str, Any]:
        return kernels.to_dict(case)

    def without_compiler(self, case: Case, wanted: Sequence[str]) -> list[str]:
        return compiled.without_compiler(case, list(wanted))


ENGINE = SGLang()
