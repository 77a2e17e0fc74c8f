# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What doctor and status see of a host. Reads, and changes nothing."""

from __future__ import annotations

import glob
import json
import os
import platform
import time
from dataclasses import asdict
from typing import Any

from ..core import run_lock_host as run_lock
from ..facts.host import HostIo
from ..facts.installed import parse_properties
from ..facts.nvidia_driver import parse_proc_version
from ..facts.nvidia_host import nvidia_facts
from ..facts.rdma import rdma_devices, rdma_faults
from ..gateway.certificates_host import end_of
from ..release import folder_host as folder
from ..release.host import Host
from ..release.members import Release
from ..runtime.maker_host import STAMP as ENVIRONMENT_STAMP
from ..runtime.record_host import changed_files
from ..service.files_host import printable, read_object
from ..service.serving_host import fetch, last_lines
from ..weights.folder_host import look, read_manifest
from ..weights.manifest import ManifestError
from .status import figures

# The engine's own health check gives up on a scheduler that hangs after 20 s.
TOKEN_SECONDS = 25
GPU_SECONDS = 20.0
PROPERTIES = (
    "ActiveState,SubState,Result,ExecMainStatus,NRestarts,StatusText,UnitFileState,NeedDaemonReload,"
    "ActiveEnterTimestamp,DropInPaths"
)
DRIVER = "/proc/driver/nvidia"
STATE, GATEWAY = "/var/lib/sglang", "/etc/sglang/gateway"
HEALTH = "/var/lib/sglang-health/verdict.json"
OURS = (
    "sglang-gateway.service", "sglang-prometheus.service", "sglang-node-exporter.service", "sglang-health.timer",
)  # fmt: skip


def units(host: Host) -> dict[str, Any]:
    """The instances of the current release alone, for a quick look."""
    release = folder.read(os.path.join(host.releases, host.current())) if host.current() else None
    seen = [_unit(host, release, name) for name in sorted(release.members)] if release else []
    return {"current": host.current(), "units": seen}


def status(host: Host) -> dict[str, Any]:
    """What is shown on one screen: instances with their figures, and of the host what will end."""
    return {
        **units(host),
        "disks": _disks((host.root, "/var/lib", "/var/cache")),
        "certificates": _certificates(host),
        "services": {
            unit: str(host.run(["systemctl", "is-active", unit])[1]).strip()
            for unit in OURS
            if os.path.exists(os.path.join(host.units, unit))
        },
        "warnings": warnings(host),
        "health": health(),
        "now": time.time(),
    }


