# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the facts of a host rule out, before any release is looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from ..catalogue.entries import Hardware
from ..catalogue.hardware import entry_to_add, key_of
from ..core.refusals import Advice, Refusal, closest
from ..facts.schema import Fault, Gpu, HostFacts
from .case import Inputs
from .plan import InstancePlan
from .serve_spec import Instance

Findings = tuple[list[Refusal], list[Advice]]


def device_of(instance: Instance, hosts: Iterable[HostFacts], policy: Mapping[str, Any]) -> str:
    """cuda where any member has a GPU, or should have one; else cpu; unless the user says."""
    if instance.device:
        return instance.device
    return "cuda" if any(host.gpus or has_gpu_fault(host, policy) for host in hosts) else "cpu"


def has_gpu_fault(host: HostFacts, policy: Mapping[str, Any]) -> bool:
    """A host whose GPUs cannot be seen is a broken GPU host, not a CPU host."""
    return any(fault.code.startswith(tuple(policy["fault_prefixes_of_gpus"])) for fault in host.faults)


def faults(host: HostFacts, device: str, policy: Mapping[str, Any], members: int = 1) -> Findings:
    severities = policy["faults"]
    gpu_words = tuple(policy["fault_prefixes_of_gpus"])
    refusals: list[Refusal] = []
    advice: dict[tuple[str, str, str], list[str]] = {}
    for fault in host.faults:
        severity = severities.get(fault.code, "refuse")
        if device == "cpu" and fault.code.startswith(gpu_words):
            continue
        if severity == "refuse" or (severity == "refuse-group" and members > 1):
            refusals.append(_fault_refusal(host, fault))
        elif severity != "ignore":
            advice.setdefault((fault.code, fault.what, _of_any(fault)), []).append(fault.subject)
    return refusals, [
        Advice(f"fault-{code}", host.host, _subjects(subjects), f"{what}; {fix}")
        for (code, what, fix), subjects in advice.items()
    ]


def _of_any(fault: Fault) -> str:
    """The cure, the same words for each of eight GPUs."""
    kind, _space, number = fault.subject.partition(" ")
    return fault.fix.replace(f"-i {number}", "-i N") if kind == "GPU" and number.isdigit() else fault.fix


def _subjects(subjects: list[str]) -> str:
    """`GPU 0, 1, 2` for three of a kind."""
    kinds = {subject.partition(" ")[0] for subject in subjects}
    if len(subjects) > 1 and len(kinds) == 1:
        return f"{kinds.pop()} {', '.join(subject.partition(' ')[2] for subject in subjects)}"
    return ", ".join(subjects)


def _fault_refusal(host: HostFacts, fault: Fault) -> Refusal:
    return Refusal("host-fault", host.host, f"{fault.subject} ({fault.code})", fault.what, fault.fix)


def hardware_of(
    host: HostFacts, device: str, gpus: Iterable[Gpu], catalogue: Mapping[str, Hardware], instance: Instance
) -> tuple[Hardware | None, list[Refusal]]:
    """The catalogue entry of the host's GPUs, or of its CPU."""
    if device == "cpu":
        return catalogue.get("cpu"), [] if "cpu" in catalogue else [_no_cpu_entry(host)]
    chosen = list(gpus)
    if not chosen and host.gpus:
        # Who shared them out has said why none is left.
        return None, []
    if not chosen:
        return None, [
            Refusal(
                "no-gpu",
                host.host,
                instance.where("device", instance.device or "cuda"),
                "the host has no NVIDIA GPU",
                "use device: cpu for a small model, or name hosts that have GPUs",
            )
        ]
    refusals = [_unknown_gpu(host, gpu, catalogue) for gpu in _distinct(chosen) if gpu.model not in catalogue]
    models = sorted({gpu.model for gpu in chosen})
    if len(models) > 1:
        shown = ", ".join(f"{gpu.index}: {gpu.product}" for gpu in chosen)
        refusals.append(
            Refusal(
                "mixed-gpus",
                host.host,
                instance.where("hosts", list(instance.hosts)),
                f"one instance cannot use different GPUs together ({shown})",
                f"name GPUs of one kind with serve.{instance.name}.gpus",
            )
        )
    if refusals:
        return None, refusals
    return catalogue[models[0]], []


def _no_cpu_entry(host: HostFacts) -> Refusal:
    return Refusal(
        "unknown-gpu",
        host.host,
        "files/hardware/cpu.yml",
        "the hardware catalogue has no entry `cpu`",
        "restore files/hardware/cpu.yml of the collection",
    )


def _distinct(gpus: list[Gpu]) -> list[Gpu]:
    return list({gpu.product: gpu for gpu in gpus}.values())


def _unknown_gpu(host: HostFacts, gpu: Gpu, catalogue: Mapping[str, Hardware]) -> Refusal:
    products = [product for entry in catalogue.values() for product in entry.products]
    near = closest(gpu.product, products)
    hint = f" (closest known: {near[0]})" if near else ""
    return Refusal(
        "unknown-gpu",
        host.host,
        f"GPU {gpu.index} = {gpu.product or 'unnamed'}",
        f"this GPU is in no hardware catalogue{hint}",
        f"put this into hardware/{key_of(gpu.product)}.yml below one of catalogue_dirs:\n"
        + textwrap.indent(entry_to_add(gpu, catalogue), "    ").rstrip(),
    )


