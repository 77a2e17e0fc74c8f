# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last look before the engine starts: is this still the host that the plan was made for, and free?"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from typing import Any

import decisions
import fabric
from decisions import Problem

NVIDIA_VERSION = "/proc/driver/nvidia/version"
MANIFEST, STAMP = ".weights.json", ".published.json"
SMI_SECONDS = 30
UVM = "/dev/nvidia-uvm"


def problems(launch: dict[str, Any]) -> list[Problem]:
    """All of them, so that one look shows everything."""
    checks = launch["checks"]
    return [
        *program(launch["argv"][0]),
        *driver(checks["driver"], checks.get("drivers")),
        *gpus(checks["gpus"], checks["gpu_used_mib"], launch["environment"].get("PATH", "")),
        *weights(launch["weights"]),
        *kernel_files(checks["kernel_files"]),
        *network(checks.get("fabric", {})),
        *port(launch["address"], launch["port"]),
        *space(launch["writable"], checks["free_bytes"]),
    ]


def program(path: str) -> list[Problem]:
    if os.access(path, os.X_OK):
        return []
    return [Problem(f"there is no {path}: run site.yml --tags runtime")]


def notes(launch: dict[str, Any]) -> list[str]:
    """What is not as planned and keeps nothing from serving."""
    loaded = decisions.driver_version(_text(NVIDIA_VERSION))
    return [note for note in (decisions.driver_note(launch["checks"]["driver"], loaded),) if note]


def driver(planned: str, drivers: dict[str, str] | None = None) -> list[Problem]:
    if not planned:
        return []
    found = decisions.driver_problem(planned, decisions.driver_version(_text(NVIDIA_VERSION)), drivers)
    if not found and not os.path.exists(UVM):
        found.append(
            Problem(f"there is no {UVM}: systemctl start gpu-device-nodes makes it, its log says why not")
        )
    return found


def gpus(planned: list[dict[str, Any]], used_mib: int, path: str = "") -> list[Problem]:
    """`path`: the planned PATH; systemd's own, which the launcher has, lacks folders of some drivers."""
    if not planned:
        return []
    program = shutil.which("nvidia-smi", path=path or None)
    if program is None:
        places = path or os.environ.get("PATH", "")
        return [Problem(f"there is no nvidia-smi in {places}: install the driver's tools, or link it there")]
    try:
        listed = _smi(program, "--query-gpu=index,uuid,name,memory.used")
        apps = _smi(program, "--query-compute-apps=gpu_uuid,pid")
    except subprocess.TimeoutExpired:
        return [Problem(f"nvidia-smi does not answer within {SMI_SECONDS} s: look at dmesg, reboot")]
    except subprocess.CalledProcessError as error:
        return [Problem(f"nvidia-smi fails: {decisions.one_line(error.output or '', 200)}")]
    return decisions.gpu_problems(planned, listed, apps, [], used_mib)


def _smi(program: str, query: str) -> str:
    return subprocess.run(
        [program, query, "--format=csv,noheader,nounits"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SMI_SECONDS,
        check=True,
    ).stdout


def weights(folder: str) -> list[Problem]:
    """Presence, size and time of every file against the manifest; nothing is read but that."""
    if not os.path.isdir(folder):
        return [Problem(f"there are no weights in {folder}: run site.yml --tags weights")]
    try:
        manifest = json.loads(_text(os.path.join(folder, MANIFEST)) or "{}")
        times = json.loads(_text(os.path.join(folder, STAMP)) or "{}").get("times", {})
    except ValueError as error:
        return [
            Problem(f"weights in {folder}: their manifest is damaged ({error}): run site.yml --tags weights")
        ]
    if not manifest:
        # A folder of the user's own.
        names = [name for name in sorted(os.listdir(folder)) if name.endswith((".safetensors", ".json"))]
        manifest = {"files": [{"path": name, "size": _size(folder, name)} for name in names]}
        if "config.json" not in names:
            return [Problem(f"there is no config.json in {folder}: this is no model")]
    found = {entry["path"]: _look(os.path.join(folder, entry["path"])) for entry in manifest["files"]}
    return decisions.weights_problems(folder, manifest, times, found)


def _size(folder: str, name: str) -> int:
    try:
        return os.stat(os.path.join(folder, name)).st_size
    except OSError:
        return 0


def _look(path: str) -> Any:
    """The first byte is read: a file that the disk cannot give, or that is not ours to read, shows so."""
    try:
        with open(path, "rb", buffering=0) as stream:
            stream.read(1)
            found = os.fstat(stream.fileno())
        return found.st_size, found.st_mtime_ns
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def kernel_files(paths: list[str]) -> list[Problem]:
    return [
        Problem(f"the kernel file {path} is missing: run site.yml --tags engine")
        for path in paths
        if not os.path.isfile(path)
    ]


def network(planned: dict[str, Any]) -> list[Problem]:
    """A degraded fabric is no reason to wait for ever; one that comes up late, after a boot, is waited for."""
    if planned.get("sockets"):
        return []
    return [Problem(line, passing=True) for line in fabric.problems(planned)]


def port(address: str, number: int) -> list[Problem]:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, number))
        except OSError as error:
            what = f"port {number} on {address} is taken by another program ({error.strerror})"
            return [Problem(f"{what}: ss -ltnp 'sport = :{number}' names it", passing=True)]
    return []


def space(folders: list[str], needed: int) -> list[Problem]:
    found = []
    for folder in folders:
        usable = os.access(folder, os.W_OK | os.X_OK)
        found += decisions.space_problem(folder, shutil.disk_usage(folder).free if usable else None, needed)
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
