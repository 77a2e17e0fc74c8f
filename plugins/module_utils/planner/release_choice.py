# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release runs: the newest that the hosts and the model allow, and why each other one does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..catalogue.entries import Hardware, Model, Release, Variant
from ..facts.schema import HostFacts
from .serve_spec import Instance
from .versions import at_least, minor, served, version_key

BELOW_SECURITY_FLOOR = "below-security-floor"


@dataclass(frozen=True)
class Candidate:
    release: Release
    variant: Variant
    python: str
    """Minor version that every member has or is given."""


@dataclass(frozen=True)
class Rejection:
    release: str
    variant: str
    reason: str
    """One short line."""
    needs: str
    """Same reason for the same need; lets the summary group releases."""


@dataclass(frozen=True)
class Choice:
    candidates: tuple[Candidate, ...]
    """Newest first; the planner takes the first that its rules allow."""
    rejections: tuple[Rejection, ...]


def newest_first(releases: Iterable[Release]) -> list[Release]:
    return sorted(releases, key=lambda release: version_key(release.version), reverse=True)


def choose(
    instance: Instance,
    model: Model,
    hosts: Iterable[HostFacts],
    hardware: Hardware,
    device: str,
    releases: Mapping[str, Release],
    python_kits: tuple[str, ...],
) -> Choice:
    members = tuple(hosts)
    candidates: list[Candidate] = []
    rejections: list[Rejection] = []
    for release in newest_first(releases.values()):
        found: list[Candidate] = []
        refused: list[tuple[int, Rejection]] = []
        whole = _release_reason(instance, model, release)
        for variant in () if whole else release.variants:
            depth, reason, needs = _variant_reason(release, variant, members, hardware, device, python_kits)
            if reason:
                refused.append((depth, Rejection(release.key, variant.cuda, reason, needs)))
            else:
                python = _python_for(variant, members, python_kits)
                found.append(Candidate(release, variant, python))
        if whole:
            rejections.append(Rejection(release.key, "", whole[0], whole[1]))
        elif found:
            found.sort(key=lambda item: _preference(item, members), reverse=True)
            candidates.append(found[0])
        elif refused:
            # The variant that came furthest says best what the host lacks.
            rejections.append(max(refused, key=lambda item: item[0])[1])
        else:
            rejections.append(Rejection(release.key, "", "no variant of it is in the catalogue", "variant"))
    return Choice(tuple(candidates), tuple(rejections))


def matches_pin(release: Release, pin: str) -> bool:
    return pin in (release.key, release.version)


def _release_reason(instance: Instance, model: Model, release: Release) -> tuple[str, str] | None:
    if model.shape.architecture not in release.architectures:
        return f"does not know {model.shape.architecture}", "architecture"
    if release.security and BELOW_SECURITY_FLOOR not in instance.accept:
        holes = ", ".join(str(hole.get("id", "a known hole")) for hole in release.security)
        return f"below the security floor ({holes}) unless accepted: {BELOW_SECURITY_FLOOR}", "security"
    return None


def _variant_reason(
    release: Release,
    variant: Variant,
    hosts: tuple[HostFacts, ...],
    hardware: Hardware,
    device: str,
    python_kits: tuple[str, ...],
) -> tuple[int, str, str]:
    """How far the variant came, what stopped it, and the need in a word; "" when nothing did."""
    for host in hosts:
        if variant.arch != host.arch:
            return 0, f"no variant for {host.arch}", "arch"
    if device not in variant.devices:
        return 1, f"cannot run on {device}", "device"
    if device == "cpu" and not release.cpu:
        return 1, "does not serve on a CPU", "device"
    found = []
    for host in hosts:
        found += [
            (2, *_capability_reason(variant, hardware, device)),
            (3, *_driver_reason(variant, host, device)),
            (4, *_glibc_reason(variant, host)),
            (5, *_python_reason(variant, host, python_kits)),
        ]
    for depth, reason, needs in sorted(found, key=lambda item: item[0]):
        if reason:
            return depth, reason, needs
    if not _python_for(variant, hosts, python_kits):
        return 5, f"members share no Python of {', '.join(variant.python)}", "python"
    return 6, "", ""


def _capability_reason(variant: Variant, hardware: Hardware, device: str) -> tuple[str, str]:
    if device == "cpu" or served(hardware.compute_capability, variant.compute_capabilities):
        return "", ""
    return f"its kernels have no code for compute capability {hardware.compute_capability}", "capability"


def _driver_reason(variant: Variant, host: HostFacts, device: str) -> tuple[str, str]:
    if device == "cpu":
        return "", ""
    version = host.driver.version if host.driver else ""
    if not version:
        return "the host has no driver", "driver"
    if at_least(version, variant.driver):
        return "", ""
    return f"needs driver {variant.driver}, the host has {version}", f"driver {variant.driver}"


def _glibc_reason(variant: Variant, host: HostFacts) -> tuple[str, str]:
    if at_least(host.glibc, variant.glibc):
        return "", ""
    return f"needs glibc {variant.glibc}, the host has {host.glibc}", f"glibc {variant.glibc}"


def _python_reason(variant: Variant, host: HostFacts, kits: tuple[str, ...]) -> tuple[str, str]:
    if pythons(host, kits) & set(variant.python):
        return "", ""
    have = ", ".join(sorted(pythons(host, kits), key=version_key)) or "none"
    best = max(variant.locks or variant.python, key=version_key)
    needs = f"needs Python {' or '.join(variant.python)}, the host has {have}"
    return f"{needs}: runtime_python_kits: ['{best}'] brings one", "python"


def pythons(host: HostFacts, kits: tuple[str, ...]) -> set[str]:
    return {minor(python.version) for python in host.python} | set(kits)


def _python_for(variant: Variant, hosts: tuple[HostFacts, ...], kits: tuple[str, ...]) -> str:
    shared = set(variant.python)
    for host in hosts:
        shared &= pythons(host, kits)
    own = set.intersection(*(pythons(host, ()) for host in hosts)) if hosts else set()
    # A lock that exists counts most, then what the hosts bring themselves, then the newest.
    order = sorted(shared, key=lambda item: (item in variant.locks, item in own, version_key(item)))
    return order[-1] if order else ""


def _preference(candidate: Candidate, hosts: tuple[HostFacts, ...]) -> tuple[bool, bool, tuple[int, ...]]:
    variant = candidate.variant
    native = all(host.driver and at_least(host.driver.version, variant.driver_native) for host in hosts)
    return bool(variant.locks), bool(native), version_key(variant.cuda.replace("cu", ""))


def summary(chosen: Release, rejections: Iterable[Rejection]) -> str:
    """`newest that fits: 0.5.11 and later need driver 580`, in few words."""
    newer = [item for item in rejections if version_key(item.release) > version_key(chosen.version)]
    if not newer:
        return "newest in the catalogue"
    groups: dict[str, list[Rejection]] = {}
    for item in newer:
        groups.setdefault(item.needs, []).append(item)
    parts = []
    for needs, items in groups.items():
        keys = sorted((item.release for item in items), key=version_key)
        whom = keys[0] if len(keys) == 1 else f"{keys[0]} and later"
        if len(groups) > 1:
            whom = ", ".join(keys)
        verb = "needs" if len(keys) == 1 else "need"
        told = f"{verb} {needs}" if needs.startswith(("driver ", "glibc ")) else items[0].reason
        parts.append(f"{whom} {told}")
    return "newest that fits: " + "; ".join(parts)
