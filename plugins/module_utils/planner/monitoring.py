# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus asks of a host, and what the engines call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..facts.schema import HostFacts
from ..gateway.spec import Monitoring
from .case import Inputs


class Served(Protocol):
    """An instance that answers requests."""

    @property
    def host(self) -> str: ...
    @property
    def instance(self) -> str: ...
    @property
    def model(self) -> str: ...


def metric_names(inputs: Inputs) -> dict[str, list[str]]:
    """What rules and panels ask for -> what each engine calls it."""
    engines = [data.metrics for _name, data in sorted(inputs.engines.items())]
    keys = dict.fromkeys(key for metrics in engines for key in metrics)
    return {key: [metrics[key] for metrics in engines if key in metrics] for key in keys}


def gpu_source(monitoring: Monitoring, facts: HostFacts) -> str:
    if monitoring.gpu != "auto":
        return monitoring.gpu
    return "nvidia-smi" if facts.gpus else "none"


def target(inputs: Inputs, section: Mapping[str, Any], found: Iterable[Served], gpu: str) -> dict[str, Any]:
    host = section["host"]
    return {
        "host": host,
        "address": f"{inputs.addresses.get(host, host)}:{section['inner']['port']}",
        "instances": {head.instance: head.model for head in found if head.host == host},
        "dcgm": gpu == "dcgm",
    }