def health(path: str = HEALTH) -> dict[str, Any]:
    """The verdict of the health watch; empty where there is none."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def warnings(host: Host) -> list[dict[str, str]]:
    """What the GPUs, their driver and the RDMA ports say against themselves now."""
    io = HostIo(host.run, timeout=GPU_SECONDS)
    try:
        faults = [*nvidia_facts(io, {}).faults, *rdma_faults(io, rdma_devices(io))]
    except Exception as error:  # what cannot be read here must not hide whether the instances serve
        return [{"subject": "GPUs", "what": f"could not be read: {type(error).__name__}: {error}", "fix": ""}]
    return [{"subject": item.subject, "what": item.what, "fix": item.fix} for item in faults]


def _certificates(host: Host) -> list[dict[str, Any]]:
    found = []
    for path in sorted(glob.glob(f"{GATEWAY}/tls/*.crt")):
        rc, out, _unused = host.run(["openssl", "x509", "-in", path, "-noout", "-enddate"])
        if not rc:
            left = (end_of(str(out)) - time.time()) / 86400
            found.append({"file": os.path.basename(path), "days_left": left})
    return found


def _figures(address: str, planned: dict[str, Any]) -> dict[str, float]:
    reply = fetch(address, planned["api"]["metrics"], TOKEN_SECONDS)
    return figures(reply.body, planned["metrics"]) if reply.good and isinstance(reply.body, str) else {}


def _record(name: str) -> dict[str, Any]:
    """What the launcher noted of its starts, and a group of itself; the service user can write both."""
    found: dict[str, Any] = {}
    for file in ("starts.json", "group.json"):
        try:
            found.update(read_object(f"{STATE}/{name}/{file}"))
        except (OSError, ValueError):
            continue
    generation = found.get("generation")
    return {
        "generation": generation if isinstance(generation, int) else 0,
        "last_reason": printable(found.get("reason", "")),
    }


def everything(host: Host) -> dict[str, Any]:
    release = folder.read(os.path.join(host.releases, host.current())) if host.current() else None
    seen = units(host)
    return {
        **seen,
        "root": host.root,
        "plan": release.plan if release else {},
        "record": asdict(host.record()),
        "files": _files(release) if release else [],
        "environments": _environments(host, release) if release else [],
        "weights": _weights(release) if release else [],
        "strangers": _strangers(host),
        "failed": _failed(host, {unit["unit"] for unit in seen["units"]}),
        "disks": _disks((host.root, "/var/lib", "/var/cache")),
        "driver": _driver(),
        "gpus": len(glob.glob(f"{DRIVER}/gpus/*")),
        "kernel": platform.release(),
        "health": health(),
        "lock": run_lock.holder_of(),
    }


def _unit(host: Host, release: Release, name: str) -> dict[str, Any]:
    member = release.members[name]
    _unused, out, _unused = host.run(["systemctl", "show", member.unit, f"--property={PROPERTIES}"])
    said = parse_properties(str(out))
    file = _text(os.path.join(host.units, member.unit))
    address = f"http://127.0.0.1:{member.port}"
    active = said.get("ActiveState", "")
    why = _why_not(address, member.rank, member.token) if active == "active" else ""
    serving = active == "active" and not why
    record, planned = _record(name), release.plan["instances"][name]
    return {
        "name": name,
        "unit": member.unit,
        "address": address,
        "file": "missing" if file is None else "same" if file == release.text_of(member.unit) else "edited",
        "drop_ins": [path for path in said.get("DropInPaths", "").split() if path.startswith(host.units)],
        "enabled": said.get("UnitFileState") == "enabled",
        "reload": said.get("NeedDaemonReload") == "yes",
        "active": "" if file is None and active == "inactive" else active,
        "sub": said.get("SubState", ""),
        "result": said.get("Result", ""),
        "exit_status": said.get("ExecMainStatus", ""),
        "restarts": int(said.get("NRestarts") or 0),
        "status": printable(said.get("StatusText", "")),
        "since": said.get("ActiveEnterTimestamp", ""),
        "serving": serving,
        "rank": member.rank,
        "members": int(planned.get("parallel", {}).get("nnodes", 1)),
        **record,
        "figures": _figures(address, planned) if serving and not member.rank else {},
        "why": why,
        "last": "" if serving else printable("".join(last_lines(host.run, member.unit)[-1:])),
    }


def _why_not(address: str, rank: int, path: str) -> str:
    """What keeps it from giving a token; a rank that takes no requests is judged by its unit."""
    if rank:
        return ""
    reply = fetch(address, path, TOKEN_SECONDS)
    if reply.good:
        return ""
    if reply.status:
        return f"{path} answers HTTP {reply.status}"
    return f"{address}{path}: {printable(reply.said or reply.failure)}"


def _files(release: Release) -> list[dict[str, str]]:
    try:
        said = json.loads(_text(os.path.join(release.folder, folder.STAMP)) or "{}")
    except ValueError:
        said = {}
    found = []
    for path, digest in said.get("files", {}).items():
        text = _text(os.path.join(release.folder, path))
        if text is None or folder.hashed(text) != digest:
            found.append(
                {"path": os.path.join(release.folder, path), "state": "gone" if text is None else "edited"}
            )
    for path, target in said.get("links", {}).items():
        link = os.path.join(release.folder, path)
        there = os.readlink(link) if os.path.islink(link) else None
        if there != target:
            found.append({"path": link, "state": "gone" if there is None else "changed"})
    return found


def _environments(host: Host, release: Release) -> list[dict[str, str]]:
    found = {}
    for name, instance in release.plan["instances"].items():
        path = folder.target(release, name, "env")
        found[path] = {"path": path, "id": instance["environment"]["id"], "problem": _environment(host, path)}
    return list(found.values())


def _environment(host: Host, path: str) -> str:
    python = os.path.join(path, "bin", "python")
    if not os.path.isdir(path):
        return "the environment is gone"
    if not os.path.isfile(os.path.join(path, ENVIRONMENT_STAMP)):
        return f"{ENVIRONMENT_STAMP} is gone: this environment is not whole"
    status, _unused, err = host.run([python, "-c", "pass"])
    if status:
        return f"{python} does not run: {str(err).strip()[-200:]}"
    changed = changed_files(path, ENVIRONMENT_STAMP)
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "; ".join(changed[:3]) + more


def _weights(release: Release) -> list[dict[str, Any]]:
    found = {}
    for instance in release.plan["instances"].values():
        path = instance["weights"]["path"]
        seen = look(path)
        try:
            manifest = read_manifest(path)[1]
        except (OSError, ManifestError):
            manifest = ""
        state = "absent" if not os.path.isdir(path) else seen["state"]
        found[path] = {
            "path": path,
            "state": state,
            "damage": [str(item) for item in seen["damage"]],
            "manifest": manifest,
        }
    return list(found.values())


def _strangers(host: Host) -> list[str]:
    """Units that start something out of our releases, and that no release on the host brought."""
    known = {
        member.unit for item in folder.listed(host.releases).values() for member in item.members.values()
    }
    files = glob.glob(os.path.join(host.units, "sglang-*.service"))
    return sorted(
        os.path.basename(path)
        for path in files
        if os.path.basename(path) not in known and f"{host.root}/current/" in (_text(path) or "")
    )


def _failed(host: Host, ours: set[str]) -> list[str]:
    _unused, out, _unused = host.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
    return sorted(
        line.split()[0] for line in str(out).splitlines() if line.strip() and line.split()[0] not in ours
    )


def _disks(paths: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for path in filter(os.path.isdir, paths):
        disk = os.statvfs(path)
        sizes = {
            "free_gib": disk.f_bavail * disk.f_frsize / 2**30,
            "total_gib": disk.f_blocks * disk.f_frsize / 2**30,
        }
        found.setdefault(os.stat(path).st_dev, {"path": path, **sizes})
    return list(found.values())


def _driver() -> str:
    return parse_proc_version(_text(f"{DRIVER}/version") or "")[0]


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return None
