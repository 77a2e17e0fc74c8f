# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the launcher of an instance reads (launch.json), and the words of the unit around it. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..planner.plan import InstancePlan, Plan, Port

HEALTH_VERDICT = "/var/lib/sglang-health/verdict.json"
"""Written by the health watch of the host; the launcher looks there for an order to drain or to stop."""


def launch(plan: Plan, name: str, python: str) -> dict[str, Any]:
    instance = plan.instances[name]
    paths = plan.host_settings["paths"]
    service = instance.service
    port = api_port(instance)
    return {
        "instance": name,
        "serves": instance.served_model_name,
        "argv": [python, *_start(paths["root"], name, instance), *instance.argv],
        "environment": {item.name: item.value for item in instance.environment_variables},
        # What systemd read from files of root is passed on; the files themselves are not for this user.
        "environment_from_files": bool(service["environment_files"]),
        "address": port.address,
        "port": port.port,
        "head": instance.parallel["node_rank"] == 0,
        "api": {
            "alive": instance.api.alive,
            "token": instance.api.token,
            **({"cuts_streams": True} if instance.api.cuts_streams else {}),
            "first": _named(instance.api.first, instance.served_model_name),
        },
        "weights": instance.weights["path"],
        "state": f"{paths['state']}/{name}",
        "health": HEALTH_VERDICT,
        "writable": [f"{paths['state']}/{name}", service["compiled"]],
        **{
            key: service[key]
            for key in (
                "checks", "start", "watch", "drain_seconds", "restart", "logs", "compiled", "compiled_keep",
            )
        },
        **({"group": service["group"]} if service.get("group") else {}),
    }  # fmt: skip


PROGRAM = "start.py"
"""Beside launch.json: what starts an engine that needs more than `python -m`."""


def _start(root: str, name: str, instance: InstancePlan) -> list[str]:
    return [f"{root}/current/{name}/{PROGRAM}"] if instance.program else ["-m", instance.module]


def _named(value: Any, model: str) -> Any:
    """The first request with the served name where it says {model}."""
    if isinstance(value, Mapping):
        return {key: _named(item, model) for key, item in value.items()}
    return model if value == "{model}" else value


def api_port(instance: InstancePlan) -> Port:
    return next(port for port in instance.ports if port.purpose in ("api", "health"))


def confinement(instance: InstancePlan) -> dict[str, Any]:
    """What the unit's directives print."""
    service = instance.service
    start, group = service["start"], service.get("group") or {}
    return {
        "devices": service["devices"],
        "modules": ["nvidia_uvm"] if service["checks"]["driver"] else [],
        "addresses": ["localhost", *service["addresses"]],
        "address_families": service["address_families"],
        "start_seconds": start["seconds"] + start["stall_seconds"] + service["margins"]["start"],
        "watchdog_seconds": group.get("watchdog_seconds", service["watch"]["watchdog_seconds"]),
        "oom_score_adjust": service["oom_score_adjust"],
        "stop_seconds": service["drain_seconds"] + service["margins"]["stop"],
        # Twice as many as the launcher allows: this bound is for a launcher that cannot count. A group waits for its
        # members again and again, without counting.
        "start_burst": group.get("start_burst", 2 * len(service["restart"]["delays"])),
        "start_interval": group.get("start_interval", service["restart"]["window_seconds"]),
    }
