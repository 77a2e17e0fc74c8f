# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an environment lies on a host, which Python and lock make it, and the variables of the unit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ..catalogue.entries import Variant
from ..facts.schema import HostFacts
from ..runtime.pixi_project import environment_name
from .case import Case, Inputs
from .fabric.plan import nccl_variables
from .fabric.ports import nic
from .fabric.spec import FabricSpec
from .network import Link
from .plan import EnvironmentVariable
from .service import compiled_folder
from .versions import minor

# What is laid out beside the packages of a lock; an environment made before it is another one.
CUDA_HOME_LAYOUT = "cuda-home 1"


def variant_name(variant: Variant) -> str:
    return f"{variant.cuda}-{variant.arch}"


def environment(inputs: Inputs, case: Case, host: HostFacts, python: str) -> dict[str, Any]:
    """The virtual environment: its identity changes exactly when its content would."""
    lock = case.variant.locks.get(python, "")
    content = case.data.lock_hashes.get(lock, "")
    identity = ""
    if content:
        made_of = (content, python, case.release.key, variant_name(case.variant))
        layout = [CUDA_HOME_LAYOUT] if case.component("nvcc") else []
        backend = ["pixi"] if inputs.runtime_backend == "pixi" else []
        text = "\n".join([*made_of, *layout, *backend])
        identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    directories = inputs.policy["directories"]
    own = next((item for item in host.python if minor(item.version) == python), None)
    return {
        "id": identity,
        "lock": lock,
        "lock_sha256": content,
        # Of the engine itself, where the user gives it: a bundle completes the lock with it.
        "wheel": dict(case.data.wheel),
        "python": python,
        "interpreter": own.path if own else f"{directories['pythons']}/{python}/bin/python3",
        "interpreter_from": "host" if own else "bundle",
        "backend": inputs.runtime_backend,
        "conda": _conda(inputs, case, python),
        "path": f"{directories['environments']}/{identity}" if identity else "",
        "arch": case.variant.arch,
        "cuda": case.variant.cuda,
        "glibc": case.variant.glibc,
        "index": case.variant.index,
        "download_bytes": case.variant.download_bytes,
        # What must be importable, and which versions must be there, before the environment is used.
        "imports": list(case.data.imports),
        "versions": {case.engine.distribution: case.release.version, **_pinned(inputs, case)},
        "bytes": case.variant.installed_bytes,
    }


def _conda(inputs: Inputs, case: Case, python: str) -> dict[str, Any]:
    """Which environment of the bundle's pixi.lock it is; empty where wheels make all of it."""
    if inputs.runtime_backend != "pixi":
        return {}
    digits = case.variant.cuda.replace("cu", "")
    return {
        "environment": environment_name(case.release.key, case.variant.cuda, python),
        "level": f"{digits[:2]}.{digits[2:]}",
        # The wheels of CUDA 13 bring their own compiler; two of them would be one too many.
        "compiler": not case.component("nvcc"),
    }


def _pinned(inputs: Inputs, case: Case) -> dict[str, str]:
    found = {name: case.component(name) for name in inputs.policy["checked_versions"]}
    return {name: version for name, version in found.items() if version}


