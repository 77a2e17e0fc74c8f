# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner is given besides `serve:`, and the case that its rules look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..catalogue.entries import Catalogues, Hardware, Model, Release, Variant
from ..engines.base import Engine, EngineData
from ..facts.schema import HostFacts
from .fabric.spec import FabricSpec
from .flag_names import FlagNames
from .plan import Argument
from .serve_spec import Instance
from .topology import Parallel


@dataclass(frozen=True)
class Inputs:
    """All that a plan depends on; the shim reads the files, the planner never does."""

    facts: Mapping[str, HostFacts]
    catalogues: Catalogues
    policy: Mapping[str, Any]
    """files/policy.yml: thresholds, directories, severities."""
    policy_changed: Mapping[str, Any] = field(default_factory=dict)
    """Dotted key -> {value, default} of what the inventory replaces in files/policy.yml."""
    risks: Mapping[str, Any] = field(default_factory=dict)
    """files/risks.yml: what may stand in `accept`."""
    collection: str = ""
    runtime_backend: str = "uv"
    """uv, or pixi whose conda packages bring a compiler."""
    python_kits: tuple[str, ...] = ()
    """Minor versions of Python that the bundle carries for each host."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Host -> address that the inventory says, used when the facts name none."""
    declared: Mapping[str, HostFacts] = field(default_factory=dict)
    """Declared hardware of hosts whose facts were gathered too."""
    engines: Mapping[str, EngineData] = field(default_factory=dict)
    """Engine -> what is known of it."""
    systems: Mapping[str, Any] = field(default_factory=dict)
    """`operating_systems` of files/operating_systems.yml."""
    families: Mapping[str, Any] = field(default_factory=dict)
    """`families` of the same file: names of packages."""
    drivers: Mapping[str, Any] = field(default_factory=dict)
    """`branches` of files/drivers.yml."""
    log_verdicts: tuple[Mapping[str, Any], ...] = ()
    """`verdicts` of files/log_verdicts.yml: what lines of the engine's log mean."""
    today: str = ""
    """Date of the controller, 2026-11-30; "" where nothing may depend on it."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """Host -> the plan that it has, where it was looked at."""
    swarm: Mapping[str, str] = field(default_factory=dict)
    """Host -> address, of the hosts that pass weights on to each other."""
    fabric: Mapping[str, FabricSpec] = field(default_factory=dict)
    """Host -> what the inventory says of its fabric."""
    gateway: Any = None
    """`gateway:` of the inventory as written, and `monitoring:`."""
    monitoring: Any = None
    certificate: Mapping[str, Any] = field(default_factory=dict)
    """What the controller read of a given certificate: {problem} or {key_matches, days_left, days_to_start, names}."""
    hosts: tuple[str, ...] = ()
    """Every host of the inventory; those of `facts` when not given."""

    def data_of(self, engine: str) -> EngineData:
        """Empty for an engine that is not known, which is refused by its name."""
        return self.engines.get(engine, EngineData())


@dataclass(frozen=True)
class Case:
    """One instance on one release: what rules are asked about."""

    inputs: Inputs
    engine: Engine
    data: EngineData
    """Of the engine: its releases, their flags, its own files."""
    instance: Instance
    model: Model
    hosts: tuple[HostFacts, ...]
    hardware: Hardware
    device: str
    release: Release
    variant: Variant
    parallel: Parallel
    contract: FlagNames
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    """By flag; without the ones that differ from rank to rank."""
    able: tuple[str, ...] = ()
    """Releases that hosts and model allow."""
    unable: Mapping[str, str] = field(default_factory=dict)
    """The others, each with its reason."""

    @property
    def head(self) -> HostFacts:
        return self.hosts[0]

    @property
    def capability(self) -> str:
        return self.hardware.compute_capability

    @property
    def policy(self) -> Mapping[str, Any]:
        """policy.yml of the engine, with what the inventory replaces."""
        found: Mapping[str, Any] = self.inputs.policy["engines"].get(self.engine.name, {})
        return found

    def has(self, feature: str) -> bool:
        return feature in self.release.features

    def component(self, name: str) -> str:
        return str(self.variant.components.get(name) or self.release.components.get(name, ""))

    def argument(self, flag: str) -> Argument | None:
        return self.arguments.get(self.contract.primary(flag))

    def value(self, flag: str) -> Any:
        """The argument's value, or None when it is not given."""
        argument = self.argument(flag)
        return None if argument is None else argument.value

    def asked(self, flag: str) -> bool:
        """Whether the user said it, rather than the planner."""
        argument = self.argument(flag)
        return argument is not None and argument.origin.startswith("serve.")

    def where(self, flag: str) -> str:
        argument = self.argument(flag)
        if argument is None:
            return f"serve.{self.instance.name}"
        if argument.origin.startswith("serve."):
            return f"{argument.origin} = {argument.value}"
        return f"serve.{self.instance.name} (--{flag} {argument.value})"

    def accepts(self, risk: str) -> bool:
        return risk in self.instance.accept

    def experts(self) -> bool:
        return self.model.shape.routed_experts > 0
