# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Server arguments as they are collected, and the values of a case that several of them need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .case import Case
from .plan import Argument

PLAN, MODEL, HARDWARE, RELEASE = "plan", "model", "hardware", "release"


class Arguments:
    """Collects arguments by the release's main spelling; what is said later wins."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self.found: dict[str, Argument] = dict(case.arguments)

    def put(self, flag: str, value: Any, why: str, origin: str = PLAN) -> None:
        name = self._case.contract.primary(flag)
        before = self.found.get(name)
        if before is not None and origin.startswith("serve.") and before.value != value:
            why = f"{why}; the plan would say {before.value}: {before.why}"
        self.found[name] = Argument(name, value, why, origin)

    def offer(self, flag: str, value: Any, why: str, origin: str = PLAN) -> None:
        """Only where the release has the flag and allows the value."""
        if self._case.contract.allows(flag, value):
            self.put(flag, value, why, origin)

    def put_asked(self, typed_keys: Mapping[str, str]) -> None:
        """What the user says of the instance; `typed_keys`: key of the instance -> the engine's flag."""
        instance = self._case.instance
        for key, flag in typed_keys.items():
            value = getattr(instance, key)
            if value not in (None, ""):
                self.put(flag, value, "asked for", f"serve.{instance.name}.{key}")
        for flag, value in instance.options.items():
            name = self._case.contract.primary(flag)
            if value is None or value is False:
                # "Off" for a switch that the plan set; the checker sees what remains.
                self.found.pop(name, None)
            elif not owned(self._case, name):
                self.put(flag, value, "asked for", f"serve.{instance.name}.options.{flag}")


def weights_path(case: Case) -> str:
    if case.model.key.startswith("/"):
        return case.model.key
    return f"{case.inputs.policy['directories']['weights']}/{case.model.key}/{revision(case)}"


def revision(case: Case) -> str:
    """The commit that the weights are taken at; a model that no hub has is "local"."""
    revisions = case.model.revisions
    pinned = next((revisions[hub] for hub in ("modelscope", "huggingface") if revisions.get(hub)), "")
    return pinned or ("unpinned" if case.model.ids else "local")


def owned(case: Case, flag: str) -> bool:
    """Flags that the collection keeps for itself; the check refuses them with the place to say it."""
    return flag in case.data.flag_rules.owned


def dist_port(case: Case) -> int:
    offset = int(case.inputs.policy["ports"]["rendezvous_offset"])
    return case.instance.dist_port or case.instance.port + offset
