# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wheel that the user built: what is refused before anything is carried, and that a bundle carries the one planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal
from ansible_collections.baremetal.sglang.plugins.module_utils.engines.own_wheel import completed_lock
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content
from ansible_collections.baremetal.sglang.plugins.plugin_utils.given_wheels import read_wheels
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, parse_lock, sha256_of
from ansible_collections.baremetal.sglang.tests.unit.fixtures import lightllm_wheel
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import (
    World,
    manifest_of,
)


def read(given: Any) -> tuple[dict[str, dict[str, str]], list[Refusal]]:
    refusals: list[Refusal] = []
    return read_wheels(given, refusals), refusals


def test_a_whole_wheel_is_taken_with_its_hash(tmp_path: Path) -> None:
    path = lightllm_wheel.build(tmp_path)
    found, refusals = read({"lightllm": str(path)})
    assert not refusals
    assert found == {
        "lightllm": {
            "distribution": "lightllm",
            "name": path.name,
            "version": "1.2.0",
            "sha256": sha256_of(path),
        }
    }


def test_folders_that_were_left_out_are_named_by_their_modules(tmp_path: Path) -> None:
    """What setuptools' find_packages does to folders that have no __init__.py."""
    below = "lightllm/models/some"
    path = lightllm_wheel.build(tmp_path, without=(f"{below}/layer_weights", f"{below}/layer_infer"))
    found, (refusal,) = read({"lightllm": path})
    assert not found and refusal.where == f"engine_wheels.lightllm = {path}"
    assert (
        "lightllm.models.some.layer_weights" in refusal.what
        and "lightllm.models.some.layer_infer" in refusal.what
    )
    assert "forgotten" not in refusal.what and "gone" not in refusal.what
    assert "__init__.py" in refusal.fix


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.whl", "no such file"),
        (lambda folder: lightllm_wheel.build(folder, name="sglang"), "a wheel of sglang, not of lightllm"),
        (lambda folder: Path(__file__), "not a wheel"),
    ],
)
def test_what_is_no_wheel_of_it_is_refused(tmp_path: Path, make: Any, words: str) -> None:
    found, (refusal,) = read({"lightllm": str(make(tmp_path))})
    assert not found and words in refusal.what and refusal.fix


@pytest.mark.parametrize("given", ["/a.whl", ["/a.whl"]])
def test_the_variable_is_a_mapping(given: Any) -> None:
    _found, (refusal,) = read(given)
    assert "mapping" in refusal.what


def test_an_engine_that_an_index_has_takes_none(tmp_path: Path) -> None:
    _found, (refusal,) = read({"sglang": str(lightllm_wheel.build(tmp_path))})
    assert "sglang is no engine whose wheel is given" in refusal.what and "lightllm" in refusal.fix


@pytest.mark.slow
def test_a_bundle_carries_the_wheel_that_was_planned_with(world: World, tmp_path: Path) -> None:
    path = lightllm_wheel.build(tmp_path)
    data = load_data_files([], {"lightllm": str(path)}).engines["lightllm"]
    lock = tmp_path / "1.2.0-cu130-x86_64-py3.12.txt"
    lock.write_text("")
    builder = world.builder()
    whole = builder.with_wheel(lock, data.wheel, [str(path)])
    assert whole.name == lock.name and whole.read_text() == completed_lock("", data.wheel)
    builder.add_environment(whole, "3.12", "x86_64", "2.39", "cu130", release="1.2.0")
    builder.add_installer(world.uv_lock, "x86_64", "2.39")
    world.run(builder)
    folder = world.folder / "bundle"
    manifest = manifest_of(folder)
    assert manifest["files"][f"wheels/{path.name}"]["sha256"] == data.wheel["sha256"]
    (pin,) = parse_lock((folder / "locks" / lock.name).read_text())
    assert (pin.name, pin.version, pin.sha256) == ("lightllm", "1.2.0", frozenset({data.wheel["sha256"]}))
    # Another file of that name is not what was planned with.
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(FetchError, match="plan again with the wheel"):
        builder.with_wheel(lock, data.wheel, [str(path)])


def test_the_lock_of_the_plan_is_the_lock_of_the_bundle(tmp_path: Path) -> None:
    """Its hash decides the name of the environment on the hosts."""
    path = lightllm_wheel.build(tmp_path)
    with_it, without = load_data_files([], {"lightllm": path}), load_data_files([])
    for name, digest in with_it.engines["lightllm"].lock_hashes.items():
        text = Path(__file__).parents[4].joinpath("files/engines/lightllm/locks", name).read_text()
        done = completed_lock(text, with_it.engines["lightllm"].wheel)
        assert digest == bundle_content.hashed(done.encode()) != without.engines["lightllm"].lock_hashes[name]
    assert with_it.engines["sglang"].lock_hashes == without.engines["sglang"].lock_hashes
