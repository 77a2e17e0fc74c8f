# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the GPUs: NCCL, RDMA devices, and components known to be bad."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...core.refusals import Advice, Refusal
from ..case import Case
from ..versions import at_least, served, version_key
from .registry import Finding, Rule

NCCL_RISK = "gb10-nccl-known-bad"


def nccl_floor(case: Case) -> Iterator[Finding]:
    if case.device != "cuda" or case.parallel.nodes < 2 or case.accepts(NCCL_RISK):
        return
    version, floor = case.component("nccl"), str(case.hardware.nccl.get("floor", ""))
    bad = [str(item) for item in case.hardware.nccl.get("known_bad", ())]
    if version and (version in bad or not at_least(version, floor)):
        yield Refusal(
            "nccl-known-bad",
            case.head.host,
            f"release {case.release.key} (NCCL {version})",
            f"on {case.hardware.key} this NCCL stops for ever after some minutes of work over several hosts; "
            f"{floor or 'another version'} does not",
            f"leave the release to the plan, or accept: [{NCCL_RISK}]",
        )


def hca_names(case: Case) -> Iterator[Finding]:
    wanted = case.instance.environment.get("NCCL_IB_HCA", "")
    names = [part.partition(":")[0] for part in wanted.lstrip("=^").split(",") if part]
    for host in case.hosts:
        present = [device.name for device in host.rdma]
        wrong = [name for name in names if present and not any(item.startswith(name) for item in present)]
        if wrong:
            yield Refusal(
                "hca-unknown",
                host.host,
                f"serve.{case.instance.name}.environment.NCCL_IB_HCA = {wanted}",
                f"the host has no RDMA device {', '.join(wrong)}: NCCL would fall back to sockets without a word",
                f"remove it (the plan names {', '.join(present)})",
            )


def pinned_gid(case: Case) -> Iterator[Finding]:
    value = case.instance.environment.get("NCCL_IB_GID_INDEX")
    if value is not None:
        yield Advice(
            "gid-pinned",
            case.head.host,
            f"serve.{case.instance.name}.environment.NCCL_IB_GID_INDEX = {value}",
            "GID indexes move when an address changes: a pinned one ends in time-outs days later",
        )


def no_rdma(case: Case) -> Iterator[Finding]:
    if case.device != "cuda" or case.parallel.nodes < 2:
        return
    for host in case.hosts:
        if not any(device.state.lower() in ("", "active") for device in host.rdma):
            yield Advice(
                "no-rdma",
                host.host,
                f"serve.{case.instance.name}.hosts",
                "no active RDMA device is known: the ranks communicate over sockets, many times slower",
            )


def nvlink_islands(case: Case) -> Iterator[Finding]:
    """NVLink that joins some GPUs only: tensor parallel over the gap goes over PCIe."""
    if case.device != "cuda" or case.parallel.tensor < 2:
        return
    for host in case.hosts:
        mine = set(case.parallel.gpus.get(host.host, ()))
        islands = [set(island) for island in host.nvlink.get("islands", ())]
        if host.nvlink.get("full") is not False or len(mine) < 2 or any(mine <= island for island in islands):
            continue
        joined = ", ".join(str(sorted(island)) for island in islands if len(island) > 1) or "none"
        yield Advice(
            "nvlink-islands",
            host.host,
            f"serve.{case.instance.name}.gpus = {sorted(mine)}",
            f"NVLink joins only {joined}: their all-reduce goes over PCIe; where the model fits, take GPUs that "
            "NVLink joins, or tensor_parallel inside and pipeline_parallel between them",
        )


def dgx_levels(case: Case) -> Iterator[Finding]:
    levels = {host.host: host.os.dgx for host in case.hosts if host.os.dgx}
    if len(set(levels.values())) > 1:
        said = ", ".join(f"{host} {level}" for host, level in sorted(levels.items()))
        yield Advice(
            "dgx-level-differs",
            case.head.host,
            f"serve.{case.instance.name}.hosts",
            f"the hosts have different levels of DGX OS ({said}): finish the system update on all of them, since "
            "firmware, kernel and driver come with it",
        )


def known_faults(case: Case) -> Iterator[tuple[Mapping[str, Any], str, str]]:
    """Entries of known_bad that hold for the case, with the component and its version."""
    for entry in case.release.known_bad:
        component = str(entry.get("component", ""))
        version, versions = case.component(component), str(entry.get("versions", ""))
        if versions and not (version and matches(version, versions)):
            continue
        if applies(case, entry.get("when", {})):
            yield entry, component, version


def known_bad(case: Case) -> Iterator[Finding]:
    for entry, component, version in known_faults(case):
        what, fix = str(entry.get("what", "")), str(entry.get("fix", ""))
        where = f"release {case.release.key} ({component} {version})".replace(" )", ")")
        if entry.get("severity") == "refuse":
            yield Refusal("component-known-bad", case.head.host, where, what, fix)
        else:
            yield Advice("component-known-bad", case.head.host, where, f"{what}; {fix}" if fix else what)


def matches(version: str, condition: str) -> bool:
    """`<2.29.3`, `==9.10.2.21`, `>=2,<3` ...; an empty condition matches everything."""
    tests = {
        "<": lambda mine, other: mine < other,
        "<=": lambda mine, other: mine <= other,
        ">": lambda mine, other: mine > other,
        ">=": lambda mine, other: mine >= other,
        "==": lambda mine, other: mine == other,
        "!=": lambda mine, other: mine != other,
    }
    for part in condition.split(","):
        found = re.match(r"\s*(<=|>=|==|!=|<|>)?\s*(.+)", part)
        if found and not tests[found[1] or "=="](version_key(version), version_key(found[2].strip())):
            return False
    return True


def applies(case: Case, when: Any) -> bool:
    """Conditions on the case, all of which must hold."""
    if not isinstance(when, Mapping):
        return True
    facts: dict[str, Any] = {
        "arch": case.variant.arch,
        "cuda": case.variant.cuda,
        "device": case.device,
        "hardware": case.hardware.key,
        "nodes": "several" if case.parallel.nodes > 1 else "one",
        "model": case.model.key,
        "architecture": case.model.shape.architecture,
        "weight_dtype": case.model.quantization.weight_dtype,
    }
    for key, wanted in when.items():
        values = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        if key == "compute_capability":
            if not served(case.capability, [str(value) for value in values]):
                return False
        elif key in facts and facts[key] not in values:
            return False
    return True


RULES = (
    Rule("nccl-known-bad", "Some versions deadlock on this processor.", nccl_floor, of_release=True),
    Rule("hca-unknown", "A wrong name means sockets, silently.", hca_names),
    Rule("gid-pinned", "Indexes are not stable.", pinned_gid),
    Rule("no-rdma", "Sockets work and are slow.", no_rdma),
    Rule("nvlink-islands", "Bridges join pairs, not all.", nvlink_islands),
    Rule("dgx-level-differs", "Firmware and driver come with the system update.", dgx_levels),
    Rule("component-known-bad", "What the catalogue knows of a release's parts.", known_bad, of_release=True),
)
