# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of the catalogues in files/: releases, models and hardware, as typed values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .shapes import ModelShape, Quantization


@dataclass(frozen=True)
class Variant:
    """One installable form of a release: a CUDA tag for an architecture."""

    cuda: str
    """cu126, cu128, cu130."""
    arch: str
    devices: tuple[str, ...]
    """cuda, cpu: what the engine of this variant can run on."""
    index: str
    """"default" or the name of a configured extra index that torch comes from."""
    python: tuple[str, ...]
    """Minor versions for which every wheel exists: ("3.11", "3.12")."""
    locks: dict[str, str]
    """Python minor version -> file below locks/ of the engine; empty while the index cannot be reached."""
    glibc: str
    driver: str
    """Lowest driver that runs it, minor-version compatibility counted in."""
    driver_native: str
    """Lowest driver whose own CUDA level is the variant's."""
    compute_capabilities: tuple[str, ...]
    """What the kernel wheel really holds."""
    download_bytes: int = 0
    installed_bytes: int = 0
    components: dict[str, str] = field(default_factory=dict)
    """Pinned versions that rules look at: torch, triton, flashinfer, kernel, nccl, cudnn, nvcc ..."""
    platform: str = ""
    """manylinux tag that locks are resolved for: manylinux_2_34."""
    constraints: tuple[str, ...] = ()
    """Requirements that keep what upstream leaves unpinned from drifting; for resolving only."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace an upstream pin for which no wheel exists; for resolving only."""


@dataclass(frozen=True)
class Release:
    key: str
    """The version, such as "0.5.10.post1"."""
    version: str
    variants: tuple[Variant, ...]
    architectures: tuple[str, ...]
    """Model classes that it can load."""
    flags: str
    """File below flags/ of the engine with the arguments read from the wheel."""
    security: tuple[dict[str, Any], ...] = ()
    """Known holes: {id, what, fixed_in}; any makes the release fall below the security floor."""
    mitigated: tuple[dict[str, Any], ...] = ()
    """Known holes that what the collection puts in front of the engine closes: {id, what, by, fixed_in}."""
    features: tuple[str, ...] = ()
    """Names that rules ask for: spec-v1-worker, spec-v2-only, humming, low-smem-fp8-tiles, tls ..."""
    components: dict[str, str] = field(default_factory=dict)
    cpu: dict[str, Any] = field(default_factory=dict)
    """{arguments, arguments_multi, environment, environment_multi} that this release needs on hardware
    `cpu`; the multi ones only when several hosts serve together."""
    memory: Any = None
    """What the release takes of a GPU, as `Engine.release_memory` of its engine reads it."""
    requirements: tuple[str, ...] = ()
    """What locks are resolved from where no index has the engine's own wheel; for resolving only."""
    known_bad: tuple[dict[str, Any], ...] = ()
    """{component, versions, when, what, fix, severity, checks}; without versions, every one of the release."""
    notes: tuple[str, ...] = ()
    host_libraries: tuple[str, ...] = ()
    """Libraries that its wheels need for CUDA and a package of the distribution brings: libnuma.so.1."""


