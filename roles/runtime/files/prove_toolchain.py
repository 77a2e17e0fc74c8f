# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compiles what the engine compiles at start, for one compute capability. Run by the environment's own Python.

Each proof is one that the engine needs: a Triton kernel and its launcher, a CUDA source linked with the
runtime and the driver, a module of FlashInfer and one of tvm-ffi through their own build paths. With a GPU
in sight the CUDA source is run as well. Prints one JSON object; what a compiler said is in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import traceback
from pathlib import Path

KERNEL = """
import triton
import triton.language as tl

@triton.jit
def plus_one(source, target, count, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(target + index, tl.load(source + index, mask=index < count) + 1.0, mask=index < count)
"""
LAUNCHER = "#include <cuda.h>\n#include <Python.h>\nint version(void) { return CUDA_VERSION; }\n"
SOURCE = """
#include <cuda.h>
#include <cuda/std/utility>
#include <cuda_runtime.h>
__global__ void plus_one(int *value) { *value += 1; }
extern "C" int driver(int *version) { return cuDriverGetVersion(version); }
extern "C" int run(void) {
  int value = 41, *there;
  if (cudaMalloc(&there, sizeof(int)) != cudaSuccess) return -1;
  cudaMemcpy(there, &value, sizeof(int), cudaMemcpyHostToDevice);
  plus_one<<<1, 1>>>(there);
  cudaMemcpy(&value, there, sizeof(int), cudaMemcpyDeviceToHost);
  return cudaGetLastError() == cudaSuccess ? value : -2;
}
"""
FFI_SOURCE = """
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
__global__ void plus_one(float *value, int64_t count) {
  int64_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < count) value[index] += 1.0f;
}
void plus_one_on_gpu(tvm::ffi::TensorView value) {
  int64_t count = value.size(0);
  plus_one<<<(count + 127) / 128, 128>>>(static_cast<float *>(value.data_ptr()), count);
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plus_one, plus_one_on_gpu);
"""


def architecture(capability: str) -> str:
    """8.0 -> 80; from 9.0 on the instructions of that very chip are used: 90a, 121a."""
    plain = capability.replace(".", "")
    return plain if float(capability) < 9 else f"{plain}a"


def command(words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:1])}: {(done.stderr or done.stdout).strip()}")


def prove_triton(capability: str) -> str:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    Path("kernel_to_prove.py").write_text(KERNEL)
    sys.path.insert(0, os.getcwd())
    from kernel_to_prove import plus_one

    signature = {"source": "*fp32", "target": "*fp32", "count": "i32", "BLOCK": "constexpr"}
    made = triton.compile(
        ASTSource(fn=plus_one, signature=signature, constexprs={"BLOCK": 128}),
        target=GPUTarget("cuda", int(capability.replace(".", "")), 32),
    )
    headers = Path(triton.__file__).parent / "backends/nvidia/include"
    python = sysconfig.get_paths(scheme="posix_prefix")["include"]
    Path("launcher.c").write_text(LAUNCHER)
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "cc"
    command([compiler, "launcher.c", "-shared", "-fPIC", f"-I{headers}", f"-I{python}", "-o", "launcher.so"])
    return f"triton {triton.__version__}: cubin of {len(made.asm['cubin'])} bytes"


def prove_cuda(capability: str) -> str:
    home, arch = os.environ["CUDA_HOME"], architecture(capability)
    Path("source_to_prove.cu").write_text(SOURCE)
    libraries = [f"-L{home}/lib64", f"-L{home}/lib64/stubs", "-lcudart", "-lcuda"]
    command([f"{home}/bin/nvcc", "-shared", "-Xcompiler", "-fPIC", "--cudart", "shared",
             "-gencode", f"arch=compute_{arch},code=sm_{arch}", "source_to_prove.cu", "-o", "source.so",
             *libraries])  # fmt: skip
    return f"sm_{arch}: library of {os.path.getsize('source.so')} bytes{run_cuda()}"


def run_cuda() -> str:
    if not gpu():
        return ", not run: no GPU here"
    value = ctypes.CDLL("./source.so").run()
    if value != 42:
        raise RuntimeError(f"the compiled kernel ran and answered {value} instead of 42")
    return ", ran on the GPU"


def gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def prove_flashinfer(capability: str) -> str:
    os.environ["FLASHINFER_CUDA_ARCH_LIST"] = capability
    try:
        from flashinfer.jit.page import gen_page_module
    except ImportError:
        from flashinfer.page import gen_page_module
    spec = gen_page_module()
    # Old releases build and load in one step; a machine without a GPU can only build.
    (spec.build_and_load if gpu() else lambda: spec.build(verbose=False))()
    return f"module {spec.name} built{' and loaded' if gpu() else ''}"


def prove_tvm_ffi(capability: str) -> str:
    os.environ["TVM_FFI_CUDA_ARCH_LIST"] = capability
    import tvm_ffi.cpp

    made = tvm_ffi.cpp.build_inline("proof", cuda_sources=FFI_SOURCE, build_directory=os.getcwd())
    if not gpu():
        return f"{os.path.basename(made)} built"
    import torch

    value = torch.zeros(8, device="cuda")
    tvm_ffi.load_module(made).plus_one(value)
    torch.cuda.synchronize()
    if value.sum().item() != 8:
        raise RuntimeError(f"the compiled module ran and answered {value.tolist()}")
    return f"{os.path.basename(made)} built, ran on the GPU"


PROOFS = {
    "triton": prove_triton,
    "cuda": prove_cuda,
    "flashinfer": prove_flashinfer,
    "tvm-ffi": prove_tvm_ffi,
}


def prove(name: str, capability: str) -> dict[str, object]:
    started = time.monotonic()
    try:
        what, good = PROOFS[name](capability), True
    except (Exception, SystemExit) as error:
        said = getattr(error, "stdout", None) or getattr(error, "output", None) or ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        short = "".join(traceback.format_exception_only(type(error), error)).strip()
        what, good = f"{said}\n{short}".strip(), False
    return {"proof": name, "good": good, "what": what, "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    asked = json.loads(sys.argv[1])
    os.chdir(asked["folder"])
    answers = [prove(name, asked["capability"]) for name in asked["proofs"]]
    print("\n" + json.dumps(answers))


if __name__ == "__main__":
    main()
