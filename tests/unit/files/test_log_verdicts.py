# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""log_verdicts.yml, of SGLang and of all engines: each entry with a line as engines write it, and what the launcher says of it."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = ("files/engines/sglang/log_verdicts.yml", "files/log_verdicts.yml")
VERDICTS = [
    entry for name in FILES for entry in yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))["verdicts"]
]

LINES = {
    "triton-shared-memory": "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 147456, "
    "Hardware limit: 101376. Reducing block sizes or `num_stages` may help.",
    "triton-registers": "triton.runtime.errors.OutOfResources: out of resource: threads, Required: 2048",
    "memory-fraction": "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
    "gpu-out-of-memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "memory-unbalanced": "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes.",
    "shared-memory-full": "RuntimeError: unable to write to file </torch_1_2>: shared memory is full",
    "host-out-of-memory": "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    "disk-full": "OSError: [Errno 28] No space left on device",
    "too-many-files": "OSError: [Errno 24] Too many open files: '/x'",
    "fabric-manager": "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
    "driver-library-mismatch": "RuntimeError: Error 803: system has unsupported display driver / cuda driver combination",
    "compat-unsupported": "RuntimeError: Error 804: forward compatibility was attempted on non supported HW",
    "driver-too-old": "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).",
    "ptx-unsupported": "RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.",
    "no-kernel-image": "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "no-gpu": "RuntimeError: No accelerator (CUDA, XPU, HPU, NPU) is available.",
    "gpu-memory-damaged": "RuntimeError: CUDA error: uncorrectable ECC error encountered",
    "gpu-lost": "RuntimeError: CUDA error: unspecified launch failure",
    "illegal-access": "RuntimeError: CUDA error: an illegal memory access was encountered",
    "gpu-not-permitted": "RuntimeError: CUDA error: operation not permitted",
    "fp8-unsupported": "ValueError: type fp8e4nv not supported in this architecture. The supported fp8 dtypes are "
    "('fp8e4b15', 'fp8e5')",
    "ptxas-too-old": "RuntimeError: Internal Triton PTX codegen error: ptxas fatal : Value 'sm_121a' is not defined for "
    "option 'gpu-name'",
    "toolkit-mixed": '#error "CUDA compiler and CUDA toolkit headers are incompatible, please check your include paths"',
    "toolkit-libraries": "/usr/bin/ld: cannot find -lcudart: No such file or directory",
    "nvcc-missing": "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
    "ninja-missing": "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
    "compiler-missing": "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
    "python-headers-missing": "/tmp/x/main.c:5:10: fatal error: Python.h: No such file or directory",
    "kernel-wheel-abi": "ImportError: /x/sgl_kernel/common_ops.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEab",
    "cuda-library-missing": "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
    "system-library-missing": "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory",
    "kernel-version": "Exception: sglang-kernel is installed with version 0.4.0, which is less than the minimum required",
    "flashinfer-version": "RuntimeError: flashinfer-cubin version (0.6.1) does not match flashinfer version (0.6.7)",
    "flashinfer-download": "RuntimeError: x.cubin is missing and FLASHINFER_NO_DOWNLOAD is set",
    "cudnn-version": "CRITICAL WARNING: PyTorch 2.9.1 & CuDNN Compatibility Issue Detected",
    "unknown-option": "launch_server.py: error: unrecognized arguments: --no-such-flag",
    "context-too-long": "ValueError: User-specified context_length (400000) is greater than the derived context_length",
    "int8-experts": "RuntimeError: Unsupported FusedMoe scheme: QuantizationArgs",
    "moe-folder": "FileNotFoundError: [Errno 2] No such file or directory: '/opt/sglang/current/a/moe/configs'",
    "weights-damaged": "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
    "weights-missing": "RuntimeError: Cannot find any model weights with `/opt/sglang/weights/a`",
    "weights-checksum": "RuntimeError: checksum mismatch in model-00001-of-00002.safetensors",
    "model-unknown": "ValueError: Model architectures ['NewForCausalLM'] are not supported for now.",
    "remote-code": "ValueError: Loading /x requires you to execute the configuration file; set trust_remote_code=True",
    "hub-asked": "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach the hub: offline mode is enabled.",
    "permission": "PermissionError: [Errno 13] Permission denied: '/opt/sglang/weights/a/config.json'",
    "port-taken": "OSError: [Errno 98] Address already in use",
    "rdma-registration": "NCCL WARN Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory",
    "rdma-retry": "NCCL WARN NET/IB: Got completion with error: IBV_WC_RETRY_EXC_ERR(12)",
    "rdma-gid": "NCCL WARN Call to ibv_modify_qp failed with error Connection timed out",
    "nccl-interface": "NCCL WARN Bootstrap : no socket interface found",
    "collective-timeout": "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=5)",
    "gloo-mesh": "RuntimeError: Gloo connectFullMesh failed with [/x.cc:144] no error",
    "nccl-failure": "torch.distributed.DistBackendError: NCCL error in: /x.cpp:77, ncclSystemError: System call failed",
}  # fmt: skip


