# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server beside what serves, for a while: what it is called, what it is started with, and where all of it lies. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..planner.plan import Plan
from .application import moved, units
from .launch import api_port

PLACE = "/run/sglang-scratch"
NO_KERNEL_FILES = "no-moe"


class RefusedError(ValueError):
    """Why there can be no such server now."""


def serve(
    live: Mapping[str, Any],
    instance: str,
    name: str,
    setting: Mapping[str, Any],
    host: str,
    port: int,
    needed: int = 0,
    free: Iterable[int] | None = None,
) -> dict[str, Any]:
    """The `serve:` of a scratch server: as the instance is asked for, with the setting in it, on free GPUs if it needs some.

    Without `free` it has the GPUs of the instance, which has to make room.
    """
    entry = {key: value for key, value in live.get(instance, {}).items() if key != "dist_port"}
    for key, value in setting.items():
        if key == "kernel_files":
            continue
        if isinstance(value, Mapping) and isinstance(entry.get(key), Mapping):
            entry[key] = {**entry[key], **value}
        else:
            entry[key] = value
    if needed and free is not None:
        found = list(free)
        if len(found) < needed:
            shown = ", ".join(map(str, found)) or "none"
            raise RefusedError(
                f"{name} needs {needed} GPUs on {host} and nobody uses: {shown}; end what uses the others, or let it take "
                "the place of what serves (bench_scratch=instead)"
            )
        entry["gpus"] = found[:needed]
    names = {"served_model_name": entry.get("served_model_name", instance)}
    return {name: {**entry, **names, "hosts": [host], "port": port}}


def unit_of(plan: Plan, name: str) -> dict[str, Any]:
    """What the template of a unit prints, with the paths of the scratch server."""
    (unit,) = [item for item in units(plan) if item["name"] == name]
    return moved(plan, unit, f"{PLACE}/{name}")


def definition(
    plan: Plan,
    name: str,
    live: str,
    unit_text: str,
    launcher: Mapping[str, str],
    kernel_files: bool = True,
) -> dict[str, Any]:
    """All that the module scratch lays down. `live` is the instance whose kernel files may be used, or ""."""
    instance, unit = plan.instances[name], unit_of(plan, name)
    paths, launch = plan.host_settings["paths"], unit["launch"]
    links = {"env": instance.environment["path"], "weights": instance.weights["path"]}
    folders = []
    variable = instance.kernels.get("variable", "")
    if variable and launch["environment"].get(variable):
        if kernel_files and live:
            links["moe"] = f"{paths['root']}/current/{live}/moe"
        else:
            # The engine wants the folder to be there; with nothing in it, it takes its own tiles.
            folders = [f"{NO_KERNEL_FILES}/configs"]
            launch["environment"][variable] = f"{PLACE}/{name}/{NO_KERNEL_FILES}"
            launch["checks"]["kernel_files"] = []
    files = {f"launcher/{key}": text for key, text in launcher.items()}
    files.update(unit["programs"])
    files[f"{name}/launch.json"] = json.dumps(launch, indent=1, sort_keys=True) + "\n"
    return {
        "name": name,
        "unit": unit["unit"],
        "unit_text": unit_text,
        "port": int(api_port(instance).port),
        "serves": instance.served_model_name,
        "alive": instance.api.alive,
        "token": instance.api.token,
        "python": f"{PLACE}/{name}/{name}/env/bin/python",
        "files": files,
        "links": {f"{name}/{key}": target for key, target in links.items()},
        "folders": folders,
        "writable": [f"{paths['state']}/{name}", f"{paths['cache']}/{name}"],
        "user": plan.host_settings["user"],
        "group": plan.host_settings["group"],
        "probe": f"{paths['root']}/probe.py",
    }


def gpus_free(listed: str, used: str, most_mib: float) -> list[int]:
    """Indexes of GPUs that nobody uses, from two queries: `index,uuid,memory.used` and the `gpu_uuid` of processes."""
    busy = {line.strip() for line in used.splitlines() if line.strip()}
    found = []
    for line in listed.splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) < 3 or not words[0].isdigit() or words[1] in busy:
            continue
        try:
            taken = float(words[2])
        except ValueError:
            # Boards that share the host's memory do not say.
            taken = 0.0
        if taken <= most_mib:
            found.append(int(words[0]))
    return found
