# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: everything that the roles apply, with the reason of every choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ..core.decode import decode
from ..core.refusals import Advice, Refusal
from ..engines.base import Api, Behaviour

SCHEMA = 1


class PlanError(ValueError):
    """What is given as a plan cannot be read as one."""


@dataclass(frozen=True)
class Argument:
    """One server argument and where it comes from."""

    flag: str
    """Without the leading dashes."""
    value: Any
    """True for a flag that takes no value."""
    why: str
    origin: str
    """"plan", "model", "hardware", "release" or the inventory key that said it."""


@dataclass(frozen=True)
class EnvironmentVariable:
    name: str
    value: str
    why: str


@dataclass(frozen=True)
class Port:
    port: int
    purpose: str
    """api, health, rendezvous, group, members, dp-attention."""
    address: str


@dataclass(frozen=True)
class InstancePlan:
    """One served model on one host."""

    name: str
    unit: str
    model: str
    served_model_name: str
    engine: str
    release: dict[str, Any]
    environment: dict[str, Any]
    weights: dict[str, Any]
    device: str
    gpus: tuple[int, ...]
    parallel: dict[str, Any]
    module: str
    arguments: tuple[Argument, ...]
    argv: tuple[str, ...]
    environment_variables: tuple[EnvironmentVariable, ...]
    ports: tuple[Port, ...]
    memory: dict[str, Any]
    context: dict[str, Any]
    kernels: dict[str, Any]
    compiles: dict[str, Any]
    behaviour: Behaviour
    api: Api
    metrics: dict[str, str]
    """Values that the house reads -> the engine's name of each counter."""
    engine_title: str = ""
    """As its makers write it."""
    program: str = ""
    """Text of a Python file that starts the module; empty where Python itself does."""
    service: dict[str, Any] = field(default_factory=dict)
    """How the unit starts, is watched and ends, and what it may touch."""
    accept: tuple[str, ...] = ()
    warnings: tuple[Advice, ...] = ()

    def argument(self, flag: str) -> Any:
        return next((item.value for item in self.arguments if item.flag == flag), None)


@dataclass(frozen=True)
class Plan:
    """What one host will be."""

    host: str
    collection: str
    """Version of this collection."""
    facts: dict[str, Any]
    """What the plan relied on, so that a host that changed is noticed."""
    host_settings: dict[str, Any]
    instances: dict[str, InstancePlan] = field(default_factory=dict)
    keep: dict[str, int] = field(default_factory=dict)
    """How much of what is old stays; not part of what a release is."""
    firewall: dict[str, Any] = field(default_factory=dict)
    """{rules: [{port, what, sources}]}; empty where nothing listens for other hosts. Not part of what a release is."""
    fabric: dict[str, Any] = field(default_factory=dict)
    """Devices, configuration and gates of the network between the hosts; not part of what a release is."""
    standbys: dict[str, InstancePlan] = field(default_factory=dict)
    """Instance -> the server that takes its requests while it is exchanged."""
    policy: dict[str, Any] = field(default_factory=dict)
    """What the inventory replaces in files/policy.yml: dotted key -> {value, default}. Not part of what a release is."""
    schema: int = SCHEMA
    warnings: tuple[Advice, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Out of what to_dict made; an empty mapping is the plan of a host for which nothing is planned."""
        if not data:
            return cls("", "", {}, {})
        if data.get("schema") != SCHEMA:
            raise PlanError(
                f"the plan has schema {data.get('schema')!r}, and this version reads {SCHEMA}: plan again with this version"
            )
        plan, problems = decode(cls, data)
        if problems or not isinstance(plan, cls):
            said = "; ".join(f"{item.path}: {item.what}" for item in problems[:5])
            raise PlanError(f"the plan cannot be read: {said}: plan again with this version")
        return plan

    def to_dict(self) -> dict[str, Any]:
        return dict(plain(self))


@dataclass(frozen=True)
class PlanResult:
    plans: dict[str, Plan]
    """Empty when anything was refused: a half-made plan would be applied by somebody."""
    refusals: tuple[Refusal, ...] = ()
    advice: tuple[Advice, ...] = ()
    gateways: dict[str, Any] = field(default_factory=dict)
    """Host -> its gateway section; also of hosts that serve nothing. Not part of what a release is."""
    monitoring: dict[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """The same value out of JSON types only, with sorted keys."""
    if is_dataclass(value):
        return {
            item.name: plain(getattr(value, item.name))
            for item in sorted(fields(value), key=lambda item: item.name)
        }
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
