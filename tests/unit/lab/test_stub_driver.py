# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ctypes
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

STUB = Path(__file__).parents[3] / "molecule" / "lab" / "stub_driver"
NO_DEVICE = 100
# What the kernel wheel of the pinned release needs before it can be imported.
KERNEL_SYMBOLS = (
    "cuCtxFromGreenCtx",
    "cuCtxGetCurrent",
    "cuCtxGetDevice",
    "cuDeviceGetDevResource",
    "cuGetErrorString",
    "cuGreenCtxCreate",
    "cuTensorMapEncodeTiled",
)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stub_driver_build", STUB / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builder = load()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builder.build(None, tmp_path_factory.mktemp("stub"))


@pytest.fixture(scope="module")
def driver(library: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(library))


def test_two_builds_give_the_same_bytes(library: Path, tmp_path: Path) -> None:
    assert builder.build(None, tmp_path / "elsewhere").read_bytes() == library.read_bytes()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["libcuda.so.1"]


def test_every_listed_function_says_no_device(driver: ctypes.CDLL) -> None:
    names = [
        line[len("NO_DEVICE(") : -1]
        for line in (STUB / "no_device_driver.c").read_text().splitlines()
        if line.startswith("NO_DEVICE(")
    ]
    assert len(names) > 40
    assert {name: getattr(driver, name)() for name in names} == dict.fromkeys(names, NO_DEVICE)


@pytest.mark.parametrize("name", KERNEL_SYMBOLS)
def test_symbols_of_the_kernel_wheel_are_there(driver: ctypes.CDLL, name: str) -> None:
    assert getattr(driver, name)


def test_nothing_but_driver_functions_is_exported(library: Path) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    assert names == builder.symbols(library, "--defined-only")


def test_version_and_errors_are_told(driver: ctypes.CDLL) -> None:
    version, text = ctypes.c_int(), ctypes.c_char_p()
    assert driver.cuDriverGetVersion(ctypes.byref(version)) == 0
    assert version.value >= 13000
    assert driver.cuGetErrorName(NO_DEVICE, ctypes.byref(text)) == 0
    assert text.value == b"CUDA_ERROR_NO_DEVICE"
    assert driver.cuGetErrorString(NO_DEVICE, ctypes.byref(text)) == 0
    assert text.value is not None and b"lab stub driver" in text.value
    assert driver.cuGetErrorName(12345, ctypes.byref(text)) == 1
    assert text.value is None


@pytest.mark.parametrize(
    ("symbol", "code", "calls"),
    [(b"cuInit", 0, NO_DEVICE), (b"cuSomethingNew", 0, NO_DEVICE), (b"nvmlInit", 500, None)],
)
def test_the_runtime_gets_an_entry_point_that_says_no_device(
    driver: ctypes.CDLL, symbol: bytes, code: int, calls: int | None
) -> None:
    address, status = ctypes.c_void_p(), ctypes.c_int(-1)
    got = driver.cuGetProcAddress_v2(
        symbol, ctypes.byref(address), 13000, ctypes.c_uint64(0), ctypes.byref(status)
    )
    assert got == code
    if calls is None:
        assert address.value is None
        return
    assert status.value == 0
    assert ctypes.CFUNCTYPE(ctypes.c_int)(address.value)() == calls


def test_missing_symbols_are_named_with_the_object_that_needs_them(library: Path, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "kernels"
    package.mkdir(parents=True)
    source = tmp_path / "needs.c"
    source.write_text(
        "int cuInit(void); int cuBrandNewCall(void); int cuFileRead(void);"
        "int use(void) { return cuInit() + cuBrandNewCall() + cuFileRead(); }"
    )
    needs = package / "_C.so"
    subprocess.run([builder.find_compiler(), "-shared", "-fPIC", "-o", str(needs), str(source)], check=True)
    assert builder.missing_symbols(tmp_path / "site-packages", library) == {"cuBrandNewCall": needs}


def test_check_fails_and_says_what_to_add(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "needs.c"
    source.write_text("int cuBrandNewCall(void); int use(void) { return cuBrandNewCall(); }")
    needs = tmp_path / "env" / "_C.so"
    needs.parent.mkdir()
    subprocess.run([builder.find_compiler(), "-shared", "-fPIC", "-o", str(needs), str(source)], check=True)
    assert builder.main([str(tmp_path / "out"), "--check", str(tmp_path / "env")]) == 1
    assert "add NO_DEVICE(cuBrandNewCall)" in capsys.readouterr().err


def test_no_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(builder.BuildError, match=r"apt-get install gcc"):
        builder.build(None, tmp_path / "out")


def test_a_failing_compiler_leaves_no_library(tmp_path: Path) -> None:
    with pytest.raises(builder.BuildError, match="cannot compile"):
        builder.build("false", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(builder.BuildError, match="no-such-cc"):
        builder.build("no-such-cc", tmp_path)
