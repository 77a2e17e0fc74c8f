# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.abi import (
    Pairing,
    SharedObject,
    Symbol,
    prove,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.elf_wheels import load_rules

RULES = load_rules()
PAIRING = Pairing("kernels 1.0", "torch 2.0", "3.11", "2.34", "cu130")

# Mangled names as a compiler writes them.
CHECK = "_ZN3c106detail14torchCheckFailEPKcS2_jS2_"
LOGGER = "_ZN3c1013MessageLoggerC1ENS_14SourceLocationEib"
CUDA_CALL = Symbol("cudaGetDevice", "libcudart.so.13", "libcudart.so.13")
MEMCPY = Symbol("memcpy", "GLIBC_2.14", "libc.so.6")


def exports(*names: str) -> dict[str, frozenset[str]]:
    return {"": frozenset(names)}


LIBRARIES = {
    "libc10.so": SharedObject("torch/lib/libc10.so", ("libc.so.6",), exported=exports(CHECK)),
    "libtorch.so": SharedObject("torch/lib/libtorch.so", ("libtorch_cpu.so",)),
    "libtorch_cpu.so": SharedObject(
        "torch/lib/libtorch_cpu.so", ("libc10.so", "libcudart.so.13"), exported=exports("_ZN2at1tE")
    ),
    "libcudart.so.13": SharedObject(
        "nvidia/cu13/lib/libcudart.so.13",
        exported={"libcudart.so.13": frozenset({"cudaGetDevice"})},
    ),
}
KERNEL = SharedObject(
    "kernels/ops.abi3.so",
    ("libtorch.so", "libcudart.so.13", "libcuda.so.1", "libc.so.6"),
    (
        Symbol(CHECK),
        Symbol("_ZN2at1tE"),
        CUDA_CALL,
        MEMCPY,
        Symbol("PyModule_Create2"),
        Symbol("cuGetErrorString"),
        Symbol("__gmon_start__", weak=True),
    ),
)


def asking(*symbols: Symbol, needed: tuple[str, ...] = ()) -> SharedObject:
    return replace(KERNEL, needed=(*KERNEL.needed, *needed), undefined=(*KERNEL.undefined, *symbols))


def proof(*kernels: SharedObject, pairing: Pairing = PAIRING, **libraries: Any) -> dict[str, Any]:
    return prove(kernels, {**LIBRARIES, **libraries}, RULES, pairing)


def test_a_pair_that_fits_is_proven_with_what_it_takes_from_the_host() -> None:
    found = proof(KERNEL)
    assert found["proven"], found["what"]
    assert found["missing"] == found["libraries_missing"] == []
    assert found["objects"] == ["kernels/ops.abi3.so"]
    assert found["symbols"] == 6
    assert found["host"] == {"GLIBC": "2.14"}
    assert found["driver_symbols"] == ["cuGetErrorString"]
    assert found["fix"] == ""


@pytest.mark.parametrize(
    ("symbol", "missing"),
    [
        (Symbol(LOGGER), True),
        (Symbol(LOGGER, weak=True), False),
        # A runtime call is no driver call, and an own symbol of a library is no Python.
        (Symbol("cudaNewCall"), True),
        (Symbol("MyPyHelper"), True),
        (Symbol("_PyObject_New"), False),
        # The library is there and has the name, at another version.
        (Symbol("cudaGetDevice", "libcudart.so.14", "libcudart.so.13"), True),
        # A version is asked of one library: another that has the name does not help.
        (Symbol("_ZN2at1tE", "X_1", "libcudart.so.13"), True),
        # A library without versions satisfies them all.
        (Symbol(CHECK, "X_1", "libc10.so"), False),
        # An unversioned use takes a versioned definition.
        (Symbol("cudaGetDevice"), False),
    ],
)
def test_a_symbol_that_nobody_has_is_named_with_its_object(symbol: Symbol, missing: bool) -> None:
    found = proof(asking(symbol))
    named = [{"symbol": symbol.name, "object": KERNEL.name}] if missing else []
    assert found["missing"] == named
    assert found["proven"] is not missing
    assert (symbol.name in found["what"]) is missing
    assert bool(found["fix"]) is missing


def test_only_what_an_object_reaches_counts() -> None:
    stranger = SharedObject("other/libother.so", exported=exports(LOGGER))
    libraries = {"libother.so": stranger}
    assert not proof(asking(Symbol(LOGGER)), **libraries)["proven"]
    assert proof(asking(Symbol(LOGGER), needed=("libother.so",)), **libraries)["proven"]


def test_without_needing_the_driver_its_symbols_are_missing() -> None:
    bare = replace(KERNEL, needed=tuple(name for name in KERNEL.needed if name != "libcuda.so.1"))
    assert [entry["symbol"] for entry in proof(bare)["missing"]] == ["cuGetErrorString"]


