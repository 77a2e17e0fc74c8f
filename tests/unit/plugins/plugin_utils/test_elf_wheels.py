# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.abi import SharedObject, Symbol
from ansible_collections.baremetal.sglang.plugins.plugin_utils import elf_wheels

LIBC10 = 'int torch_check(void) { return 1; }\n__attribute__((visibility("hidden"))) int inside(void) { return 2; }\n'
CUDART = "int cudaGetDevice(int *n) { *n = 0; return 0; }\n"
OPS = """
#include <stdlib.h>
int torch_check(void); int cudaGetDevice(int *n); void PyErr_Clear(void);
__attribute__((weak)) void optional(void);
int ops(void) { int n; void *p = malloc(4); free(p); PyErr_Clear(); if (optional) optional();
  return torch_check() + cudaGetDevice(&n)EXTRA; }
"""


def compiled(folder: Path, name: str, source: str, *options: str) -> Path:
    gcc = shutil.which("gcc")
    assert gcc, (
        "gcc is needed to make the objects of this test: install the packages of bindep.txt, profile lab"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.c").write_text(source)
    target = folder / name
    command = [gcc, "-shared", "-fPIC", "-o", str(target), str(folder / "source.c"), f"-Wl,-soname,{name}"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return target


def objects_in(folder: Path, extra: str = "", declare: str = "") -> dict[str, Path]:
    """A library of torch, a CUDA runtime with versions, and kernels that need both."""
    (folder / "cudart.map").parent.mkdir(parents=True, exist_ok=True)
    (folder / "cudart.map").write_text("libcudart.so.13 { global: cuda*; local: *; };\n")
    c10 = compiled(folder, "libc10.so", LIBC10)
    cudart = compiled(folder, "libcudart.so.13", CUDART, f"-Wl,--version-script={folder / 'cudart.map'}")
    source = declare + OPS.replace("EXTRA", extra)
    ops = compiled(folder, "ops.abi3.so", source, "-Wl,--no-as-needed", str(c10), str(cudart))
    return {"torch/lib": c10, "nvidia/cu13/lib": cudart, "kernels": ops}


def wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / f"{name}-py3-none-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def wheels_of(folder: Path, objects: dict[str, Path]) -> dict[Path, str]:
    names = {
        "torch/lib": "torch-2.0",
        "nvidia/cu13/lib": "nvidia_cuda_runtime-13.0",
        "kernels": "sgl_kernel-1.0",
    }
    made = [
        wheel(folder, names[where], {f"{where}/{path.name}": path.read_bytes(), "x/METADATA": b""})
        for where, path in objects.items()
    ]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


def proven(tmp_path: Path, wheels: dict[Path, str]) -> list[dict[str, Any]]:
    return elf_wheels.prove_wheels(wheels, elf_wheels.SymbolTables(tmp_path / "abi"), "3.11", "2.34", "cu130")


def test_reads_what_a_compiler_and_linker_wrote(tmp_path: Path) -> None:
    made = objects_in(tmp_path)
    with made["kernels"].open("rb") as stream:
        ops = elf_wheels.read_object("ops", stream)
    assert ops.needed[:2] == ("libc10.so", "libcudart.so.13")
    by_name = {symbol.name: symbol for symbol in ops.undefined}
    assert by_name["torch_check"] == Symbol("torch_check")
    assert by_name["cudaGetDevice"] == Symbol("cudaGetDevice", "libcudart.so.13", "libcudart.so.13")
    assert by_name["optional"].weak
    assert by_name["malloc"].library == "libc.so.6"
    assert by_name["malloc"].version.startswith("GLIBC_")
    assert "ops" in ops.exported[""]
    with made["torch/lib"].open("rb") as stream:
        assert elf_wheels.read_object("c10", stream).exported == {"": frozenset({"torch_check"})}
    with made["nvidia/cu13/lib"].open("rb") as stream:
        exported = elf_wheels.read_object("cudart", stream).exported
    assert "cudaGetDevice" in exported["libcudart.so.13"]


def test_a_pair_that_belongs_together_is_proven(tmp_path: Path) -> None:
    (record,) = proven(tmp_path, wheels_of(tmp_path, objects_in(tmp_path)))
    assert record["proven"], record["what"]
    assert record["objects"] == ["kernels/ops.abi3.so"]
    assert record["wheels"][1].startswith("torch-2.0")


@pytest.mark.parametrize(
    ("extra", "declare"),
    [("", ""), (" + torch_newer()", "int torch_newer(void);"), (" + inside()", "int inside(void);")],
)
def test_the_loader_of_this_machine_says_the_same(tmp_path: Path, extra: str, declare: str) -> None:
    objects = objects_in(tmp_path, extra, declare)
    (record,) = proven(tmp_path, wheels_of(tmp_path, objects))
    load = f"import ctypes, os; ctypes.CDLL({str(objects['kernels'])!r}, mode=os.RTLD_NOW)"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=False
    )
    assert record["proven"] is (done.returncode == 0), done.stderr
    assert all(f"undefined symbol: {entry['symbol']}" in done.stderr for entry in record["missing"])


def test_kernels_of_another_torch_are_not(tmp_path: Path) -> None:
    objects = objects_in(tmp_path, " + torch_newer()", "int torch_newer(void);")
    (record,) = proven(tmp_path, wheels_of(tmp_path, objects))
    assert not record["proven"]
    assert record["missing"] == [{"symbol": "torch_newer", "object": "kernels/ops.abi3.so"}]


def test_a_hidden_definition_does_not_count(tmp_path: Path) -> None:
    objects = objects_in(tmp_path, " + inside()", "int inside(void);")
    (record,) = proven(tmp_path, wheels_of(tmp_path, objects))
    assert [entry["symbol"] for entry in record["missing"]] == ["inside"]


def test_a_lock_without_kernels_has_nothing_to_prove(tmp_path: Path) -> None:
    wheels = wheels_of(tmp_path, objects_in(tmp_path))
    assert proven(tmp_path, {path: digest for path, digest in wheels.items() if "sgl" not in path.name}) == []


def test_a_second_proof_reads_no_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = wheels_of(tmp_path, objects_in(tmp_path))
    first = proven(tmp_path, wheels)

    def unread(wheel: Path, member: str) -> SharedObject:
        raise AssertionError(f"{wheel.name}: {member} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(elf_wheels, "_read_member", unread)
        assert proven(tmp_path, wheels) == first
    for kept in (tmp_path / "abi").iterdir():
        kept.write_bytes(kept.read_bytes()[:20])
    assert proven(tmp_path, wheels) == first


def test_something_else_with_that_name_is_refused_by_name(tmp_path: Path) -> None:
    wheels = wheels_of(tmp_path, objects_in(tmp_path))
    broken = wheel(tmp_path, "sgl_kernel-2.0", {"kernels/bad.so": b"\x7fELF" + b"\0" * 200})
    pair = {path: digest for path, digest in wheels.items() if "sgl" not in path.name} | {broken: "0"}
    with pytest.raises(elf_wheels.AbiError, match=r"sgl_kernel-2\.0.*kernels/bad\.so"):
        proven(tmp_path, pair)


@pytest.mark.parametrize("head", [64, 512, 4096, 1 << 20])
def test_reading_through_windows_is_reading_the_file(tmp_path: Path, head: int) -> None:
    content = objects_in(tmp_path)["kernels"].read_bytes()
    windows = elf_wheels.Windows(lambda: io.BytesIO(content), len(content), head)
    with io.BytesIO(content) as stream:
        assert elf_wheels.read_object("a", windows) == elf_wheels.read_object("a", stream)
    for start, count in ((0, 10), (len(content) - 5, 10), (len(content), 1), (100, 3000), (1000, -1)):
        windows.seek(start)
        wanted = content[start:] if count < 0 else content[start : start + count]
        assert windows.read(count) == wanted


def test_gpu_code_between_the_tables_is_not_kept(tmp_path: Path) -> None:
    """An object with 40 MB between its symbol table and its sections needs one pass and little memory."""
    source = 'asm(".section .nv_fatbin,\\"a\\"\\n.zero 40000000\\n.text");' + LIBC10
    content = compiled(tmp_path, "libfat.so", source).read_bytes()
    assert len(content) > 40_000_000
    windows = elf_wheels.Windows(lambda: io.BytesIO(content), len(content), 1 << 20)
    assert "torch_check" in elf_wheels.read_object("fat", windows).exported[""]
    assert windows.passes == 1
    assert sum(len(data) for _unused, data in windows.kept) < 6_000_000