def variables(
    inputs: Inputs,
    case: Case,
    host: HostFacts,
    link: Link,
    env: Mapping[str, Any],
    compiles: Mapping[str, Any],
    kernel_files: Mapping[str, Any],
) -> list[EnvironmentVariable]:
    """In the order in which later ones win: policy, hardware, release, fabric, the user."""
    policy = inputs.policy
    cache = compiled_folder(case, env)
    found: dict[str, EnvironmentVariable] = {}

    def put(name: str, value: str, why: str) -> None:
        found[name] = EnvironmentVariable(name, value, why)

    for name, below in {**case.data.cache_variables, **policy["cache_variables"]}.items():
        put(name, f"{cache}/{below}" if below else cache, "writes go below the instance's cache only")
    for name, value in policy["offline_variables"].items():
        put(name, str(value), "no look-up leaves the host")
    path = [f"{env['path']}/bin" if env["path"] else "", *policy["path"]]
    if compiles.get("cuda_home"):
        path.insert(1, f"{compiles['cuda_home']}/bin")
        for name in ("CUDA_HOME", "CUDA_PATH"):
            put(name, str(compiles["cuda_home"]), f"compiler: {compiles['source']}")
    if compiles.get("cuda_home") and compiles["source"] != "host":
        libraries = f"{compiles['cuda_home']}/lib64"
        put("LIBRARY_PATH", f"{libraries}:{libraries}/stubs", "where builds find -lcudart and -lcuda")
    put(
        "PATH",
        ":".join(item for item in path if item),
        "the environment first; nvidia-smi and ninja are found",
    )
    for name, value in case.hardware.environment.get(case.engine.name, {}).items():
        put(name, str(value), f"hardware {case.hardware.key}")
    for name, value in _device_variables(case).items():
        put(name, str(value), f"{case.release.key} on {case.device}")
    if case.device == "cuda" and case.parallel.gpus.get(host.host):
        shown = ",".join(map(str, case.parallel.gpus[host.host]))
        put("CUDA_VISIBLE_DEVICES", shown, "the GPUs of this instance")
        put("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "the same numbers as nvidia-smi")
    for name, value, why in fabric_variables(case, link):
        put(name, value, why)
    for name, value in _ptxas(case, env, compiles).items():
        put(name, value, f"the assembler in triton {case.component('triton')} does not know this GPU")
    for name, value, why in case.engine.variables(case, link, kernel_files):
        put(name, value, why)
    for name, value in case.instance.environment.items():
        put(name, value, f"serve.{case.instance.name}.environment")
    return [found[name] for name in sorted(found)]


def _device_variables(case: Case) -> Mapping[str, Any]:
    if case.device != "cpu":
        return {}
    given: Mapping[str, Any] = case.release.cpu.get("environment", {})
    several: Mapping[str, Any] = (
        case.release.cpu.get("environment_multi", {}) if case.parallel.nodes > 1 else {}
    )
    return {**given, **several}


def fabric_variables(case: Case, link: Link) -> list[tuple[str, str, str]]:
    """What keeps the ranks on the fabric, or on the loopback address where there is one host."""
    if case.parallel.nodes < 2:
        why = "one host: its ranks communicate over the loopback interface, no port is open to others"
        alone = [("GLOO_SOCKET_IFNAME", link.netdev, why)]
        return [*alone, ("NCCL_SOCKET_IFNAME", f"={link.netdev}", why)] if case.device == "cuda" else alone
    found = []
    if link.netdev:
        why = f"rendezvous and control over {link.netdev}, never another interface"
        found.append(("GLOO_SOCKET_IFNAME", link.netdev, why))
        if case.device == "cuda":
            found.append(("NCCL_SOCKET_IFNAME", f"={link.netdev}", why))
    if case.device != "cuda":
        return found
    for name, value in case.hardware.nccl.get("environment", {}).items():
        found.append((str(name), str(value), f"NCCL on {case.hardware.key}"))
    if link.devices:
        found.append(
            (
                "NCCL_IB_HCA",
                "=" + ",".join(link.devices),
                "these RDMA devices by exact name; no GID index is pinned",
            )
        )
        found.append(("NCCL_IB_DISABLE", "0", "RDMA is on, whatever files of the host say"))
        spec = case.inputs.fabric.get(case.head.host, FabricSpec())
        family = nic(case.inputs, case.head)
        found += nccl_variables(case.hardware, family, spec, link, case.inputs.policy["fabric"])
    return found


def _ptxas(case: Case, env: Mapping[str, Any], compiles: Mapping[str, Any]) -> dict[str, str]:
    """A newer assembler for Triton, where the one it brings is too old for the chip."""
    path = compiles.get("ptxas_path", "")
    return {"TRITON_PTXAS_PATH": str(path)} if path else {}