def _needs_manager(host: HostFacts, gpus: list[Gpu], hardware: Hardware) -> bool:
    """Who has NVSwitches sets them up; a guest whose GPUs are linked by its host only sees that it is done."""
    if gpus and all(gpu.fabric_state == "Completed" for gpu in gpus):
        return False
    if host.nvswitches is not None:
        return host.nvswitches > 0
    return bool(hardware.interconnect.get("fabric_manager"))


def _odd_gpus(
    host: HostFacts, gpus: list[Gpu], hardware: Hardware, policy: Mapping[str, Any]
) -> list[Refusal]:
    """Numbers that do not belong to the product: a slice, a share, or damage."""
    if host.source != "gathered":
        return []
    refusals = []
    for gpu in gpus:
        where = f"GPU {gpu.index} = {gpu.product}"
        usual = hardware.memory_mib
        share = gpu.memory_mib / usual if gpu.memory_mib and usual and not hardware.unified_memory else 1.0
        if share < policy["gpu_memory"]["least"]:
            refusals.append(
                Refusal(
                    "gpu-memory-small",
                    host.host,
                    where,
                    f"it has {gpu.memory_mib} MiB, this product has {usual}: a MIG slice, a virtual GPU, or a layer "
                    "that shares the GPU out",
                    "give the host the whole GPU (MIG off, PCI passthrough, no sharing layer), or name another host",
                )
            )
        elif share > policy["gpu_memory"]["most"]:
            refusals.append(
                Refusal(
                    "gpu-memory-large",
                    host.host,
                    where,
                    f"it has {gpu.memory_mib} MiB, this product has {usual}: another variant, or a damaged answer",
                    f"gather again; write an entry of its own for the variant below one of catalogue_dirs (see "
                    f"files/hardware/{hardware.key}.yml)",
                )
            )
        if gpu.unified_memory and not hardware.unified_memory:
            refusals.append(
                Refusal(
                    "gpu-memory-unlike",
                    host.host,
                    where,
                    f"it reports no memory of its own, this product has {usual} MiB",
                    "gather again; `nvidia-smi -q -d MEMORY` on the host has to name its memory",
                )
            )
        unlike = gpu.compute_capability and hardware.compute_capability
        if unlike and gpu.compute_capability != hardware.compute_capability:
            refusals.append(
                Refusal(
                    "gpu-capability-differs",
                    host.host,
                    where,
                    f"it says compute capability {gpu.compute_capability}, this product has "
                    f"{hardware.compute_capability}: a damaged answer, or a wrong entry of the catalogue",
                    f"gather again; then correct compute_capability of hardware/{hardware.key}.yml",
                )
            )
    return refusals


def gpu_state(
    host: HostFacts, gpus: Iterable[Gpu], hardware: Hardware, policy: Mapping[str, Any]
) -> list[Refusal]:
    """MIG, the fabric manager and odd numbers, where no fault said it already."""
    chosen = list(gpus)
    codes = {fault.code for fault in host.faults}
    refusals = [] if "gpu-virtual" in codes else _odd_gpus(host, chosen, hardware, policy)
    sliced = [gpu.index for gpu in chosen if gpu.mig_enabled]
    if sliced and not codes & {"gpu-mig-enabled", "gpu-mig-pending"}:
        refusals.append(
            Refusal(
                "mig-enabled",
                host.host,
                f"GPU {', '.join(map(str, sliced))}",
                "MIG mode is on: the GPU is cut into slices that cannot work together",
                f"nvidia-smi -i {','.join(map(str, sliced))} -mig 0, then restart the host",
            )
        )
    if (
        _needs_manager(host, chosen, hardware)
        and host.fabric_manager in ("stopped", "absent")
        and not codes & {"fabric-manager-down", "fabric-not-ready"}
    ):
        refusals.append(
            Refusal(
                "fabric-manager",
                host.host,
                f"fabric_manager = {host.fabric_manager}",
                "these GPUs communicate over NVSwitch: without the fabric manager CUDA fails with error 802",
                "install nvidia-fabricmanager of the driver's exact version, enable and start it",
            )
        )
    return refusals


def alike(instance: Instance, hosts: tuple[HostFacts, ...]) -> list[Refusal]:
    """Members of one instance run one binary in step: they must not differ."""
    if len(hosts) < 2:
        return []
    refusals = []
    questions = (
        ("architecture", "members-differ", lambda host: host.arch),
        (
            "GPU",
            "members-differ",
            lambda host: ", ".join(sorted({gpu.product for gpu in host.gpus})) or "none",
        ),
        ("driver", "members-differ", lambda host: host.driver.version if host.driver else "none"),
        ("GPU memory", "members-differ", _memory_words),
    )
    for what, code, question in questions:
        answers = {host.host: question(host) for host in hosts}
        if len(set(answers.values())) > 1:
            shown = "; ".join(f"{name} {answer}" for name, answer in answers.items())
            common = max(answers.values(), key=list(answers.values()).count)
            odd = [name for name, answer in answers.items() if answer != common]
            refusals.append(
                Refusal(
                    code,
                    "",
                    instance.where("hosts", list(instance.hosts)),
                    f"the {what} differs: {shown}",
                    f"bring {', '.join(odd)} to {common}, or take it out of the instance",
                )
            )
    return refusals


