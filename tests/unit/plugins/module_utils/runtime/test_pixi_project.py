# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pixi.toml and pixi.lock as text, and what a host takes of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import tomllib
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.pixi_project import (
    HERE,
    CondaPackage,
    PixiEnvironment,
    WheelFile,
    bundle_paths,
    environment_name,
    lock,
    project,
)

NINJA = CondaPackage(
    "ninja-1.10-0.conda", "ninja", "1.10",
    {"build": "0", "build_number": 0, "subdir": "linux-64", "sha256": "a" * 64, "depends": ["__glibc >=2.17"], "constrains": []},
)  # fmt: skip
WHEEL = WheelFile("torch-2.9.1-cp311-x.whl", "torch", "2.9.1", "b" * 64)


def variant(name: str, platform: str = "linux-64", cuda: str = "12.8") -> PixiEnvironment:
    return PixiEnvironment(
        name, platform, cuda, "2.34", "3.11", ("python 3.11.*", "ninja"), (NINJA,), (WHEEL,)
    )


@pytest.mark.parametrize(
    ("release", "cuda", "python", "name"),
    [
        ("0.5.9", "cu128", "3.11", "v0-5-9-cu128-py311"),
        ("0.5.10.post1", "cu126", "3.10", "v0-5-10-post1-cu126-py310"),
    ],
)
def test_names_are_what_pixi_takes(release: str, cuda: str, python: str, name: str) -> None:
    assert environment_name(release, cuda, python) == name


def test_lock_names_every_package_once_with_its_hash() -> None:
    found = yaml.safe_load(lock([variant("a"), variant("b", cuda="12.6"), variant("b", "linux-aarch64")]))
    assert found["version"] == 6
    assert set(found["environments"]) == {"a", "b"}
    assert set(found["environments"]["b"]["packages"]) == {"linux-64", "linux-aarch64"}
    assert [entry["sha256"] for entry in found["packages"]] == ["a" * 64, "b" * 64]
    conda, wheel = found["packages"]
    # A version that looks like a number stays text.
    assert (conda["version"], conda["depends"]) == ("1.10", ["__glibc >=2.17"])
    assert "constrains" not in conda
    assert wheel["pypi"].endswith("/wheels/torch-2.9.1-cp311-x.whl")


def test_project_asks_the_machine_for_its_cuda() -> None:
    found = tomllib.loads(project([variant("a"), variant("cpu", cuda="")]))
    assert found["feature"]["a"]["system-requirements"] == {"libc": "2.34", "cuda": "12.8"}
    assert found["feature"]["cpu"]["system-requirements"] == {"libc": "2.34"}
    assert found["feature"]["a"]["dependencies"] == {"python": "3.11.*", "ninja": "*"}
    assert found["environments"]["a"] == {"features": ["a"], "no-default-feature": True}


def test_no_address_of_an_index_and_no_place_of_this_machine() -> None:
    for text in (lock([variant("a")]), project([variant("a")])):
        assert "http" not in text
        assert {line.split("file:///")[1][:8] for line in text.splitlines() if "file:///" in line} == {
            "@BUNDLE@"
        }


def test_here_puts_the_place_in(tmp_path: Path) -> None:
    folder = tmp_path / "a bundle/pixi"
    folder.mkdir(parents=True)
    (folder / "here.sh").write_text(HERE)
    (folder / "pixi.lock").write_text(lock([variant("a")]))
    (folder / "pixi.toml").write_text(project([variant("a")]))
    subprocess.run(["sh", folder / "here.sh", tmp_path / "out"], check=True)
    text = (tmp_path / "out/pixi.lock").read_text()
    assert f"file://{folder.parent}/conda/linux-64/ninja-1.10-0.conda" in text
    assert "@BUNDLE@" not in text + (tmp_path / "out/pixi.toml").read_text()


def test_a_host_takes_what_its_machine_needs() -> None:
    files = [
        "conda/linux-64/a-1-0.conda", "conda/linux-64/repodata.json", "conda/linux-aarch64/a-1-0.conda",
        "conda/noarch/b-1-0.tar.bz2", "pixi/pixi.lock", "pixi/pixi.toml", "wheels/torch-2-cp311-x_x86_64.whl",
        "wheels/py_rattler-0.28.0-cp310-abi3-manylinux_2_17_x86_64.whl",
        "wheels/py_rattler-0.28.0-cp310-abi3-manylinux_2_17_aarch64.whl",
    ]  # fmt: skip
    assert bundle_paths(files, "x86_64") == [
        "conda/linux-64/a-1-0.conda", "conda/noarch/b-1-0.tar.bz2", "pixi/pixi.lock",
        "wheels/py_rattler-0.28.0-cp310-abi3-manylinux_2_17_x86_64.whl",
    ]  # fmt: skip
