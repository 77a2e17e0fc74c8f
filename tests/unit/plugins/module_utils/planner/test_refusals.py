# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One row for every refusal that the planner knows: what brings it, and that it helps.

A code in the source without a row here fails, and so does a row whose code is never met.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.shapes import Quantization
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.moe_tuned import (
    USERS,
    tuned_from,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Disk, Fault
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.policy import effective, of_hosts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import translate
from ansible_collections.baremetal.sglang.plugins.plugin_utils import fact_sources, plan_inputs
from ansible_collections.baremetal.sglang.tests.unit.plugins.module_utils.planner import fabric_rows

Refusals = Callable[[Any, Path], "list[Refusal]"]
ROOT = Path(__file__).resolve().parents[5]
SOURCES = [
    ROOT / "plugins/module_utils/gateway/spec.py",
    ROOT / "plugins/module_utils/planner/serve_spec.py",
    ROOT / "plugins/plugin_utils/data_files.py",
    ROOT / "plugins/plugin_utils/fact_sources.py",
    ROOT / "plugins/plugin_utils/plan_inputs.py",
    *sorted((ROOT / "plugins/module_utils/planner").rglob("*.py")),
    *sorted((ROOT / "plugins/module_utils/engines/sglang").rglob("*.py")),
]
OLD = "0.5.10.post1"


def one(kind: str, count: int = 1, host: Any = None, **wanted: Any) -> Refusals:
    return lambda world, _tmp: list(world.one(kind, count, host, **wanted).refusals)


def serve(value: Any, kind: str = "cpu") -> Refusals:
    return lambda world, _tmp: list(world.plan(world.hosts(kind), value).refusals)


def instance(**wanted: Any) -> Refusals:
    return serve({"it": wanted})


def gathered(**changes: Any) -> Refusals:
    """H200s that were looked at, and say something odd of themselves."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        facts = {
            name: replace(host, source="gathered", gpus=tuple(replace(gpu, **changes) for gpu in host.gpus))
            for name, host in world.hosts("h200").items()
        }
        return list(world.plan(facts, {"it": {"model": "glm-4.7-flash", "hosts": list(facts)}}).refusals)

    return run


def with_model(change: dict[str, Any], kind: str = "a800", count: int = 1, **wanted: Any) -> Refusals:
    """A model of the catalogue with something else in its entry."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        facts = world.hosts(kind, count)
        model = world.catalogues.models[wanted["model"]]
        shape = change.pop("quantization", None)
        quantization = replace(model.quantization, **shape) if shape else model.quantization
        changed = replace(model, quantization=quantization, **change)
        catalogues = replace(world.catalogues, models={**world.catalogues.models, model.key: changed})
        return list(
            world.plan(facts, {"it": {"hosts": list(facts), **wanted}}, catalogues=catalogues).refusals
        )

    return run


def unfit_kernel_file(world: Any, _tmp: Path) -> list[Refusal]:
    name = "E=161,N=384,device_name=NVIDIA_GB10,dtype=fp8_w8a8,per_channel_quant=True.json"
    tile = {"BLOCK_SIZE_M": 128, "BLOCK_SIZE_N": 256, "BLOCK_SIZE_K": 128, "num_stages": 4}
    mine = tuned_from(name, {"1": tile}, f"/mine/moe/{name}", USERS, {})
    facts = world.hosts("spark", 4)
    serve = {"it": {"model": "glm-4.7-fp8", "hosts": list(facts)}}
    return list(world.plan(facts, serve, engines=world.with_kernels(brought={name: (mine,)})).refusals)


def index_wheel(world: Any, _tmp: Path) -> list[Refusal]:
    """The only one that the package index has; it knows none of our models."""
    facts = world.hosts("h200")
    serve = {"it": {"model": "glm-4.7-flash", "hosts": list(facts), "engine": "lightllm"}}
    return list(world.plan(facts, serve, engines=world.with_wheel(version="0.0.1")).refusals)


def own_directory(world: Any, _tmp: Path) -> list[Refusal]:
    model = replace(world.catalogues.models["glm-4.7-tiny"], key="/data/mine")
    catalogues = replace(world.catalogues, models={**world.catalogues.models, "/data/mine": model})
    serve = {"it": {"model": "/data/mine", "hosts": ["cpu-1"], "checksum_at_start": True}}
    return list(world.plan(world.hosts("cpu"), serve, catalogues=catalogues).refusals)


def own_files(options: dict[str, Any], accept: Any = (), **change: Any) -> Refusals:
    """A directory of the user as the model."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        model = replace(world.catalogues.models["glm-4.7-tiny"], key="/data/mine", ids={}, **change)
        catalogues = replace(world.catalogues, models={**world.catalogues.models, "/data/mine": model})
        wanted = {"model": "/data/mine", "hosts": ["cpu-1"], "options": options, "accept": list(accept)}
        return list(world.plan(world.hosts("cpu"), {"it": wanted}, catalogues=catalogues).refusals)

    return run


def command(text: str, *hosts: str) -> Refusals:
    return lambda world, _tmp: list(
        translate(world.data_files.engines, world.catalogues.models, text, hosts).refusals
    )


def strange_host(world: Any, _tmp: Path) -> list[Refusal]:
    facts = {"gpu-1\nbind :1": world.host("cpu", "gpu-1\nbind :1")}
    return list(world.plan(facts, {"it": {"model": "glm-4.7-tiny", "hosts": list(facts)}}).refusals)


def mixed(world: Any, _tmp: Path) -> list[Refusal]:
    gpus = [{"model": "a800-sxm4-80gb", "count": 1}, {"model": "h200", "count": 1}]
    return list(world.one("a800", host={"gpus": gpus}, model="glm-4.7-flash").refusals)


def stranger(world: Any, _tmp: Path) -> list[Refusal]:
    known = world.host("a800", "a800-1")
    gpu = replace(known.gpus[0], model="", product="NVIDIA A800-SXM4-96GB", memory_mib=98304)
    facts = {"a800-1": replace(known, gpus=(gpu,))}
    return list(world.plan(facts, {"it": {"hosts": ["a800-1"], "model": "glm-4.7-flash"}}).refusals)


def sliced(world: Any, _tmp: Path) -> list[Refusal]:
    known = world.host("a800", "a800-1")
    gpus = (replace(known.gpus[0], mig_enabled=True), *known.gpus[1:])
    facts = {"a800-1": replace(known, gpus=gpus)}
    return list(world.plan(facts, {"it": {"hosts": ["a800-1"], "model": "glm-4.7-flash"}}).refusals)


def unequal(key: str, value: Any) -> Refusals:
    def run(world: Any, _tmp: Path) -> list[Refusal]:
        facts = {**world.hosts("a800"), "other": world.host("a800", "other", 2, **{key: value})}
        return list(world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-int8"}}).refusals)

    return run


def no_network(world: Any, _tmp: Path) -> list[Refusal]:
    facts = world.hosts("spark", 2)
    lonely = ({"name": "eth0", "state": "up", "addresses": ["172.16.0.9/24"]},)
    facts["spark-2"] = replace(facts["spark-2"], interfaces=lonely)
    return list(world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}}).refusals)


def only_names(world: Any, _tmp: Path) -> list[Refusal]:
    facts = {name: replace(host, interfaces=()) for name, host in world.hosts("spark", 2).items()}
    addresses = {"spark-1": "192.168.101.11", "spark-2": "spark-2.data_files"}
    wanted = {"it": {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}}
    return list(world.plan(facts, wanted, addresses=addresses).refusals)


def addressed(*given: str) -> Refusals:
    """Two Sparks of which nothing but what the inventory says is known."""

    def plan(world: Any, _tmp: Path) -> list[Refusal]:
        facts = {name: replace(host, interfaces=()) for name, host in world.hosts("spark", 2).items()}
        wanted = {"it": {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}}
        return list(world.plan(facts, wanted, addresses=dict(zip(facts, given))).refusals)

    return plan


def same_address(world: Any, _tmp: Path) -> list[Refusal]:
    """Two hosts of one image."""
    facts = world.hosts("spark", 2)
    facts["spark-2"] = replace(facts["spark-2"], interfaces=facts["spark-1"].interfaces)
    return list(world.plan(facts, {"it": {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}}).refusals)


def swarmed(address: str) -> Refusals:
    def plan(world: Any, _tmp: Path) -> list[Refusal]:
        facts = world.hosts("h200", 2)
        wanted = {name: {"model": "glm-4.7-fp8", "hosts": [name]} for name in facts}
        swarm = dict(zip(facts, ("10.9.0.1", address)))
        return list(world.plan(facts, wanted, swarm=swarm).refusals)

    return plan


def member_elsewhere(world: Any, _tmp: Path) -> list[Refusal]:
    facts = world.hosts("spark", 2)
    other = {"instances": {"old": {"parallel": {"nnodes": 2, "hosts": ["data_files-9", "spark-2"]}}}}
    wanted = {"it": {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}}
    return list(world.plan(facts, wanted, before={"spark-2": other, "spark-1": {}}).refusals)


def two(second: dict[str, Any], **first: Any) -> Refusals:
    hosts = ["a800-1"]
    entry = {"model": "glm-4.7-flash", "hosts": hosts}
    return serve({"one": {**entry, **first}, "two": {**entry, "port": 30001, **second}}, "a800")


def gateway_refusals(monitoring: Any = None, facts: Any = None, seen: Any = None, **gateway: Any) -> Refusals:
    """A tiny model on a CPU host, and a gateway before it."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        found = world.hosts("cpu", 1, **(facts or {}))
        serve = {"it": {"model": "glm-4.7-tiny", "hosts": list(found), "device": "cpu"}}
        asked = {"hosts": list(found), **gateway} if gateway else None
        more = {"hosts": (*found, "cpu-9"), "certificate": seen or {}}
        return list(world.plan(found, serve, gateway=asked, monitoring=monitoring, **more).refusals)

    return run


def named_before_gateway(
    *names: str, host: str = "cpu-1", address: str = "10.0.0.1", instance: str = "it"
) -> Refusals:
    """Models of these names behind a gateway."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        facts = {host: world.host("cpu", host)}
        tiny = {"model": "glm-4.7-tiny", "hosts": [host], "device": "cpu"}
        serve = {
            f"{instance}{number or ''}": {**tiny, "served_model_name": name, "port": 30000 + 10 * number}
            for number, name in enumerate(names)
        }
        asked = {"hosts": [host]}
        return list(world.plan(facts, serve, gateway=asked, addresses={host: address}).refusals)

    return run


def named_with_a_newline(world: Any, _tmp: Path) -> list[Refusal]:
    name = "cpu-1\nbasicConstraints = CA:TRUE"
    facts = {name: replace(world.host("cpu", "cpu-1"), host=name)}
    serve = {"it": {"model": "glm-4.7-tiny", "hosts": [name], "device": "cpu"}}
    return list(world.plan(facts, serve, gateway={"hosts": [name]}).refusals)


def without_haproxy(world: Any, _tmp: Path) -> list[Refusal]:
    facts = world.hosts("cpu")
    families = {"deb": {**world.data_files.systems["families"]["deb"], "packages": {"haproxy": ""}}}
    serve = {"it": {"model": "glm-4.7-tiny", "hosts": list(facts), "device": "cpu"}}
    return list(world.plan(facts, serve, gateway={"hosts": list(facts)}, families=families).refusals)


def relieved(kind: str, host: Any = None, count: int = 1, **wanted: Any) -> Refusals:
    """Asked for, behind a gateway."""

    def run(world: Any, _tmp: Path) -> list[Refusal]:
        facts = world.hosts(kind, count, **(host or {}))
        serve = {"it": {"hosts": list(facts), "standby": True, **wanted}}
        return list(world.plan(facts, serve, gateway={"hosts": [next(iter(facts))]}).refusals)

    return run


GIVEN = {"certificate": "/etc/room/front.crt", "key": "/etc/room/front.key"}
GOOD = {"key_matches": True, "days_left": 90, "days_to_start": 0, "names": ["llm.example"]}


def facts_of_another(world: Any, _tmp: Path) -> list[Refusal]:
    given = world.host("h200", "h200-2").to_dict()
    found = fact_sources.collect_facts(
        ("h200-1",),
        lambda _host, name: given if name == "plan_host_facts" else None,
        "",
        world.data_files.catalogues.hardware,
        world.data_files.systems,
    )
    return found.refusals


def no_file_of_a_host(world: Any, tmp: Path) -> list[Refusal]:
    (tmp / "h200-9.json").write_text("{}", encoding="utf-8")
    catalogue = world.data_files.catalogues.hardware
    return fact_sources.collect_facts(
        ("h200-1",), lambda _host, _name: None, str(tmp), catalogue, world.data_files.systems
    ).refusals


def ports_meet(world: Any, _tmp: Path) -> list[Refusal]:
    """The rendezvous port of one instance is the API port of another."""
    facts = world.hosts("a800", 2)
    wanted = {
        "group": {"hosts": list(facts), "model": "glm-4.7-flash", "gpus": [0]},
        "alone": {"hosts": ["a800-1"], "model": "glm-4.7-flash", "gpus": [1], "port": 31000},
    }
    return list(world.plan(facts, wanted).refusals)


def nccl(world: Any, _tmp: Path) -> list[Refusal]:
    release = world.releases["0.5.23"]
    variants = tuple(
        replace(variant, components={**variant.components, "nccl": "2.28.9"}) for variant in release.variants
    )
    engines = world.with_sglang(releases={"0.5.23": replace(release, variants=variants)})
    facts = world.hosts("spark", 2)
    wanted = {"hosts": list(facts), "model": "glm-4.7-flash-fp8"}
    return list(world.plan(facts, {"it": wanted}, engines=engines).refusals)


def compiler_too_new(world: Any, _tmp: Path) -> list[Refusal]:
    release = world.releases["0.5.23"]
    variants = tuple(
        replace(variant, components={**variant.components, "nvcc": "13.5.37"}) for variant in release.variants
    )
    engines = world.with_sglang(releases={"0.5.23": replace(release, variants=variants)})
    facts = world.hosts("h200")
    wanted = {"hosts": list(facts), "model": "glm-4.7-fp8"}
    return list(world.plan(facts, {"it": wanted}, engines=engines).refusals)


def no_cpu_entry(world: Any, _tmp: Path) -> list[Refusal]:
    hardware = {key: value for key, value in world.catalogues.hardware.items() if key != "cpu"}
    catalogues = replace(world.catalogues, hardware=hardware)
    facts = world.hosts("cpu")
    return list(
        world.plan(
            facts, {"it": {"hosts": list(facts), "model": "glm-4.7-tiny"}}, catalogues=catalogues
        ).refusals
    )


def unreadable(_world: Any, tmp: Path) -> list[Refusal]:
    (tmp / "models").mkdir()
    (tmp / "models/mine.yml").write_text("family: [broken", encoding="utf-8")
    return plan_inputs.load_data_files([str(tmp)]).refusals


def no_directory(_world: Any, tmp: Path) -> list[Refusal]:
    return plan_inputs.load_data_files([str(tmp / "absent")]).refusals


def no_config(_world: Any, tmp: Path) -> list[Refusal]:
    refusals: list[Refusal] = []
    plan_inputs.local_models({"it": {"model": str(tmp)}}, refusals)
    return refusals


def contradiction(world: Any, _tmp: Path) -> list[Refusal]:
    gathered = world.host("a800", "gpu-01", driver="535.183.01").to_dict()
    declared = {"os": "ubuntu-22.04", "arch": "x86_64", "driver": "550.54.15"}
    declared["gpus"] = {"model": "a800-sxm4-80gb", "count": 8}
    variables = {"plan_host_facts": gathered, "declared_hardware": declared}
    return fact_sources.collect_facts(
        ["gpu-01"],
        lambda _host, name: variables[name],
        "",
        world.data_files.catalogues.hardware,
        world.data_files.systems,
    ).refusals


ALL_RISKS = ["below-security-floor", "mtp-without-right-draft", "fp8-on-sm80-humming"]
ROWS: dict[str, list[Refusals]] = {
    "component-known-bad": [compiler_too_new],
    "declared-differs": [contradiction],
    "disk-full": [
        one("h200", model="glm-4.7-fp8", host={"disks": (Disk("/opt/sglang", "/", "ext4", 900.0, 100.0),)})
    ],
    "does-not-fit": [
        one("a800", model="glm-4.7"),
        one("spark", 4, model="glm-4.7-fp8", context_length=202752, memory_fraction=0.75),
        one("cpu", model="glm-4.7-tiny", context_length=8192),
        one("cpu", model="glm-4.7"),
    ],
    "dp-attention-open": [one("spark", 2, model="glm-4.7-flash-fp8", options={"enable-dp-attention": True})],
    "eagle-incomplete": [
        one("a800", model="glm-4.7-int8", speculative=False, options={"speculative-num-steps": 3}),
        one(
            "a800",
            model="glm-4.7-int8",
            speculative=False,
            options={"speculative-algorithm": "EAGLE", "speculative-num-steps": 3},
        ),
    ],
    "engine": [one("h200", model="glm-4.7-flash", engine="vllm"), one("cpu", model="x", engine="lightlm")],
    "wheel-missing": [one("h200", model="glm-4.7-flash", engine="lightllm")],
    "wheel-version": [index_wheel],
    "fabric-manager": [one("a800", model="glm-4.7-int8", host={"fabric_manager": "stopped"})],
    "file-unreadable": [unreadable],
    "fp8-experts": [one("a800", model="glm-4.7-fp8"), one("a800-580", model="glm-4.7-flash-fp8")],
    "gpu-count-differs": [unequal("gpus", {"model": "a800-sxm4-80gb", "count": 7})],
    "gpu-capability-differs": [gathered(compute_capability="7.5")],
    "gpu-memory-large": [gathered(memory_mib=288_000)],
    "gpu-memory-unlike": [gathered(memory_mib=None, unified_memory=True)],
    "gpu-memory-small": [gathered(memory_mib=17_971)],
    "gpu-missing": [one("a800", model="glm-4.7-flash", gpus=[0, 8])],
    "gpu-twice": [two({"gpus": [0, 1]}, gpus=[1, 2]), two({})],
    "hca-unknown": [
        one("spark", 2, model="glm-4.7-flash-fp8", environment={"NCCL_IB_HCA": "mlx5_1"}),
    ],
    "host-fault": [
        one(
            "a800",
            model="glm-4.7-int8",
            host={
                "faults": (Fault("gpu-lost", "GPU 3", "the GPU has fallen off the bus", "restart the host"),)
            },
        )
    ],
    "host-not-in-inventory": [instance(model="glm-4.7-tiny", hosts=["cpu-2"])],
    "humming-runner": [
        one(
            "a800-580",
            model="glm-4.7-fp8",
            accept=["fp8-on-sm80-humming"],
            options={"moe-runner-backend": "triton"},
        )
    ],
    "instance-name": [serve({"GLM 4.7": {"model": "glm-4.7-tiny", "hosts": ["cpu-1"]}})],
    "int8-needs-flag": [one("a800", model="glm-4.7-int8", options={"quantization": None})],
    "inventory-empty": [lambda world, _tmp: list(world.plan({}, {}).refusals)],
    "kernel-file-unfit": [unfit_kernel_file],
    "kv-fp8-capability": [
        one(
            "a800",
            model="glm-4.7-int8",
            kv_cache_dtype="fp8_e4m3",
            options={"attention-backend": "triton"},
        )
    ],
    "member-twice": [one("cpu", model="glm-4.7-tiny", hosts=["cpu-1", "cpu-1"])],
    "members-differ": [
        unequal("driver", "570.86.15"),
        unequal("gpus", {"model": "a100-sxm4-80gb", "count": 8}),
    ],
    "memory-fraction-unified": [one("spark", model="glm-4.7-flash-fp8", memory_fraction=0.95)],
    "mig-enabled": [sliced],
    "mixed-gpus": [mixed],
    "model-directory": [no_config],
    "moe-runner-fp8": [one("h200", model="glm-4.7-fp8", options={"moe-runner-backend": "marlin"})],
    "moe-tile-too-large": [
        one(
            "spark",
            model="glm-4.7-flash-fp8",
            release=OLD,
            host={"toolkit": {"cuda_home": "/usr/local/cuda", "nvcc": "12.9.86", "ptxas": "12.9.86"}},
        )
    ],
    "mtp-draft-class": [one("a800", model="glm-4.7-flash", speculative=True)],
    "facts-of-another-host": [facts_of_another],
    "facts-dir-useless": [no_file_of_a_host],
    "context-too-long": [one("h200", model="glm-4.7-fp8", context_length=1_000_000)],
    "port-clash": [ports_meet],
    "speculative-pipeline": [
        one("a800", 2, model="glm-4.7-int8", tensor_parallel=8, pipeline_parallel=2, speculative=True)
    ],
    "mtp-missing": [one("h200", model="glm-4.7-flash-nvfp4", speculative=True)],
    "nccl-known-bad": [nccl],
    "needs-network": [
        one("cpu", model="glm-4.7-tiny", options={"model-checksum": "zai-org/GLM-4.7"}),
        one("cpu", model="glm-4.7-tiny", environment={"HF_HUB_OFFLINE": "0"}),
    ],
    "nft-missing": [one("h200", 2, {"nft": ""}, model="glm-4.7-fp8")],
    "checksum-flag": [
        one(
            "a800",
            model="glm-4.7-int8",
            release="0.5.7",
            checksum_at_start=True,
            accept=["below-security-floor"],
        )
    ],
    "checksum-without-manifest": [own_directory],
    "preserved-thinking-flag": [one("a800", model="glm-4.7-int8", preserved_thinking=True)],
    "preserved-thinking-template": [one("h200", model="glm-4.6-fp8", preserved_thinking=True)],
    "no-common-network": [no_network],
    "address-is-name": [only_names],
    "address-twice": [addressed("10.0.0.1", "10.0.0.1"), same_address],
    "address-unusable": [
        addressed("10.0.0.1", address)
        for address in (
            "0.0.0.0",
            "127.0.0.1",
            "127.9.9.9",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "0.1.2.3",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.2",
        )
    ],
    "member-elsewhere": [member_elsewhere],
    "no-compiler": [one("a800-without-toolkit", model="glm-4.7-int8")],
    "no-facts": [
        lambda world, _tmp: list(
            world.plan({}, {"it": {"model": "glm-4.7-tiny", "hosts": ["a-1"]}}, hosts=("a-1",)).refusals
        )
    ],
    "no-gpu": [one("cpu", model="glm-4.7-flash", device="cuda")],
    "no-release": [
        one("a800", model="glm-4.7-int8", host={"driver": "470.57.02"}),
        one("cpu", model="glm-4.7-tiny", host={"arch": "aarch64"}),
        one("a800", model="glm-4.7-int8", host={"python": ()}),
    ],
    "no-such-directory": [no_directory],
    "nvfp4-capability": [one("a800", model="glm-4.7-nvfp4")],
    "swarm-address": [swarmed(address) for address in ("0.0.0.0", "127.0.0.1", "224.0.0.9", "::1")],
    "parallel-indivisible": [one("a800", model="glm-4.7-flash", tensor_parallel=8)],
    "port-taken": [
        one(
            "cpu",
            model="glm-4.7-tiny",
            host={"listening": ({"port": 30000, "address": "0.0.0.0", "process": "nginx"},)},
        )
    ],
    "port-twice": [two({"port": 30000, "gpus": [1]}, gpus=[0])],
    "ptxas-too-old": [one("spark", model="glm-4.7-flash-awq", release=OLD)],
    "quantization-mismatch": [one("h200", model="glm-4.7-fp8", options={"quantization": "fp8"})],
    "ranks-uneven": [one("a800", 2, model="glm-4.7-int8", tensor_parallel=3)],
    "release-unfit": [one("a800", model="glm-4.7-int8", release="0.5.23")],
    "serve-empty": [serve({}), serve(None), serve([1])],
    "serve-missing": [instance(hosts=["cpu-1"]), instance(model="glm-4.7-tiny")],
    "serve-type": [
        serve({"it": "glm-4.7"}),
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], port="30000"),
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], memory_fraction=1.5),
        instance(model="glm-4.7-tiny", hosts=[]),
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], pipeline_parallel=10**6),
    ],
    "serve-unknown-key": [
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], tensor_paralel=1),
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], **{"max-running-requests": 4}),
        instance(model="glm-4.7-tiny", hosts=["cpu-1"], replicas=2),
    ],
    "shared-experts-fusion": [
        one("a800", model="glm-4.7-awq", options={"disable-shared-experts-fusion": None})
    ],
    "spec-v2-topk": [
        one(
            "a800",
            model="glm-4.7-int8",
            options={"speculative-eagle-topk": 2},
            environment={"SGLANG_ENABLE_SPEC_V2": "1"},
        )
    ],
    "thinking-budget-flag": [
        one(
            "a800",
            model="glm-4.7-int8",
            thinking_budget=True,
            options={"enable-custom-logit-processor": False},
        )
    ],
    "thinking-budget-vocabulary": [one("a800", model="glm-4.7-flash", thinking_budget=True)],
    "thinking-budget-with-mtp": [
        one("h200", model="glm-4.7-fp8", thinking_budget=True, speculative=True),
        one(
            "a800",
            model="glm-4.7-int8",
            thinking_budget=True,
            speculative=True,
            environment={"SGLANG_ENABLE_SPEC_V2": "true"},
        ),
    ],
    "front-unknown-key": [gateway_refusals(prot=443), gateway_refusals({"promehteus": "cpu-1"})],
    "front-type": [
        gateway_refusals(port="443"),
        gateway_refusals(names=["a b"]),
        gateway_refusals(names=["llm.example\n"]),
        gateway_refusals(names=["*"]),
        gateway_refusals(names=["*.example"]),
        gateway_refusals(names=["llm.*.example"]),
        gateway_refusals(names=["10.0.0.999"]),
        gateway_refusals(endpoints=["tokenize"]),
        gateway_refusals(address="0.0.0.0 ssl"),
        gateway_refusals(address="203.0.113.999"),
        gateway_refusals(address="unix@/tmp/front.sock"),
        gateway_refusals(address="fe80::1%eth0"),
        gateway_refusals(names=["llm.example\n"]),
        gateway_refusals(endpoints=["POST /tokenize\n"]),
        gateway_refusals({"gpu": "amd"}),
        gateway_refusals(["cpu-1"]),
        lambda world, _tmp: list(
            world.plan(
                world.hosts("cpu"), {"it": {"model": "glm-4.7-tiny", "hosts": ["cpu-1"]}}, gateway="cpu-1"
            ).refusals
        ),
    ],
    "front-host": [
        gateway_refusals(hosts=["cpu-7"]),
        gateway_refusals({"prometheus": "cpu-7"}),
        gateway_refusals({"hosts": ["cpu-1", "cpu-7"]}),
    ],
    "front-missing": [
        gateway_refusals(certificate="/etc/room/front.crt"),
        gateway_refusals(key="/etc/room/front.key"),
        lambda world, _tmp: list(
            world.plan(
                world.hosts("cpu"),
                {"it": {"model": "glm-4.7-tiny", "hosts": ["cpu-1"]}},
                gateway={"port": 443},
            ).refusals
        ),
    ],
    "front-name": [
        named_before_gateway("zai/glm", "zai_glm"),
        named_before_gateway("tiny", address="10.0.0.1 check"),
        named_before_gateway("tiny", host="cpu-1 check"),
        named_before_gateway("tiny", instance="a" * 65),
        gateway_refusals(names=["cpu-9"]),
        gateway_refusals(hosts=["cpu-1", "cpu-9"], names=["CPU-1"]),
        lambda world, _tmp: list(
            world.plan(
                world.hosts("cpu"),
                {"it": {"model": "glm-4.7-tiny", "hosts": ["cpu-1"], "device": "cpu"}},
                gateway={"hosts": ["cpu-1"], "names": ["*.lab.example"]},
                hosts=("cpu-1", "cpu-9.lab.example"),
            ).refusals
        ),
        lambda world, _tmp: list(
            world.plan(
                world.hosts("cpu"),
                {"it": {"model": "glm-4.7-tiny", "hosts": ["cpu-1"], "device": "cpu"}},
                gateway={"hosts": ["cpu-1"]},
                hosts=("cpu-1", "CPU-1"),
            ).refusals
        ),
        named_with_a_newline,
    ],
    "front-limit": [gateway_refusals(limits={"body_mb": 3}), gateway_refusals(limits={"body_mib": 0})],
    "front-instance": [gateway_refusals(instances=["its"])],
    "front-facts": [gateway_refusals(hosts=["cpu-9"]), gateway_refusals({"prometheus": "cpu-9"})],
    "front-certificate": [
        gateway_refusals(seen={"problem": "/etc/room/front.key cannot be read: Permission denied"}, **GIVEN),
        gateway_refusals(seen={**GOOD, "key_matches": False}, **GIVEN),
        gateway_refusals(seen={**GOOD, "days_left": -3}, **GIVEN),
        gateway_refusals(seen={**GOOD, "days_to_start": 2}, **GIVEN),
        gateway_refusals(seen=GOOD, names=["other.example"], **GIVEN),
    ],
    "front-port": [
        gateway_refusals(port=30000),
        gateway_refusals(port=8444, inner_port=8444, monitoring={"hosts": ["cpu-1"]}),
        gateway_refusals(port=8443, facts={"listening": ({"port": 8443, "process": "nginx"},)}),
    ],
    "front-package": [without_haproxy],
    "command-hosts": [command("python -m sglang.launch_server --model-path /m --nnodes 2", "gpu-1")],
    "command-missing": [command("pip install sglang")],
    "command-model": [command("python -m sglang.launch_server --tp-size 8")],
    "engine-unsupported": [command("python -m vllm.entrypoints.openai.api_server --model /m/GLM-4.7-Flash")],
    "host-name": [strange_host],
    "instance-reserved": [
        serve({name: {"model": "glm-4.7-tiny", "hosts": ["cpu-1"]}})
        for name in ("gateway", "launcher", "swarm-1", "it-standby")
    ],
    "served-name": [
        one("cpu", model="glm-4.7-tiny", served_model_name=name)
        for name in ("glm\nExecStartPre=+/bin/true", "glm 4", "100%h", "glm\\", "'", "m" * 129)
    ],
    "serve-text": [
        one("cpu", model="glm-4.7-tiny", options={"log-level": "info\x00"}),
        one("cpu", model="glm-4.7-tiny", environment={"A": "\x1b[2J"}),
        one("cpu", model="glm-4.7-tiny", release="0.5.23\n"),
    ],
    "variable-name": [
        one("cpu", model="glm-4.7-tiny", environment={name: "1"}) for name in ("1A", "A-B", "A=B", "", "A\n")
    ],
    "variable-secret": [
        one("cpu", model="glm-4.7-tiny", environment=variables)
        for variables in (
            {"HF_TOKEN": "x"},
            {"OPENAI_API_KEY": "x"},
            {"DB_PASSWORD": "x"},
            {"https_proxy": "http://me:word@proxy:3128"},
            {"A": "hf_0123456789abcdefghij"},
        )
    ],
    "environment-file": [
        one("cpu", model="glm-4.7-tiny", environment_files=path)
        for path in (
            "it.env",
            "/etc/../x.env",
            "/etc/a b",
            "/etc/%h.env",
            "/etc/*.env",
            "/var/lib/sglang/it/x.env",
        )
    ],
    "policy": [lambda world, _tmp: list(effective(world.data_files.policy, {"engin": {}}).refusals)],
    "policy-differs": [
        lambda world, _tmp: list(
            of_hosts(world.data_files.policy, {"gpu-1": {"keep": {"releases": 4}}, "gpu-2": {}}).refusals
        )
    ],
    "remote-code": [
        one("h200", model="glm-4.7-fp8", options={"trust-remote-code": True}),
        with_model({"trust_remote_code": True}, model="glm-4.7-flash"),
        own_files({"model-impl": "transformers"}, checkpoint_code=True),
        own_files({"quantization": "modelopt_fp8"}, checkpoint_code=True),
        own_files({"modelopt-quant": "fp8"}, checkpoint_code=True),
    ],
    "pickled-weights": [
        one("h200", model="glm-4.7-fp8", options={"load-format": "pt"}),
        one("h200", model="glm-4.7-fp8", options={"load-format": "npcache"}),
        one("h200", model="glm-4.7-fp8", options={"speculative-draft-load-format": "pt"}),
        own_files({}, pickled_weights=True),
        own_files({"load-format": "auto"}, pickled_weights=True),
    ],
    "standby": [
        one("cpu", model="glm-4.7-tiny", standby=True),
        relieved("cpu", {"memory_gib": 6.0}, model="glm-4.7-tiny"),
        relieved("a800", model="glm-4.7-int8", tensor_parallel=8),
        relieved("spark", count=4, model="glm-4.7-fp8"),
        relieved("cpu", model="glm-4.7-tiny", port=62000),
    ],
    "too-few-gpus": [one("a800", model="glm-4.7-int8", tensor_parallel=16)],
    "unified-memory-auto": [
        one("spark", model="glm-4.7-flash-fp8", options={"cuda-graph-max-bs-decode": None}),
        one("spark", model="glm-4.7-flash-fp8", options={"mem-fraction-static": None}),
    ],
    "unknown-gpu": [stranger, no_cpu_entry],
    "unknown-model": [one("cpu", model="glm-4.7-tinny")],
    "unknown-release": [one("cpu", model="glm-4.7-tiny", release="0.5.24")],
    "unknown-risk": [one("cpu", model="glm-4.7-tiny", accept=["below-security-flor"])],
    "variable-owned": [one("h200", model="glm-4.7-fp8", environment={"CUDA_VISIBLE_DEVICES": "0"})],
    "w8a8-fp8-capability": [
        with_model(
            {"quantization": {"method": ""}}, model="glm-4.7-flash", options={"quantization": "w8a8_fp8"}
        )
    ],
    **fabric_rows.REFUSALS,
}


def codes_in_source() -> dict[str, str]:
    """Every first argument of a Refusal(...) in the planner's source, and where it stands."""
    found = {}
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal"
            ):
                continue
            first = node.args[0]
            place = f"{path.name}:{node.lineno}"
            assert isinstance(first, (ast.Constant, ast.Name)), place
            if isinstance(first, ast.Constant):
                found[str(first.value)] = place
    return found