def _memory_words(host: HostFacts) -> str:
    sizes = sorted({gpu.memory_mib for gpu in host.gpus if gpu.memory_mib is not None})
    if not sizes and any(gpu.unified_memory for gpu in host.gpus) and host.memory_gib:
        return f"{round(host.memory_gib)} GiB"
    return ", ".join(f"{size} MiB" for size in sizes) or "none"


def disk_problems(host: HostFacts, needed: Mapping[str, tuple[int, str]]) -> list[Refusal]:
    """`needed` maps a directory to the bytes that will come below it, and what they are."""
    free: dict[str, float] = {}
    wanted: dict[str, tuple[int, list[str], str]] = {}
    for directory, (size, what) in needed.items():
        disk = next(
            (
                item
                for item in sorted(host.disks, key=lambda item: len(item.path), reverse=True)
                if directory == item.path or directory.startswith(item.path.rstrip("/") + "/")
            ),
            None,
        )
        if disk is None or size <= 0:
            continue
        free[disk.mount] = disk.free_gib
        total, names, _path = wanted.get(disk.mount, (0, [], ""))
        wanted[disk.mount] = (total + size, [*names, what], directory)
    return [
        Refusal(
            "disk-full",
            host.host,
            f"{directory} on {mount}",
            f"{size / 2**30:.0f} GiB are needed ({', '.join(names)}), {free[mount]:.0f} GiB are free",
            f"free {size / 2**30 - free[mount]:.0f} GiB below {mount}, or mount a larger disk at {directory}",
        )
        for mount, (size, names, directory) in wanted.items()
        if size / 2**30 > free[mount]
    ]


def _ours(host: HostFacts, taken: Mapping[str, Any]) -> bool:
    """Whether one of our units holds the port; who may not see owners believes the unit's own word."""
    for entry in host.installed.get("instances", ()):
        if not isinstance(entry, Mapping):
            continue
        if taken.get("port") in entry.get("ports", ()):
            return True
        unknown = not taken.get("pid") or "ports" not in entry
        if unknown and taken.get("port") == entry.get("port") and entry.get("state", "active") == "active":
            return True
    return False


def port_clashes(made: Mapping[str, Mapping[str, InstancePlan]]) -> list[Refusal]:
    """Ports that follow from others (rendezvous, group) and meet those of another instance on the host."""
    refusals = []
    for host, plans in made.items():
        taken: dict[int, tuple[str, str]] = {}
        for name, plan in plans.items():
            for port in plan.ports:
                if port.purpose in ("group", "members") and plan.parallel["node_rank"]:
                    continue
                other, purpose = taken.setdefault(port.port, (name, port.purpose))
                both_said = {purpose, port.purpose} <= {"api", "health"} and other != name
                if (other, purpose) == (name, port.purpose) or both_said:
                    continue
                refusals.append(
                    Refusal(
                        "port-clash",
                        host,
                        f"serve.{name} {port.purpose} port {port.port}",
                        f"it is the {purpose} port of serve.{other} too",
                        f"give serve.{name} another {'port' if port.purpose != 'rendezvous' else 'dist_port'}",
                    )
                )
    return refusals


def elsewhere(inputs: Inputs, host: str) -> list[Refusal]:
    """A host that serves in a group which this inventory knows nothing of: to take it away would end that group."""
    known = inputs.hosts or tuple(inputs.facts)
    refusals = []
    for name, instance in (inputs.before.get(host) or {}).get("instances", {}).items():
        parallel = instance.get("parallel", {})
        members = list(parallel.get("hosts", ()))
        if int(parallel.get("nnodes", 1)) > 1 and members and members[0] not in known:
            refusals.append(
                Refusal(
                    "member-elsewhere",
                    host,
                    f"the plan that {host} has: {name} on {', '.join(members)}",
                    f"the host is a member of another group, whose first host {members[0]} is not in this inventory",
                    f"take {host} out of that group with its own inventory, or run playbooks/remove.yml --limit {host}",
                )
            )
    return refusals


def port_problems(host: HostFacts, instance: Instance, ports: Mapping[int, str]) -> list[Refusal]:
    """A port that something else listens on; our own instances may hold theirs."""
    refusals = []
    for taken in host.listening:
        port = taken.get("port")
        if not isinstance(port, int) or port not in ports or _ours(host, taken):
            continue
        refusals.append(
            Refusal(
                "port-taken",
                host.host,
                f"serve.{instance.name} {ports[port]} port {port}",
                f"{taken.get('process') or 'another program'} listens there already",
                f"stop it, or give serve.{instance.name} another port",
            )
        )
    return refusals
