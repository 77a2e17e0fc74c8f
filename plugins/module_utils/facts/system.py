# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operating system, processor, memory and limits."""

from __future__ import annotations

import re

from .faults import fault
from .host import HostIo
from .schema import Fault, OperatingSystem, Python
from .values import count, labelled, number, plain, version

LIMITS = {
    "Max locked memory": "memlock",
    "Max open files": "nofile",
    "Max processes": "nproc",
    "Max stack size": "stack",
    "Max core file size": "core",
}
_PYTHON = re.compile(r"python3\.\d{1,2}\Z")
_PYTHON_SECONDS = 5.0


def parse_release(text: str) -> dict[str, str]:
    """KEY=value lines; a key that stands twice counts as written last."""
    rows = labelled(plain(text), "=")
    return {key: value.strip("\"'") for key, value in rows if not key.startswith("#")}


def dgx_version(text: str) -> str:
    """Updates over the air are appended; before the first one the build is the version."""
    labels = parse_release(text)
    return labels.get("DGX_OTA_VERSION") or labels.get("DGX_SWBUILD_VERSION") or ""


def operating_system(io: HostIo) -> OperatingSystem:
    labels = parse_release(io.read("/etc/os-release") or io.read("/usr/lib/os-release"))
    return OperatingSystem(
        id=labels.get("ID", "").lower(),
        version_id=labels.get("VERSION_ID", ""),
        name=labels.get("PRETTY_NAME", labels.get("NAME", "")),
        dgx=dgx_version(io.read("/etc/dgx-release")),
    )


def parse_meminfo(text: str) -> dict[str, int]:
    """KiB under each name."""
    sizes = {}
    for name, value in labelled(text):
        size = number(value)
        if size is not None:
            sizes[name] = size
    return sizes


def gib(kib: int | None) -> float | None:
    return None if kib is None else round(kib / 1048576, 1)


def parse_lscpu(text: str) -> tuple[str, int | None]:
    """Model and threads; two core types give two models."""
    rows = labelled(text)
    models = [value for label, value in rows if label == "Model name" and value]
    threads = next((count(value) for label, value in rows if label == "CPU(s)"), None)
    return " + ".join(dict.fromkeys(models)), threads


def cpu(io: HostIo) -> tuple[str, int | None]:
    rows = labelled(io.read("/proc/cpuinfo"))
    named = next((value for label, value in rows if label == "model name"), "")
    threads = sum(label == "processor" for label, _value in rows)
    if named and threads:
        return named, threads
    model, counted = parse_lscpu(io.run(["lscpu"]).out)  # the kernel names no Arm processor
    return model, threads or counted


def parse_process_limits(text: str) -> dict[str, str]:
    """Hard limits of a process, and soft ones under `_soft`."""
    found = {}
    for line in text.splitlines():
        name = next((name for name in LIMITS if line.startswith(name)), "")
        cells = line[len(name) :].split()
        if name and len(cells) >= 2:
            found[LIMITS[name]] = cells[1]
            found[LIMITS[name] + "_soft"] = cells[0]
    return found


def parse_service_limits(text: str) -> dict[str, str]:
    """DefaultLimitX and DefaultLimitXSoft of `systemctl show`, named as above."""
    found = {}
    for name, soft, value in re.findall(r"^DefaultLimit([A-Z]+)(Soft)?=(\S+)[ \t]*$", text, re.MULTILINE):
        if name.lower() in LIMITS.values():
            found[name.lower() + ("_soft" if soft else "")] = value.replace("infinity", "unlimited")
    return found


def limits(io: HostIo) -> dict[str, str]:
    """What a service would get; process 1's own under `pid1_`."""
    of_init = parse_process_limits(io.read("/proc/1/limits"))
    properties = [f"--property=DefaultLimit{name.upper()}" for name in LIMITS.values()]
    properties += [option + "Soft" for option in properties]
    of_service = parse_service_limits(io.run(["systemctl", "show", *properties]).out)
    return {**of_init, **of_service, **{f"pid1_{name}": value for name, value in of_init.items()}}


def systemd(io: HostIo) -> int | None:
    found = re.match(r"systemd (\d{1,4})\b", io.run(["systemctl", "--version"]).out)
    return int(found.group(1)) if found else None


def pythons(io: HostIo, paths: list[str]) -> tuple[Python, ...]:
    """Interpreters in the usual places, and those that the user names (files or directories)."""
    places = [f"/usr/bin/{name}" for name in io.names("/usr/bin") if _PYTHON.fullmatch(name)]
    places += [f"/usr/local/bin/{name}" for name in io.names("/usr/local/bin") if _PYTHON.fullmatch(name)]
    places.append("/usr/bin/python3")
    for path in paths:
        inside = [f"{path}/{name}" for name in io.names(path) if _PYTHON.fullmatch(name)]
        places += inside or [path]
    found: dict[str, Python] = {}
    for place in places:
        if io.real(place) in found:
            continue
        ran = io.run([place, "-V"], timeout=_PYTHON_SECONDS)
        number_text = version(ran.out or ran.err) if ran.status == 0 else ""
        if number_text:
            found[io.real(place)] = Python(path=place, version=number_text)
    return tuple(found.values())


def memory(io: HostIo) -> dict[str, int | None]:
    sizes = parse_meminfo(io.read("/proc/meminfo"))
    return {"total": sizes.get("MemTotal"), "swap": sizes.get("SwapTotal")}


def kho_faults(io: HostIo) -> list[Fault]:
    """Memory that kexec handover reserved lies outside what the kernel counts as CMA: free exceeds total."""
    sizes = parse_meminfo(io.read("/proc/meminfo"))
    total, free = sizes.get("CmaTotal"), sizes.get("CmaFree")
    off = re.search(r"(?:^|\s)kho=(?:off|0|no|false|n)\b", io.read("/proc/cmdline"))
    if total is None or free is None or free <= total or off:
        return []
    reserved = gib(free - total)
    return [fault("kho-reservation", "memory", kernel=io.identity("osrelease"), gib=reserved)]