def test_every_code_in_the_source_has_a_row() -> None:
    source = {**codes_in_source(), "members-differ": "hosts.py"}
    assert set(source) == set(ROWS), {code: source.get(code) for code in set(source) ^ set(ROWS)}


@pytest.mark.parametrize(
    ("code", "number"), [(code, number) for code, rows in ROWS.items() for number in range(len(rows))]
)
def test_the_refusal_is_made_and_says_what_where_and_what_would_work(
    world: Any, tmp_path: Path, code: str, number: int
) -> None:
    refusals = ROWS[code][number](world, tmp_path)
    found = [refusal for refusal in refusals if refusal.code == code]
    assert found, [refusal.lines() for refusal in refusals]
    for refusal in found:
        assert refusal.where and refusal.what and refusal.fix
        assert len(refusal.what) > 15 and len(refusal.fix) > 10
        # A name, number, path or key stands in it, not only general words.
        assert any(letter.isdigit() or letter in "_-=./" for letter in "".join(refusal.lines()))
        text = "\n".join(refusal.lines())
        assert "None" not in text and "{" not in refusal.what, text
        assert refusal.host == "" or "-" in refusal.host


@pytest.mark.parametrize("code", sorted(ROWS))
def test_a_refused_inventory_leaves_no_plan(world: Any, tmp_path: Path, code: str) -> None:
    facts = world.hosts("cpu")
    good = {"good": {"model": "glm-4.7-tiny", "hosts": list(facts)}}
    assert world.plan(facts, good).plans
    assert not world.plan(facts, {**good, "Bad": {}}).plans


def test_severity_is_known_for_every_fault_that_facts_can_name(world: Any) -> None:
    from ansible_collections.baremetal.sglang.plugins.module_utils.facts.faults import TEXTS

    assert set(world.data_files.policy["faults"]) == set(TEXTS)


def test_a_fault_of_a_gpu_does_not_stop_an_instance_on_the_cpu(world: Any) -> None:
    faults = (Fault("driver-missing", "driver", "no driver", "install it"),)
    assert world.codes("cpu", host={"faults": faults}, model="glm-4.7-tiny", device="cpu") == []


def test_unknown_faults_are_refused_rather_than_ignored(world: Any) -> None:
    faults = (Fault("new-fault", "thing", "something is wrong", "mend it"),)
    assert world.codes("cpu", host={"faults": faults}, model="glm-4.7-tiny") == ["host-fault"]


def test_quantization_of_the_tests_is_the_catalogues(world: Any) -> None:
    assert isinstance(world.catalogues.models["glm-4.7-int8"].quantization, Quantization)
