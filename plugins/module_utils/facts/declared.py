# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`declared_hardware`, the short form people write, made into the long form of a facts file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.entries import Hardware
from ..core.decode import Problem
from ..core.refusals import did_you_mean

KEYS = (
    "arch",
    "cpu_model",
    "cpu_threads",
    "disks",
    "driver",
    "fabric_manager",
    "glibc",
    "gpus",
    "interfaces",
    "kernel",
    "limits",
    "memory_gib",
    "nvlink",
    "os",
    "python",
    "rdma",
    "swap_gib",
    "systemd",
    "toolkit",
)
NEEDED = ("arch", "os")
_GPU_KEYS = ("count", "memory_mib", "mig_enabled", "model", "persistence")
_MOST_GPUS = 64
_OS_KEYS = ("dgx", "id", "name", "version_id")


def catalogue_entry(model: str) -> str:
    """What to add for a GPU that no catalogue knows."""
    return (
        f"add files/hardware/{model}.yml: {{key: {model}, products: [<name as `nvidia-smi -L` prints it>], "
        'device: cuda, compute_capability: "<x.y>", memory_mib: <of one GPU>}'
    )


class _Expansion:
    def __init__(
        self,
        hardware: Mapping[str, Hardware],
        systems: Mapping[str, Mapping[str, Any]],
        driver_cuda: Mapping[str, str],
    ) -> None:
        self.hardware = hardware
        self.systems = systems
        self.driver_cuda = driver_cuda
        self.problems: list[Problem] = []

    def problem(self, path: str, value: Any, what: str, fix: str) -> None:
        self.problems.append(Problem(path, value, what, fix))

    def _keys(self, path: str, value: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in value:
            if key not in known:
                place = f"{path}.{key}" if path else str(key)
                self.problem(place, value[key], "unknown key", did_you_mean(str(key), known))

    def gpus(self, value: Any) -> list[dict[str, Any]]:
        groups = value if isinstance(value, (list, tuple)) else [value]
        found: list[dict[str, Any]] = []
        for place, group in enumerate(groups):
            path = f"gpus[{place}]" if isinstance(value, (list, tuple)) else "gpus"
            if not isinstance(group, Mapping):
                self.problem(path, group, "is no GPU group", "write {model: a800-sxm4-80gb, count: 8}")
                continue
            found += self._group(path, group, len(found))
        return found

    def _group(self, path: str, group: Mapping[str, Any], first: int) -> list[dict[str, Any]]:
        self._keys(path, group, _GPU_KEYS)
        count, model = group.get("count", 1), group.get("model")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST_GPUS:
            self.problem(
                f"{path}.count", count, "invalid count of GPUs", f"write a number from 1 to {_MOST_GPUS}"
            )
            count = 0
        if not isinstance(model, str) or not model:
            self.problem(f"{path}.model", model, "names no GPU", "write a key of files/hardware")
            return []
        entry = self.hardware.get(model)
        if entry is None:
            near = did_you_mean(model, self.hardware)
            self.problem(
                f"{path}.model", model, "is in no hardware catalogue", f"{near} Or {catalogue_entry(model)}"
            )
            return []
        if entry.device != "cuda":
            self.problem(f"{path}.model", model, "is no GPU", "leave gpus away on a host without GPUs")
            return []
        gpu = {
            "model": model,
            "product": entry.products[0] if entry.products else "",
            "memory_mib": None if entry.unified_memory else group.get("memory_mib", entry.memory_mib),
            "unified_memory": entry.unified_memory,
            "compute_capability": entry.compute_capability,
            **{key: group[key] for key in ("mig_enabled", "persistence") if key in group},
        }
        return [{"index": first + place, **gpu} for place in range(count)]

    def driver(self, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self.problem("driver", value, "is a number, a version is text", f'write "{value}" in quotes')
            return None
        full = {"version": value} if isinstance(value, str) else value
        version = full.get("version") if isinstance(full, Mapping) else None
        if isinstance(version, str) and not re.fullmatch(r"\d{3,}(\.\d+)*", version):
            self.problem(
                "driver", version, "invalid driver version", 'write it as nvidia-smi does: "550.54.15"'
            )
            return None
        if isinstance(version, str) and isinstance(full, Mapping) and not full.get("cuda"):
            return {**full, "cuda": self.driver_cuda.get(version.split(".")[0], "")}
        return full

    def os(self, value: Any) -> tuple[Any, Mapping[str, Any]]:
        """The long form and what the table knows about it; an unknown system is no problem by itself."""
        if isinstance(value, str):
            known = self.systems.get(value)
            if known is None:
                name, dash, release = value.partition("-")
                if not dash:
                    self.problem(
                        "os",
                        value,
                        "names no release",
                        f"write {{id, version_id}}; {did_you_mean(value, self.systems)}",
                    )
                return {"id": name, "version_id": release}, {}
            return {key: known[key] for key in _OS_KEYS if key in known}, known
        if not isinstance(value, Mapping):
            self.problem(
                "os",
                value,
                "unknown operating system",
                'write ubuntu-22.04 or {id: ubuntu, version_id: "22.04"}',
            )
            return None, {}
        self._keys("os", value, _OS_KEYS)
        return {key: value[key] for key in _OS_KEYS if key in value}, system_of(value, self.systems)

    def python(self, value: Any) -> list[dict[str, Any]]:
        found = []
        items = value if isinstance(value, (list, tuple)) else [value]
        for place, item in enumerate(items):
            if isinstance(item, Mapping):
                found.append({"path": "", **item})
            elif isinstance(item, str) and re.fullmatch(r"3\.\d+(\.\d+)?", item):
                found.append({"path": "", "version": item})
            else:
                self.problem(f"python[{place}]", item, "is no Python version", 'write it in quotes: "3.10"')
        return found


def system_of(os: Mapping[str, Any], systems: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The table's entry for an operating system, by its own names; {} for one that it lacks."""
    wanted = (str(os.get("id", "")), str(os.get("version_id", "")))
    for entry in systems.values():
        name = str(entry.get("id", ""))
        release = str(entry.get("version_id", ""))
        minor_of = wanted[1].startswith(release + ".") and entry.get("minor_releases")
        if (
            wanted[0] == name
            and (wanted[1] == release or minor_of)
            and bool(os.get("dgx")) == bool(entry.get("dgx"))
        ):
            return entry
    return {}


def _with_defaults(key: str, entry: Any) -> Any:
    """What nobody declares because it goes without saying; the data of the caller stays as it is."""
    if not isinstance(entry, Mapping):
        return entry
    if key == "rdma":
        return {"state": "active", **entry}
    free = entry.get("free_gib", 0.0)
    return {"mount": str(entry.get("path", "")), "file_system": "", "total_gib": free, **entry}


def expand(
    data: Mapping[str, Any],
    host: str,
    hardware: Mapping[str, Hardware],
    systems: Mapping[str, Mapping[str, Any]],
    driver_cuda: Mapping[str, str],
) -> tuple[dict[str, Any], list[Problem]]:
    """The long form, as far as it could be made, and all problems."""
    work = _Expansion(hardware, systems, driver_cuda)
    work._keys("", data, KEYS)
    long: dict[str, Any] = {key: data[key] for key in KEYS if key in data}
    for key in NEEDED:
        if key not in data:
            work.problem(
                key, None, "is missing", {"arch": "x86_64 or aarch64", "os": "such as ubuntu-22.04"}[key]
            )
    if "arch" in data and data["arch"] not in ("x86_64", "aarch64"):
        work.problem("arch", data["arch"], "unknown architecture", "write x86_64 or aarch64")
    if "gpus" in data:
        long["gpus"] = work.gpus(data["gpus"])
    if "driver" in data:
        long["driver"] = work.driver(data["driver"])
    if "python" in data:
        long["python"] = work.python(data["python"])
    if "os" in data:
        long["os"], known = work.os(data["os"])
        long.setdefault("glibc", str(known.get("glibc", "")))
        long.setdefault("systemd", known.get("systemd"))
        if "python" not in data and known.get("python"):
            long["python"] = [{"path": "/usr/bin/python3", "version": str(known["python"])}]
    long.update(
        {
            key: [_with_defaults(key, entry) for entry in long[key]]
            for key in ("rdma", "disks")
            if isinstance(long.get(key), (list, tuple))
        }
    )
    return {"host": host, "source": "declared", **long}, work.problems


def interface_problems(interfaces: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """An address that cannot be read would be no address to the planner, and another network be chosen."""
    found = []
    for number, entry in enumerate(interfaces):
        place = f"interfaces[{number}]"
        if not isinstance(entry.get("name"), str) or not entry["name"]:
            found.append(
                Problem(f"{place}.name", entry.get("name"), "names no interface", "write name: eth0")
            )
        addresses = entry.get("addresses", [])
        if not isinstance(addresses, (list, tuple)):
            fix = "write a list such as [192.168.101.11/24]"
            found.append(Problem(f"{place}.addresses", addresses, "must be a list", fix))
            continue
        found += [
            Problem(
                f"{place}.addresses[{at}]", address, "invalid address", "write one such as 192.168.101.11/24"
            )
            for at, address in enumerate(addresses)
            if not _is_address(address)
        ]
    return found


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(ipaddress.ip_interface(value))
    except ValueError:
        return False
