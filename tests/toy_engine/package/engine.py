# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The toy, as the rest of the collection asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...planner.arguments import Arguments, weights_path
from ..base import Behaviour, Engine, Notes, Settled

if TYPE_CHECKING:
    from ...planner.case import Case
    from ...planner.compilers import Source
    from ...planner.plan import Argument


class Toy(Engine):
    name = "toy"
    title = "Toy"
    module = "toyengine.server"
    distribution = "toyengine"
    notes = Notes(modules=("toyengine.server",), example="toy serve MODEL", model=("weights",))

    def settle(self, case: Case, source: Source) -> Settled:
        found = Arguments(case)
        found.put("weights", weights_path(case), "a local directory")
        found.put("name", case.instance.served_model_name or case.instance.name, "the name that requests use")
        found.put("port", case.instance.port, f"serve.{case.instance.name}.port")
        for flag, value in case.instance.options.items():
            found.put(flag, value, "asked for", f"serve.{case.instance.name}.options.{flag}")
        most = case.model.shape.max_context
        length = min(case.instance.context_length or most, most)
        context = {
            "length": length,
            "of_model": most,
            "tokens": 0,
            "speculative": "off: a toy drafts nothing",
        }
        return Settled(replace(case, arguments=found.found), {}, context)

    def rank_arguments(self, case: Case, rank: int, head_address: str) -> list[Argument]:
        return sorted(case.arguments.values(), key=lambda item: item.flag)

    def behaviour(self, values: Mapping[str, Any]) -> Behaviour:
        return Behaviour(tools=False, prefix_cache=False)


ENGINE = Toy()