def test_a_library_that_no_wheel_holds_is_named_once_and_not_by_its_symbols() -> None:
    gone = Symbol("nccl_call", "NCCL_2", "libnccl.so.2")
    found = proof(asking(gone, needed=("libnccl.so.2",)))
    assert found["libraries_missing"] == [{"library": "libnccl.so.2", "object": KERNEL.name}]
    assert found["missing"] == []
    assert "libnccl.so.2" in found["what"]


def test_a_library_that_torch_itself_lacks_is_found() -> None:
    torch = replace(LIBRARIES["libtorch_cpu.so"], needed=("libc10.so", "libcudart.so.13", "libcupti.so.13"))
    found = proof(KERNEL, **{"libtorch_cpu.so": torch})
    assert found["libraries_missing"] == [
        {"library": "libcupti.so.13", "object": "torch/lib/libtorch_cpu.so"}
    ]


@pytest.mark.parametrize(
    ("needed", "tag", "words"),
    [
        (("libcudart.so.12",), "", ["CUDA 12", "torch 2.0 needs libcudart.so.13"]),
        (("libcudart.so.13",), "cu128", ["CUDA 13", "the release is for cu128"]),
        (("libcudart.so.12", "libcudart.so.13"), "", ["CUDA 12 and 13", "both"]),
        (("libcudart.so.13",), "cu130", []),
        (("libcudart.so.13",), "", []),
    ],
)
def test_two_cuda_runtimes_are_refused_even_where_both_are_there(
    needed: tuple[str, ...], tag: str, words: list[str]
) -> None:
    kernel = SharedObject("kernels/ops.so", ("libtorch.so", *needed), (Symbol("_ZN2at1tE"),))
    found = proof(
        kernel, pairing=replace(PAIRING, cuda=tag), **{"libcudart.so.12": SharedObject("a/libcudart.so.12")}
    )
    assert found["proven"] is not bool(words)
    assert all(word in found["what"] for word in words)
    assert (tag or "the CUDA of torch 2.0") in found["fix"] or not words


def test_kernels_for_another_python_are_left_out_and_named() -> None:
    other = replace(asking(Symbol("missing_one")), name="kernels/more.cpython-310-x86_64-linux-gnu.so")
    found = proof(KERNEL, other)
    assert found["proven"]
    assert found["objects_of_other_pythons"] == [other.name]
    same = proof(KERNEL, replace(other, name="kernels/more.cpython-311-x86_64-linux-gnu.so"))
    assert [entry["symbol"] for entry in same["missing"]] == ["missing_one"]


def test_no_kernel_for_this_python_is_no_proof() -> None:
    assert not proof()["proven"]
    assert not proof(replace(KERNEL, name="k.cpython-310-x86_64-linux-gnu.so"))["proven"]


@pytest.mark.parametrize(("asked", "proven"), [("2.34", True), ("2.35", False), ("2.9", True)])
def test_a_newer_glibc_than_the_lock_is_for_is_refused(asked: str, proven: bool) -> None:
    found = proof(asking(Symbol("strlcpy", f"GLIBC_{asked}", "libc.so.6")))
    assert found["proven"] is proven
    assert (f"glibc {asked}" in found["what"]) is not proven


def test_a_library_of_a_package_is_asked_of_the_host_and_recorded() -> None:
    numa = Symbol("numa_available", "libnuma_1.1", "libnuma.so.1")
    found = proof(asking(numa, needed=("libnuma.so.1",)))
    assert found["proven"]
    assert found["host_packages"] == ["libnuma.so.1"]
    assert "libnuma" not in found["host"]


class Counting(Mapping[str, SharedObject]):
    """Libraries that say which of them were read."""

    def __init__(self, libraries: Mapping[str, SharedObject]) -> None:
        self.libraries = libraries
        self.read: list[str] = []

    def __getitem__(self, name: str) -> SharedObject:
        self.read.append(name)
        return self.libraries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.libraries)

    def __len__(self) -> int:
        return len(self.libraries)

    def __contains__(self, name: object) -> bool:
        return name in self.libraries


def test_a_library_is_not_read_once_every_symbol_is_found() -> None:
    libraries = Counting({**LIBRARIES, "libhuge.so": SharedObject("a/libhuge.so")})
    kernel = SharedObject("ops.so", ("libc10.so", "libhuge.so"), (Symbol(CHECK),))
    assert prove([kernel], libraries, RULES, PAIRING)["proven"]
    assert libraries.read == ["libc10.so"]


def test_a_loop_of_needed_libraries_ends() -> None:
    loop = {
        "a.so": SharedObject("a.so", ("b.so",)),
        "b.so": SharedObject("b.so", ("a.so",)),
    }
    found = proof(asking(Symbol(LOGGER), needed=("a.so",)), **loop)
    assert len(found["missing"]) == 1


def test_tables_survive_their_file() -> None:
    again = SharedObject.from_dict(KERNEL.to_dict())
    assert again == KERNEL
    cudart = LIBRARIES["libcudart.so.13"]
    assert SharedObject.from_dict(cudart.to_dict()) == cudart
