# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped release catalogue, its locks and its flag contracts agree with each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.entries import Release, Variant
from ansible_collections.baremetal.sglang.plugins.module_utils.catalogue.loading import load_releases
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.check import check_arguments
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.flags.contract import (
    contract_from,
    render,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.sglang.rest import EngineMemory
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import parse_lock
from packaging.requirements import Requirement
from packaging.version import Version

FILES = Path(__file__).parents[3] / "files"
SGLANG = FILES / "engines/sglang"
DOCUMENTS: dict[str, Any] = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((SGLANG / "releases").glob("*.yml"))
}
CONTRACTS: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (SGLANG / "flags").glob("[0-9]*.json")
}
CUDA: dict[str, Any] = yaml.safe_load((FILES / "cuda.yml").read_text(encoding="utf-8"))
SCHEMA = json.loads((FILES / "schemas/release.schema.json").read_text(encoding="utf-8"))
MEMORY = json.loads((SGLANG / "schemas/release_memory.schema.json").read_text(encoding="utf-8"))
RELEASES, PROBLEMS = load_releases(DOCUMENTS, CUDA["tags"], CONTRACTS, EngineMemory)
VARIANTS = [(release, variant) for release in RELEASES.values() for variant in release.variants]
LOCKS = [
    (release, variant, python, file)
    for release, variant in VARIANTS
    for python, file in variant.locks.items()
]


def name(value: Any) -> str:
    if isinstance(value, Release):
        return value.key
    return f"{value.cuda}-{value.arch}" if isinstance(value, Variant) else str(value)


def pins(file: str) -> dict[str, str]:
    text = (SGLANG / "locks" / file).read_text(encoding="utf-8")
    return {pin.name: pin.version for pin in parse_lock(text)}


def test_everything_loads() -> None:
    assert PROBLEMS == []
    assert set(RELEASES) == {"0.5.7", "0.5.9", "0.5.10.post1", "0.5.17", "0.5.23"}