@pytest.fixture(scope="module")
def decisions() -> ModuleType:
    path = ROOT / "roles/engine/files/launcher/decisions.py"
    specification = importlib.util.spec_from_file_location("verdict_decisions", path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def words(decisions: ModuleType) -> Any:
    return decisions.LastWords(verdicts=decisions.Verdict.from_plan({"verdicts": VERDICTS}))


def test_the_file_follows_its_schema() -> None:
    schema = json.loads((ROOT / "files/schemas/log_verdicts.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate({"verdicts": VERDICTS})
    for bad in (
        {},
        {"verdicts": []},
        {"verdicts": [{**VERDICTS[0], "cure": ""}]},
        {"verdicts": [{**VERDICTS[0], "a": 1}]},
    ):
        assert list(jsonschema.Draft202012Validator(schema).iter_errors(bad)), bad


@pytest.mark.parametrize("engine", ["files/engines/sglang", "tests/toy_engine/data"])
def test_signals_follow_their_schema(engine: str) -> None:
    schema = json.loads((ROOT / "files/schemas/signals.schema.json").read_text(encoding="utf-8"))
    signals = yaml.safe_load((ROOT / engine / "signals.yml").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(signals)
    for bad in (
        {**signals, "failed": {"say": "x"}},
        {**signals, "phases": [{"says": "x"}]},
        {**signals, "a": 1},
    ):
        assert list(jsonschema.Draft202012Validator(schema).iter_errors(bad)), bad


def test_each_entry_has_a_line_and_names_are_used_once() -> None:
    names = [entry["name"] for entry in VERDICTS]
    assert sorted(names) == sorted(LINES)
    assert len(names) >= 25


@pytest.mark.parametrize("name", LINES)
def test_the_first_entry_that_matches_a_line_is_its_own(name: str) -> None:
    found = next(entry["name"] for entry in VERDICTS if re.search(entry["says"], LINES[name]))
    assert found == name


@pytest.mark.parametrize("name", LINES)
def test_the_launcher_says_cause_line_and_cure(name: str, words: Any) -> None:
    entry = next(entry for entry in VERDICTS if entry["name"] == name)
    words.add(100, f"[2026-11-30 17:20:00 TP0] {LINES[name]}")
    said = words.explained(101)
    assert said.startswith(f"{entry['cause']} ({LINES[name][:60]}")
    assert said.endswith(f": {entry['cure']}")
    assert len(said) <= 450


def test_shared_memory_of_a_block_is_told_from_memory(words: Any) -> None:
    words.add(100, LINES["triton-shared-memory"])
    said = words.explained(101)
    assert "shared memory than a block" in said
    assert "memory_fraction" not in said


def test_a_line_before_the_error_explains_it(words: Any) -> None:
    words.add(100, "/usr/bin/ld: cannot find -lcudart: No such file or directory")
    words.add(101, "RuntimeError: Ninja build failed. Ninja output: ...")
    assert words.explained(102).startswith("the CUDA toolkit has no library to link against")


def test_what_nobody_knows_stays_as_it_is(words: Any) -> None:
    words.add(100, "ValueError: something new")
    assert words.explained(101) == "ValueError: something new"
    words.add(10, LINES["disk-full"])
    assert words.explained(101) == "ValueError: something new"


WHILE = "During handling of the above exception, another exception occurred:"
DIRECT = "The above exception was the direct cause of the following exception:"


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (["NotImplementedError", WHILE, "RuntimeError: No accelerator is available"],
         "RuntimeError: No accelerator is available"),
        (["KeyError: 'a'", WHILE, "ValueError: b", WHILE, "RuntimeError: c"], "RuntimeError: c"),
        (["OSError: [Errno 28] No space left", DIRECT, "RuntimeError: cannot load"], "OSError: [Errno 28] No space left"),
        (["AssertionError", DIRECT, "RuntimeError: cannot load"], "RuntimeError: cannot load"),
        (["ValueError: first", "RuntimeError: second"], "ValueError: first"),
        (["ValueError: real", "RuntimeError: x", WHILE, "RuntimeError: y"], "ValueError: real"),
        ([WHILE, "RuntimeError: the start is no longer known"], "RuntimeError: the start is no longer known"),
    ],
)  # fmt: skip
def test_of_chained_exceptions_the_one_that_tells_most(words: Any, lines: list[str], cause: str) -> None:
    for line in lines:
        words.add(100, "Traceback (most recent call last):" if "exception" not in line else "")
        words.add(100, line)
    assert words.cause(101) == cause
