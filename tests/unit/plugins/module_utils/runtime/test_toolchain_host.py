# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CUDA_HOME of links, over trees laid out as the wheels and as conda packages lay them out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.toolchain_host import (
    lay_out,
    unversioned,
)

WHEELS = "lib/python3.12/site-packages/nvidia/cu13"


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    put(
        tmp_path / "env",
        *(f"{WHEELS}/bin/{name}" for name in ("nvcc", "ptxas", "nvcc.profile", "crt/link.stub")),
        f"{WHEELS}/include/cuda.h",
        f"{WHEELS}/nvvm/bin/cicc",
        *(f"{WHEELS}/lib/{name}" for name in ("libcudart.so.13", "libcudart_static.a", "libcupti.so")),
        f"{WHEELS}/lib/libnvrtc-builtins.so.13.0",
    )
    return tmp_path / "env"


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    put(
        tmp_path / "env",
        "bin/nvcc", "bin/ptxas", "bin/nvcc.profile", "bin/python3.12", "nvvm/bin/cicc",
        "targets/x86_64-linux/include/cuda.h",
        "targets/x86_64-linux/lib/libcudart.so.12.8.90",
        "targets/x86_64-linux/lib/stubs/libcuda.so",
    )  # fmt: skip
    return tmp_path / "env"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_wheels(wheels: Path) -> None:
    home = Path(lay_out(str(wheels)))
    assert home == wheels / "cuda"
    assert {"bin/nvcc", "bin/nvcc.profile", "bin/crt", "include", "nvvm", "lib"} <= names(home)
    assert (home / "include/cuda.h").read_text() == f"{WHEELS}/include/cuda.h"
    assert (home / "lib64/libcudart.so").read_text() == f"{WHEELS}/lib/libcudart.so.13"
    assert (home / "lib/libcupti.so").read_text() == f"{WHEELS}/lib/libcupti.so"
    assert (home / "lib64/libnvrtc-builtins.so").exists()
    assert (home / "lib64/stubs/libcuda.so").read_text() == "INPUT(libcuda.so.1)\n"


def test_programs_are_linked_one_by_one(wheels: Path) -> None:
    """nvcc looks beside the name that it was called by: a link to the folder would lead it away."""
    home = Path(lay_out(str(wheels)))
    assert not (home / "bin").is_symlink()
    assert (home / "bin/nvcc").is_symlink()


def test_links_hold_after_the_environment_moved(wheels: Path) -> None:
    lay_out(str(wheels))
    moved = wheels.with_name("published")
    wheels.rename(moved)
    links = [path for path in (moved / "cuda").rglob("*") if path.is_symlink()]
    assert links
    assert [path for path in links if not path.exists() or os.readlink(path).startswith("/")] == []


def test_second_time_changes_nothing(wheels: Path) -> None:
    home = lay_out(str(wheels))
    before = {path: os.lstat(path).st_mtime_ns for path in Path(home).rglob("*")}
    assert lay_out(str(wheels)) == home
    assert {path: os.lstat(path).st_mtime_ns for path in Path(home).rglob("*")} == before


def test_what_a_cut_off_run_left_is_replaced(wheels: Path) -> None:
    put(wheels, "cuda.partial/bin/rubbish")
    home = Path(lay_out(str(wheels)))
    assert not (home / "bin/rubbish").exists()
    assert not (wheels / "cuda.partial").exists()


def test_conda(conda: Path) -> None:
    home = Path(lay_out(str(conda)))
    assert names(home / "bin") == {"nvcc", "ptxas", "nvcc.profile"}
    assert (home / "include/cuda.h").exists()
    assert (home / "lib64/libcudart.so").resolve().name == "libcudart.so.12.8.90"
    assert (home / "lib64/stubs/libcuda.so").read_text() == "targets/x86_64-linux/lib/stubs/libcuda.so"


def test_no_compiler_no_home(wheels: Path) -> None:
    """CUDA 12 wheels hold ptxas and headers only."""
    (wheels / WHEELS / "bin/nvcc").unlink()
    assert lay_out(str(wheels)) == ""
    assert not (wheels / "cuda").exists()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["libcudart.so.13"], {"libcudart.so": "libcudart.so.13"}),
        (["liba.so.9", "liba.so.10"], {"liba.so": "liba.so.10"}),
        (["liba.so", "liba.so.10"], {}),
        (["libnvrtc.alt.so.13", "libnvrtc.so.13"],
         {"libnvrtc.alt.so": "libnvrtc.alt.so.13", "libnvrtc.so": "libnvrtc.so.13"}),
        (["libx.a", "README"], {}),
    ],
)  # fmt: skip
def test_unversioned(names: list[str], wanted: dict[str, str]) -> None:
    assert unversioned(names) == wanted


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a linker")
def test_the_driver_is_linked_through_the_script(wheels: Path, tmp_path: Path) -> None:
    """-lcuda finds the driver's own library, which has no development name."""
    (tmp_path / "driver.c").write_text("int cuInit(int x) { return x; }\n")
    (tmp_path / "user.c").write_text("int cuInit(int);\nint run(void) { return cuInit(0); }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "driver.c", "-o", "libcuda.so.1"],
                   cwd=tmp_path, check=True)  # fmt: skip
    stubs = Path(lay_out(str(wheels))) / "lib64/stubs"
    subprocess.run(["gcc", "-shared", "-fPIC", "user.c", f"-L{stubs}", f"-L{tmp_path}", "-lcuda", "-o", "user.so"],
                   cwd=tmp_path, check=True)  # fmt: skip
    assert b"libcuda.so.1" in (tmp_path / "user.so").read_bytes()
