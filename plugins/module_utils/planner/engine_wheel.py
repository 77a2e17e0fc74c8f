# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the wheel is there of an engine that no package index has."""

from __future__ import annotations

from ..core.refusals import Refusal
from ..engines import registry
from .case import Inputs
from .serve_spec import Instance
from .versions import version_key


def wheel_problems(inputs: Inputs, instance: Instance) -> list[Refusal]:
    """An engine that no index has is there when the user gives its wheel, of a release that is known."""
    if instance.engine not in registry.names() or not registry.engine(instance.engine).given_wheel:
        return []
    engine, data = registry.engine(instance.engine), inputs.data_of(instance.engine)
    versions = sorted({item.version for item in data.releases.values()}, key=version_key)
    known = " or ".join(versions)
    if not data.wheel:
        return [
            Refusal(
                "wheel-missing",
                "",
                instance.where("engine"),
                f"no package index has a usable wheel of {engine.title}",
                f"build one of {known} from its sources and name it: engine_wheels: "
                f"{{{engine.name}: /path/{engine.distribution}-{versions[-1] if versions else 'VERSION'}-py3-none-any.whl}}",
            )
        ]
    if data.wheel["version"] not in versions:
        return [
            Refusal(
                "wheel-version",
                "",
                f"engine_wheels.{engine.name} = {data.wheel['name']}",
                f"it is {engine.title} {data.wheel['version']}; flags and locks are known of {known}",
                f"give a wheel of {known}",
            )
        ]
    return []