@dataclass(frozen=True)
class Model:
    key: str
    name: str
    ids: dict[str, str]
    """{huggingface: ..., modelscope: ...}."""
    revisions: dict[str, str]
    """Commit per hub where known."""
    shape: ModelShape
    quantization: Quantization
    weight_bytes: int
    weight_bytes_origin: str
    """"published", "reported", "computed": how far the number can be trusted."""
    family: str
    """Variants of one model share it: glm-4.7."""
    tool_call_parser: str = ""
    reasoning_parser: str = ""
    trust_remote_code: bool = False
    """The engine is told to run Python files of the checkpoint; needs accept: [remote-code]."""
    checkpoint_code: bool = False
    """config.json of a user's directory names Python files (auto_map); they are not run."""
    pickled_weights: bool = False
    """A user's directory holds weights only in formats that Python unpickles."""
    speculative: dict[str, Any] = field(default_factory=dict)
    """{algorithm: EAGLE, num_steps: 3, eagle_topk: 1, num_draft_tokens: 4, draft_architecture: ...}."""
    thinking_budget: dict[str, Any] = field(default_factory=dict)
    """{start: id, end: id, processor: class} where the vocabulary fits the class."""
    preserved_thinking: dict[str, Any] = field(default_factory=dict)
    """What the chat template must be told to keep earlier thoughts; empty where it cannot."""
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Engine -> server flags that it needs for the model everywhere, each {flag: value}."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """{take, leave}: patterns beside those of files/policy.yml."""
    kv_dtype: str = "bfloat16"
    licence: str = ""
    """SPDX name where the publisher states one."""
    community: bool = False
    """Made by others than the model's publisher, or by the user."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hardware:
    key: str
    products: tuple[str, ...]
    """Names that the driver gives it."""
    device: str
    """cuda or cpu."""
    compute_capability: str
    memory_mib: int
    """Per GPU as the driver reports it; of the whole host when unified; 0 for cpu."""
    unified_memory: bool = False
    drop_page_cache: bool = False
    """The page cache counts as used memory to the engine: it is emptied before a load."""
    shared_memory_bytes: int = 0
    """Opt-in limit a block."""
    fp8: bool = False
    fp4: bool = False
    interconnect: dict[str, Any] = field(default_factory=dict)
    """{kind: nvlink, gb_per_second: 400, links: 8, fabric_manager: true} ..."""
    peak: dict[str, float] = field(default_factory=dict)
    """{bf16_tflops: 989, memory_gb_per_second: 4800}: dense, of the data sheet."""
    driver_reserve_mib: int = 0
    """What the driver keeps of memory_mib: programs see that much less."""
    os_reserve_mib: int = 0
    """Kept from the engine on unified memory."""
    memory_fraction_max: float = 0.0
    nccl: dict[str, Any] = field(default_factory=dict)
    """{floor: ..., known_bad: [...], environment: {...}}."""
    ptxas: str = ""
    """Lowest ptxas that knows the chip."""
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Engine -> server flags that it needs here."""
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    """Engine -> variables that it needs here."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Nic:
    """A family of RDMA cards."""

    key: str
    name: str
    """In sentences: "ConnectX"."""
    vendor: str = ""
    """PCI vendor without 0x: "15b3"."""
    devices: tuple[str, ...] = ()
    """PCI devices without 0x; all of the vendor when empty."""
    drivers: tuple[str, ...] = ()
    """Kernel drivers."""
    hardware: tuple[str, ...] = ()
    """Only in hosts with these GPUs, by key of files/hardware."""
    default: bool = False
    """For cards that no other entry knows."""
    like: str = ""
    """Entry whose settings of lossless networks hold as well."""
    twins: str = ""
    """Pattern of device names: two that have the same groups share a cable; "" where the host says it itself."""
    speeds_gbps: tuple[float, ...] = ()
    """That a port can link at."""
    gid_types: tuple[str, ...] = ("RoCE v2",)
    """Types of GID, as in sysfs, that carry packets between subnets."""
    nccl: dict[str, Any] = field(default_factory=dict)
    """{net: IB, variables: [{name, value, when, why}]}."""
    lossless: dict[str, Any] = field(default_factory=dict)
    """{tools: [{name, show, set, wanted}], files: [{path, value, folder, optional, what}]}: how PFC, DSCP and ECN are
    read and set."""
    fabric: dict[str, Any] = field(default_factory=dict)
    """Gates of the network between hosts: {twins_gbit_per_second: 185, latency_microseconds: 10 ...}."""
    defects: tuple[dict[str, Any], ...] = ()
    """{link_gbps, moves_gbps: [least, most], what}: what a measured figure means."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogues:
    """What all engines share; the releases are in what is known of each engine."""

    models: dict[str, Model]
    hardware: dict[str, Hardware]
    nics: dict[str, Nic] = field(default_factory=dict)
