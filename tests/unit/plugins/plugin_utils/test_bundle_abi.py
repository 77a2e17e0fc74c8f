# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle records the proof that its kernels and its torch belong together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_builder import BundleBuilder
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.test_elf_wheels import (
    objects_in,
    wheels_of,
)


def built(folder: Path, extra: str = "", declare: str = "", cuda: str = "cu130") -> BundleBuilder:
    """A bundle of one lock whose wheels are in the cache already."""
    (folder / "made").mkdir(parents=True)
    lines = []
    for wheel, digest in wheels_of(folder / "made", objects_in(folder / "made", extra, declare)).items():
        kept = folder / "cache/wheels" / digest
        kept.mkdir(parents=True)
        shutil.copy(wheel, kept)
        name, version = wheel.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{digest}")
    lock = folder / "engine.txt"
    lock.write_text("\n".join(lines) + "\n")
    builder = BundleBuilder(folder / "bundle", folder / "cache", print)
    builder.add_environment(lock, "3.11", "x86_64", "2.34", cuda)
    with builder.place.alone():
        builder.prepare()
        builder.fill()
    return builder


def test_the_manifest_holds_the_proof(tmp_path: Path) -> None:
    builder = built(tmp_path)
    assert builder.unproven() == []
    builder.installers["x86_64"] = "wheels/torch-2.0-py3-none-manylinux_2_28_x86_64.whl"
    assert builder.finish()
    manifest = json.loads((tmp_path / "bundle/manifest.json").read_text())
    (proof,) = manifest["environments"]["engine.txt"]["abi"]
    assert proof["proven"]
    assert proof["kernel"] == "sgl-kernel 1.0"
    assert proof["torch"] == "torch 2.0"
    assert set(proof["wheels"]) < {entry.split("/")[-1] for entry in manifest["files"]}
    assert len(list((tmp_path / "cache/abi").glob("*.json.gz"))) == 3


@pytest.mark.parametrize(
    ("extra", "declare", "cuda", "word"),
    [
        (" + torch_newer()", "int torch_newer(void);", "cu130", "torch_newer"),
        ("", "", "cu126", "cu126"),
    ],
)
def test_a_pair_that_does_not_fit_is_said_with_its_lock(
    tmp_path: Path, extra: str, declare: str, cuda: str, word: str
) -> None:
    (said,) = built(tmp_path, extra, declare, cuda).unproven()
    first, what, fix = said.splitlines()
    assert first == "REFUSED  engine.txt"
    assert word in what
    assert "resolve the lock again" in fix
