# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the health watch of one host is told: GPUs and instances of its plan, and the tables of files/. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.device_nodes import NVIDIA_SMI
from ..core.refusals import Refusal
from .decide import CLEARED, DRAIN, STOP

MODES = ("observe", "enforce")
FOLDER = "/var/lib/sglang-health"
CONFIGURATION = "/etc/sglang-health"


def health_settings(
    plan: Mapping[str, Any], rules: Mapping[str, Any], xids: Mapping[str, Any], given: Any = None
) -> dict[str, Any]:
    """Empty where no instance of the host has a GPU. `given` is `health:` of the inventory."""
    mode = _mode(given, str(rules["mode"]))
    instances = {
        name: sorted(gpu["index"] for gpu in instance["service"]["checks"]["gpus"])
        for name, instance in sorted(plan.get("instances", {}).items())
        if instance["service"]["checks"]["gpus"]
    }
    if not instances:
        return {}
    unified = any(instance["service"].get("oom_score_adjust") for instance in plan["instances"].values())
    return {
        "mode": mode,
        "folder": FOLDER,
        "cleared": f"{CONFIGURATION}/cleared.json",
        "nvidia_smi": "nvidia-smi",
        "devices": list(NVIDIA_SMI),
        "gpus": sorted({index for indexes in instances.values() for index in indexes}),
        "instances": instances,
        "rules": {key: value for key, value in rules.items() if key != "mode"},
        "actions": _actions(xids, unified),
        "xids": {
            str(code): [row["name"], row["action"]] for row in xids["xids"] for code in _codes(row["codes"])
        },
    }


def health_refusals(given: Mapping[str, Any]) -> list[Refusal]:
    """`given`: host -> `health:` of the inventory. Told with the plan, before anything is touched."""
    found = []
    for host, said in given.items():
        problem = _problem(said)
        if problem:
            found.append(Refusal("health", host, *problem))
    return found


def _problem(given: Any) -> tuple[str, str, str] | None:
    """Where, what, and what works instead."""
    if given in (None, "", {}):
        return None
    if not isinstance(given, Mapping):
        return (f"health = {given!r}", "invalid value", "write health: {mode: observe}")
    unknown = sorted(str(key) for key in given if key != "mode")
    if unknown:
        return (f"health.{unknown[0]}", "unknown key", "mode is the only one")
    if given["mode"] not in MODES:
        return (f"health.mode = {given['mode']!r}", "invalid value", "write observe or enforce")
    return None


def _mode(given: Any, default: str) -> str:
    problem = _problem(given)
    if problem:
        raise ValueError("{}: {}; {}".format(*problem))
    return str((given or {}).get("mode", default))


def _actions(xids: Mapping[str, Any], unified: bool) -> dict[str, dict[str, str]]:
    found = {}
    for name, row in xids["actions"].items():
        cure = (xids.get("unified") or {}).get(name, row)["cure"] if unified else row["cure"]
        decision = str(row["serving"])
        # What no table lets come back stays until somebody says so.
        returns = str(row.get("returns") or (CLEARED if decision in (DRAIN, STOP) else ""))
        found[name] = {"serving": decision, "returns": returns, "cure": str(cure)}
    return found


def _codes(codes: list[Any]) -> list[int]:
    found: list[int] = []
    for code in codes:
        first, _dash, last = str(code).partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