@pytest.mark.parametrize("file", sorted(DOCUMENTS))
def test_file_follows_the_schema(file: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(DOCUMENTS[file])
    jsonschema.Draft202012Validator(MEMORY).validate(DOCUMENTS[file]["memory"])
    assert f"{DOCUMENTS[file]['version']}.yml" == file


@pytest.mark.parametrize("key", ["colour", "driver"])
def test_the_schema_refuses_what_it_does_not_know(key: str) -> None:
    broken = {**DOCUMENTS["0.5.23.yml"], key: 1}
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(broken)


@pytest.mark.parametrize(("release", "variant"), VARIANTS, ids=name)
def test_variant(release: Release, variant: Variant) -> None:
    floor = CUDA["tags"][variant.cuda]
    assert (variant.driver, variant.driver_native) == (floor["minor_compatible"], floor["native"])
    assert variant.index == "default" or variant.index in CUDA["indexes"]
    assert set(variant.locks) <= set(variant.python)
    # The default index is at hand when locks are made, so every Python that it serves has one.
    assert (set(variant.locks) == set(variant.python)) == (variant.index == "default")
    if variant.index == "default":
        assert release.components.items() - variant.components.items() <= {
            ("ptxas", release.components["ptxas"])
        }


@pytest.mark.parametrize(("release", "variant", "python", "file"), LOCKS, ids=name)
def test_lock(release: Release, variant: Variant, python: str, file: str) -> None:
    text = (SGLANG / "locks" / file).read_text(encoding="utf-8")
    assert file == f"{release.version}-{variant.cuda}-{variant.arch}-py{python}.txt"
    held = parse_lock(text)
    assert all(len(pin.sha256) == 1 for pin in held)
    assert len(held) == len({pin.name for pin in held}) > 100
    assert not re.search(r"https?:|--(index|extra|find)|file:|[a-z0-9-]+\.(org|com|io)\b|/root|/home", text)
    found = pins(file)
    assert found["sglang"] == release.version
    assert found["torch"] == variant.components["torch"]


@pytest.mark.parametrize(("release", "variant", "python", "file"), LOCKS, ids=name)
def test_lock_keeps_the_constraints(release: Release, variant: Variant, python: str, file: str) -> None:
    found = pins(file)
    common = [
        line for key, lines in CUDA["constraints"].items() if variant.cuda.startswith(key) for line in lines
    ]
    assert common
    for line in (*common, *variant.constraints, *variant.overrides):
        requirement = Requirement(line)
        if requirement.name in found:
            assert requirement.specifier.contains(Version(found[requirement.name]))


@pytest.mark.parametrize(("release", "variant", "python", "file"), LOCKS, ids=name)
def test_lock_is_of_one_cuda(release: Release, variant: Variant, python: str, file: str) -> None:
    """No runtime library of the other CUDA major, and a compiler of the runtime's minor version."""
    found = pins(file)
    other = {"cu12": "cu13", "cu13": "cu12"}[variant.cuda[:4]]
    stray = [item for item in found if item.startswith("nvidia-") and item.endswith(f"-{other}")]
    # The CUTLASS compiler of the CUDA 13 trees ships both of its halves; it links neither runtime.
    assert set(stray) <= {"nvidia-cutlass-dsl-libs-cu12"}
    if variant.cuda == "cu130":
        minors = {
            found[item].rsplit(".", 1)[0]
            for item in (
                "nvidia-cuda-nvcc",
                "nvidia-cuda-crt",
                "nvidia-cuda-cccl",
                "nvidia-cuda-nvrtc",
                "nvidia-cuda-runtime",
                "nvidia-nvvm",
            )
        }
        assert minors == {"13.0"}
    else:
        assert found["cuda-python"].startswith("12.")
        assert not any(item.startswith("nvidia-cuda-nvcc") for item in found)


def test_every_lock_file_is_used() -> None:
    assert {path.name for path in (SGLANG / "locks").glob("*.txt")} == {file for *_unused, file in LOCKS}


@pytest.mark.parametrize("version", sorted(CONTRACTS))
def test_contract_is_written_as_the_tool_writes_it(version: str) -> None:
    data = CONTRACTS[version]
    text = (SGLANG / f"flags/{version}.json").read_text(encoding="utf-8")
    assert data["version"] == version
    assert text == render(version, data["wheel"], data)
    assert re.fullmatch(r"[0-9a-f]{64}", data["wheel"]["sha256"])


@pytest.mark.parametrize(
    ("version", "flags", "spellings"),
    [
        ("0.5.7", 313, 321),
        ("0.5.9", 331, 341),
        ("0.5.10.post1", 354, 365),
        ("0.5.17", 474, 491),
        ("0.5.23", 531, 559),
    ],
)
def test_contract_holds_as_many_options_as_the_server_prints(
    version: str, flags: int, spellings: int
) -> None:
    contract = contract_from(CONTRACTS[version])
    assert (len(contract.flags), len(contract.spellings)) == (flags, spellings)
    assert not any(flag.choices_unreadable for flag in contract.flags.values())


@pytest.mark.parametrize(
    ("flag", "present"),
    [
        ("admin-api-key", "-YYYY"),
        ("ssl-certfile", "--YYY"),
        ("cuda-graph-max-bs", "YYYD-"),
        ("disable-cuda-graph", "YYYDD"),
        ("cuda-graph-backend-decode", "---YY"),
        ("enable-piecewise-cuda-graph", "YYD--"),
        ("disable-piecewise-cuda-graph", "--YD-"),
        ("enable-dp-attention", "YYYYD"),
        ("stream-output", "YYDD-"),
        ("fp4-gemm-backend", "-YYYY"),
        ("enable-strict-thinking", "---YY"),
        ("speculative-ngram-branch-length", "YY---"),
        ("trust-request-chat-template", "----Y"),
        ("tool-call-parser", "YYYYY"),
        ("nccl-init-addr", "YYYYY"),
        ("config", "YYYYY"),
    ],
)
def test_history_of_a_flag(flag: str, present: str) -> None:
    found = ""
    for version in ("0.5.7", "0.5.9", "0.5.10.post1", "0.5.17", "0.5.23"):
        entry = contract_from(CONTRACTS[version]).flag(flag)
        found += "-" if entry is None else "D" if entry.deprecated else "Y"
    assert found == present


@pytest.mark.parametrize(
    ("architecture", "present"),
    [
        ("Glm4MoeForCausalLM", "YYYYY"),
        ("Glm4MoeLiteForCausalLM", "-YYYY"),
        ("Glm4MoeLiteForCausalLMNextN", "---YY"),
        ("GlmMoeDsaForCausalLM", "-YYYY"),
        ("Glm5NextForConditionalGeneration", "----Y"),
    ],
)
def test_history_of_a_model_class(architecture: str, present: str) -> None:
    versions = ("0.5.7", "0.5.9", "0.5.10.post1", "0.5.17", "0.5.23")
    assert (
        "".join("Y" if architecture in RELEASES[item].architectures else "-" for item in versions) == present
    )


@pytest.mark.parametrize("release", RELEASES.values(), ids=name)
def test_cpu_arguments_are_flags_of_the_release(release: Release) -> None:
    for part in ("arguments", "arguments_multi"):
        given = [(flag, value, "cpu") for flag, value in release.cpu.get(part, {}).items()]
        accepted, problems = check_arguments(contract_from(CONTRACTS[release.version]), given)
        assert problems == []
        assert [item.flag for item in accepted] == [flag for flag, *_unused in given]
    assert bool(release.cpu) == any("cpu" in variant.devices for variant in release.variants)


def test_below_the_security_floor() -> None:
    below = {key for key, release in RELEASES.items() if release.security}
    assert below == {"0.5.7", "0.5.9"}
    for release in RELEASES.values():
        for hole in (*release.security, *release.mitigated):
            assert Version(hole["fixed_in"]) > Version(release.version)


@pytest.mark.parametrize("release", RELEASES.values(), ids=name)
def test_compiler_in_the_tree(release: Release) -> None:
    """CUDA 12 trees bring no nvcc, CUDA 13 trees do: what compiles at start depends on it."""
    for variant in release.variants:
        assert ("nvcc" in {**release.components, **variant.components}) == variant.cuda.startswith("cu13")
