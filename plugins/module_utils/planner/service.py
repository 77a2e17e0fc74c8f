# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the service of one instance starts, is watched and ends, and what it may touch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..core.device_nodes import ALL_GPUS, OF_EVERY_GPU
from ..facts.schema import HostFacts
from .arguments import dist_port
from .case import Case
from .fabric.plan import expected
from .network import Link
from .plan import plain
from .versions import version_key

# In the words of DeviceAllow=, as those of core.device_nodes.
OF_RDMA = ("char-infiniband_verbs", "/dev/infiniband/rdma_cm")


def compiled_folder(case: Case, environment: Mapping[str, Any]) -> str:
    """Where what the engine compiles is kept: code for one environment and one architecture of GPU."""
    cache = case.inputs.policy["directories"]["cache"]
    architecture = f"sm{case.capability.replace('.', '')}" if case.device == "cuda" else case.variant.arch
    return f"{cache}/{case.instance.name}/compiled/{environment['id'] or 'unnamed'}-{architecture}"


def service(
    case: Case,
    host: HostFacts,
    links: Mapping[str, Link],
    environment: Mapping[str, Any],
    kernel_files: Mapping[str, Any],
    weights: Mapping[str, Any],
    compiles: Mapping[str, Any],
) -> dict[str, Any]:
    policy = case.inputs.policy["engine"]
    return {
        "start": _start(policy["start"], int(weights["bytes"] or 0), bool(compiles.get("proofs"))),
        "watch": {**plain(policy["watch"]), "memory_floor_percent": _floor(case)},
        "oom_score_adjust": case.inputs.policy["memory"]["oom_score_adjust_unified"] if _shares(case) else 0,
        "drain_seconds": policy["stop"]["drain_seconds"],
        "margins": {part: policy[part]["margin_seconds"] for part in ("start", "stop")},
        "environment_files": list(case.instance.environment_files),
        "restart": plain(policy["restart"]),
        "checks": {
            **plain(policy["checks"]),
            **_driver(case, host),
            "gpus": [_gpu(host, index) for index in case.parallel.gpus.get(host.host, ())]
            if case.device == "cuda"
            else [],
            "fabric": expected(case.inputs, host, links[host.host]),
            "kernel_files": _kernel_files(kernel_files),
        },
        "logs": {
            **plain(policy["logs"][case.instance.engine]),
            "verdicts": [
                {key: str(item[key]) for key in ("says", "cause", "cure")}
                for item in (*case.data.log_verdicts, *case.inputs.log_verdicts)
            ],
        },
        "compiled": compiled_folder(case, environment),
        "compiled_keep": case.inputs.policy["keep"]["compiled"],
        "devices": _devices(case, host, links[host.host]),
        "addresses": sorted({link.address for link in links.values()} - {"127.0.0.1", ""}),
        "address_families": _families(links.values()),
        **({"group": group(case, host, links)} if case.parallel.nodes > 1 else {}),
    }


def _driver(case: Case, host: HostFacts) -> dict[str, Any]:
    """The driver that the plan saw, and the others that serve it as well: its branch, from the variant's floor on."""
    version = host.driver.version if host.driver and case.device == "cuda" else ""
    branch = version.partition(".")[0]
    if not branch.isdigit():
        return {"driver": version}
    floor = max(case.variant.driver, branch, key=version_key)
    return {"driver": version, "drivers": {"from": floor, "below": str(int(branch) + 1)}}


def _kernel_files(planned: Mapping[str, Any]) -> list[str]:
    files = planned.get("tree", {}).get("files", ())
    return [f"{planned['directory']}/{entry['path']}" for entry in files]


def group(case: Case, host: HostFacts, links: Mapping[str, Link]) -> dict[str, Any]:
    """Who the members are, in the order of ranks, and how their agents meet."""
    policy, ports = case.inputs.policy["engine"]["group"], case.inputs.policy["ports"]
    hosts = case.parallel.hosts
    members = [{"host": name, "address": links[name].address} for name in hosts]
    rank, head = hosts.index(host.host), members[0]["address"]
    meet = case.instance.port + int(ports["group_offset"])
    return {
        "id": hashlib.sha256(json.dumps([case.instance.name, members]).encode()).hexdigest()[:16],
        "members": members,
        "rank": rank,
        "channel_port": case.instance.port + int(ports["members_offset"]),
        "ports": [meet, dist_port(case)],
        "secret": f"{case.inputs.policy['directories']['configuration']}/groups/{case.instance.name}.key",
        "torchrun": _torchrun(case, policy, rank, head, members[rank]["address"], meet),
        **{
            key: policy[key]
            for key in ("lost_seconds", "watchdog_seconds", "blame_seconds", "wait_seconds", "skew_seconds",
                        "start_burst", "start_interval")
        },
    }  # fmt: skip


def _torchrun(case: Case, policy: Mapping[str, Any], rank: int, head: str, own: str, port: int) -> list[str]:
    """One launcher a host; what fails is never started again by torchrun, but by systemd, on all hosts."""
    endpoint = f"[{head}]:{port}" if ":" in head else f"{head}:{port}"
    settings = {
        "is_host": int(rank == 0),
        "join_timeout": policy["join_seconds"],
        "last_call_timeout": policy["last_call_seconds"],
        "keep_alive_interval": policy["keep_alive_seconds"],
        "keep_alive_max_attempt": policy["keep_alive_attempts"],
        "read_timeout": policy["join_seconds"],
    }
    return [
        *("--nnodes", str(case.parallel.nodes), "--nproc-per-node", "1", "--max-restarts", "0"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--local-addr", own),
        *("--rdzv-id", f"{case.instance.name}-{{generation}}"),
        *("--rdzv-conf", ",".join(f"{key}={value}" for key, value in settings.items())),
        *("--monitor-interval", str(policy["monitor_seconds"])),
    ]


def _shares(case: Case) -> bool:
    """GPU and CPU live off one memory: who runs out of it takes the host along."""
    return case.device == "cuda" and case.hardware.unified_memory


def _floor(case: Case) -> float:
    return float(case.inputs.policy["memory"]["floor_percent_unified"]) if _shares(case) else 0.0


def _start(policy: Mapping[str, Any], size: int, compiling: bool) -> dict[str, int]:
    seconds = policy["base_seconds"] + size // policy["bytes_per_second"]
    seconds += policy["compile_seconds"] if compiling else 0
    return {
        "seconds": seconds,
        "stall_seconds": policy["stall_seconds"],
        "most_seconds": seconds * policy["most_times"],
    }


def _gpu(host: HostFacts, index: int) -> dict[str, Any]:
    found = next((gpu for gpu in host.gpus if gpu.index == index), None)
    return {"index": index, "product": found.product if found else ""}


def _devices(case: Case, host: HostFacts, link: Link) -> list[str]:
    """The instance's own GPUs where the driver's numbers are known, else all that the driver has."""
    if case.device != "cuda":
        return []
    mine = case.parallel.gpus.get(host.host, ())
    minors = {gpu.index: gpu.minor for gpu in host.gpus}
    known = [minors.get(index) for index in mine]
    nodes = [f"/dev/nvidia{minor}" for minor in known if minor is not None]
    if len(nodes) != len(mine) or not nodes:
        nodes = list(ALL_GPUS)
    return [*OF_EVERY_GPU, *nodes, *(OF_RDMA if link.devices else ())]


def _families(links: Any) -> list[str]:
    """What the ranks communicate over; netlink is how they look at the host's interfaces."""
    six = any(":" in link.address for link in links)
    return ["AF_UNIX", "AF_INET", *(["AF_INET6"] if six else []), "AF_NETLINK"]
