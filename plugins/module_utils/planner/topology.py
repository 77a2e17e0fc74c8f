# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an instance is spread: which GPUs of which hosts, tensor and pipeline parallel sizes, ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..catalogue.entries import Model
from ..catalogue.sharding import division, parallel_problems, valid_tensor_parallel
from ..core.refusals import Refusal
from ..facts.schema import HostFacts
from .serve_spec import Instance


@dataclass(frozen=True)
class Parallel:
    tensor: int
    pipeline: int
    hosts: tuple[str, ...]
    gpus: Mapping[str, tuple[int, ...]]
    """Host -> GPU indexes; empty tuples on CPU."""
    why: str
    offered: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Host -> every GPU that the instance could have had."""

    @property
    def nodes(self) -> int:
        return len(self.hosts)

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline

    def idle(self, host: str) -> int:
        return len(self.offered.get(host, ())) - len(self.gpus.get(host, ()))


def allocate(
    instances: list[Instance], facts: Mapping[str, HostFacts], sizes: Mapping[str, int | None]
) -> tuple[dict[str, dict[str, tuple[int, ...]]], list[Refusal]]:
    """GPUs per instance and host. `sizes` says how many an instance takes on a host, None for all."""
    taken: dict[str, dict[int, str]] = {}
    chosen: dict[str, dict[str, tuple[int, ...]]] = {instance.name: {} for instance in instances}
    refusals: list[Refusal] = []
    # Who names GPUs goes first; the others share what is left.
    for instance in sorted(instances, key=lambda item: not item.gpus):
        for host in instance.hosts:
            known = facts.get(host)
            if known is None:
                continue
            present = tuple(gpu.index for gpu in known.gpus)
            used = taken.setdefault(host, {})
            if instance.gpus:
                refusals += _named_problems(instance, host, present, used)
                mine = tuple(index for index in instance.gpus if index in present)
            else:
                free = tuple(index for index in present if index not in used)
                count = sizes.get(instance.name)
                mine = free if count is None else _joined(known, free, count)
                refusals += _free_problems(instance, host, present, free, used, count)
            for index in mine:
                used.setdefault(index, instance.name)
            chosen[instance.name][host] = mine
    return chosen, refusals


def _joined(host: HostFacts, free: tuple[int, ...], count: int) -> tuple[int, ...]:
    """GPUs that NVLink joins, of the smallest island that has enough; else the first ones."""
    islands = [tuple(index for index in island if index in free) for island in host.nvlink.get("islands", ())]
    enough = sorted((island for island in islands if len(island) >= count), key=len)
    return enough[0][:count] if enough and count > 1 else free[:count]


def _named_problems(
    instance: Instance, host: str, present: tuple[int, ...], used: Mapping[int, str]
) -> list[Refusal]:
    refusals = []
    missing = [index for index in instance.gpus if index not in present]
    if missing:
        refusals.append(
            Refusal(
                "gpu-missing",
                host,
                instance.where("gpus", list(instance.gpus)),
                f"the host has no GPU {_list(missing)}; it has {_list(present) or 'none'}",
                "name GPUs that the host has, or leave gpus out",
            )
        )
    for index in instance.gpus:
        if index in used:
            refusals.append(
                Refusal(
                    "gpu-twice",
                    host,
                    instance.where("gpus", list(instance.gpus)),
                    f"GPU {index} already belongs to serve.{used[index]}",
                    f"give serve.{instance.name} GPUs that are free: "
                    f"{_list(gpu for gpu in present if gpu not in used) or 'none is'}",
                )
            )
    return refusals


def _free_problems(
    instance: Instance,
    host: str,
    present: tuple[int, ...],
    free: tuple[int, ...],
    used: Mapping[int, str],
    count: int | None,
) -> list[Refusal]:
    if not present or (free and (count is None or len(free) >= count)):
        return []
    if used:
        others = ", ".join(sorted({f"serve.{name}" for name in used.values()}))
        return [
            Refusal(
                "gpu-twice",
                host,
                instance.where("hosts", list(instance.hosts)),
                f"{count or 'all'} GPUs are wanted, {len(free)} of {len(present)} are left by {others}",
                "share them out with gpus: [...] or tensor_parallel: N in each instance",
            )
        ]
    return []


def _list(indexes: object) -> str:
    return ", ".join(str(index) for index in indexes)  # type: ignore[attr-defined]


def spread(
    instance: Instance,
    model: Model,
    device: str,
    gpus: Mapping[str, tuple[int, ...]],
    link: float | None = None,
    least: float = 0.0,
) -> tuple[Parallel | None, list[Refusal]]:
    """Parallel sizes over the hosts; asked for ones are checked, others derived.

    `link`: Gbit/s between the hosts, None where unknown; below `least` each host gets stages of its own.
    """
    nodes = len(instance.hosts)
    slots = [len(gpus.get(host, ())) for host in instance.hosts] if device == "cuda" else [1] * nodes
    if device == "cuda" and len(set(slots)) > 1:
        shown = ", ".join(f"{host} {count}" for host, count in zip(instance.hosts, slots))
        return None, [
            Refusal(
                "gpu-count-differs",
                "",
                instance.where("hosts", list(instance.hosts)),
                f"members must have the same number of GPUs: {shown}",
                f"name {min(slots)} GPUs of each with gpus: [...], or repair the host that lost one",
            )
        ]
    total = sum(slots)
    if total == 0:
        # Whoever looked for GPUs, or shared them out, has said why there is none.
        return None, []
    within = _stages_of_hosts(instance, model, total) if device == "cuda" and _slow(link, least) else None
    tensor, pipeline, why = within or _sizes(instance, model, total, device)
    if within:
        why += f"{link:.0f} Gbit/s between the hosts, {least:.0f} are needed for one tensor over them"
    elif nodes > 1 and link and why.startswith("all "):
        why += f", {link:.0f} Gbit/s between the hosts"
    parallel = Parallel(
        tensor=tensor,
        pipeline=pipeline,
        hosts=instance.hosts,
        gpus=_used(instance, gpus, tensor * pipeline, nodes),
        why=why,
        offered=gpus,
    )
    return parallel, _size_problems(instance, model, device, parallel, total)


def _sizes(instance: Instance, model: Model, total: int, device: str) -> tuple[int, int, str]:
    """Tensor and pipeline parallel sizes, and why."""
    nodes, stages = len(instance.hosts), instance.pipeline_parallel
    if instance.tensor_parallel is not None:
        return instance.tensor_parallel, stages or 1, "asked for"
    if stages is None:
        found = division(model.shape, total, nodes, model.quantization)
        tensor, stages = found or (total, 1)
    else:
        widths = valid_tensor_parallel(model.shape, total // stages, model.quantization)
        even = [width for width in widths if width * stages % nodes == 0]
        tensor = max(even or widths, default=1)
    if device == "cpu":
        return tensor, stages, "one rank a host"
    if tensor == total:
        return tensor, stages, f"all {total} GPUs"
    if instance.pipeline_parallel is None and stages > 1:
        return tensor, stages, f"{model.key} does not divide by {total}: {stages} pipeline stages"
    if tensor * stages == total:
        return tensor, stages, f"all {total} GPUs in {stages} pipeline stages"
    return tensor, stages, f"largest that divides the heads and expert widths of {model.key}"


def _slow(link: float | None, least: float) -> bool:
    return link is not None and link < least


def _stages_of_hosts(instance: Instance, model: Model, total: int) -> tuple[int, int, str] | None:
    """A pipeline stage for each host, so that only activations cross the slow link; None where that does not work."""
    nodes = len(instance.hosts)
    if nodes < 2 or instance.tensor_parallel is not None or instance.pipeline_parallel is not None:
        return None
    each = total // nodes
    if parallel_problems(model.shape, each, nodes, model.quantization):
        return None
    return each, nodes, f"a pipeline stage on each host and its {each} GPUs within: "


def _used(
    instance: Instance, gpus: Mapping[str, tuple[int, ...]], ranks: int, nodes: int
) -> dict[str, tuple[int, ...]]:
    each = max(ranks // nodes, 1)
    return {host: gpus.get(host, ())[:each] for host in instance.hosts}


def _size_problems(
    instance: Instance, model: Model, device: str, parallel: Parallel, total: int
) -> list[Refusal]:
    short = parallel.ranks > total and device == "cuda"
    uneven = parallel.nodes > 1 and parallel.ranks % parallel.nodes > 0
    problems = parallel_problems(model.shape, parallel.tensor, parallel.pipeline, model.quantization)
    if not (short or uneven or problems):
        # What would work instead is looked for only where something does not: that takes long with many hosts.
        return []
    refusals: list[Refusal] = []
    things = "GPUs" if device == "cuda" else "hosts (one rank each)"
    where = instance.where(
        "tensor_parallel" if instance.tensor_parallel else "hosts",
        None if instance.tensor_parallel else list(instance.hosts),
    )
    widths = valid_tensor_parallel(model.shape, total // parallel.pipeline, model.quantization)
    possible = [width for width in widths if width * parallel.pipeline % parallel.nodes == 0]
    if instance.pipeline_parallel and instance.tensor_parallel:
        fix = "leave pipeline_parallel and tensor_parallel out: the plan finds sizes that work"
    elif instance.tensor_parallel:
        few = f" (it divides by {', '.join(map(str, possible))})" if possible else ""
        fix = f"leave tensor_parallel out: the plan takes the most that works{few}"
    elif instance.pipeline_parallel:
        fix = "leave pipeline_parallel out: the plan finds sizes that work"
    else:
        each = total // parallel.nodes
        able = [
            count
            for count in range(1, parallel.nodes)
            if division(model.shape, each * count, count, model.quantization)
        ]
        fix = f"name {max(able, default=1)} of the hosts"
    if short:
        refusals.append(
            Refusal(
                "too-few-gpus",
                "" if parallel.nodes > 1 else instance.hosts[0],
                where,
                f"{parallel.ranks} ranks are asked for (tensor {parallel.tensor} x pipeline "
                f"{parallel.pipeline}), {total} {things} are there",
                f"{fix}, or add hosts",
            )
        )
    elif uneven:
        refusals.append(
            Refusal(
                "ranks-uneven",
                "",
                where,
                f"{parallel.ranks} ranks cannot be shared out evenly over {parallel.nodes} hosts",
                f"{fix}, or name another number of hosts",
            )
        )
    if problems:
        refusals.append(
            Refusal(
                "parallel-indivisible",
                "",
                where,
                f"tensor parallel {parallel.tensor} does not divide {model.key}: {'; '.join(problems)}",
                fix,
            )
        )
    return refusals
