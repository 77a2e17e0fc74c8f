# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a compiler is proven again, and how its words are told."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import toolchain

PROOF = Path(__file__).resolve().parents[5] / "roles/runtime/files/prove_toolchain.py"
WANTED = toolchain.asked("9.0", ["triton", "cuda"], "/env/cuda", "c++ 12.2")
GOOD = [
    {"proof": "triton", "good": True, "what": "", "seconds": 1},
    {"proof": "cuda", "good": True, "what": ""},
]


def test_what_was_proven_is_kept() -> None:
    kept = toolchain.with_result("", WANTED, GOOD)
    assert toolchain.is_proven(kept, WANTED)
    other = {**WANTED, "capability": "8.0"}
    both = toolchain.with_result(kept, other, GOOD)
    assert toolchain.is_proven(both, WANTED)
    assert toolchain.is_proven(both, other)


@pytest.mark.parametrize(
    "change",
    [{"capability": "12.1"}, {"proofs": ["triton"]}, {"cuda_home": ""}, {"compiler": "c++ 13"}],
)
def test_anything_else_is_proven_anew(change: dict[str, Any]) -> None:
    assert not toolchain.is_proven(toolchain.with_result("", WANTED, GOOD), {**WANTED, **change})


@pytest.mark.parametrize("kept", ["", "{", "[]", "{}", '{"results": [{}]}', '{"results": 3}'])
def test_a_damaged_result_proves_nothing(kept: str) -> None:
    assert not toolchain.is_proven(kept, WANTED)
    assert toolchain.is_proven(toolchain.with_result(kept, WANTED, GOOD), WANTED)


def test_variables_of_the_service_with_caches_elsewhere() -> None:
    found = toolchain.proof_environment(
        {"HOME": "/var/cache/sglang/m", "TRITON_CACHE_DIR": "/var/cache/sglang/m/triton",
         "OTHER": "/var/cache/sglang/more", "CUDA_HOME": "/env/cuda"},
        "/var/cache/sglang/m", "/scratch",
    )  # fmt: skip
    assert found["HOME"] == found["TMPDIR"] == "/scratch"
    assert found["TRITON_CACHE_DIR"] == "/scratch/triton"
    assert (found["OTHER"], found["CUDA_HOME"]) == ("/var/cache/sglang/more", "/env/cuda")


@pytest.mark.parametrize(
    ("answers", "said", "told"),
    [
        (GOOD, "", ""),
        ([], "Segmentation fault", "Segmentation fault"),
        (GOOD[:1], "", "only 1 of 2"),
        ([GOOD[0], {"proof": "cuda", "good": False, "what": "ld: cannot find -lcudart"}], "", "cannot find -lcudart"),
    ],
)  # fmt: skip
def test_refusal(answers: list[dict[str, Any]], said: str, told: str) -> None:
    text = toolchain.refusal(WANTED, answers, said, WANTED["proofs"])
    assert told in text
    assert bool(text) == bool(told)
    assert not text or "compute capability 9.0" in text


def test_long_words_are_cut_at_the_front() -> None:
    long = "\n".join(f"line {number}" for number in range(100))
    text = toolchain.refusal(WANTED, [], long, WANTED["proofs"])
    assert "line 99" in text
    assert "line 1\n" not in text
    assert "70 lines before" in text


@pytest.mark.parametrize(
    ("capability", "arch"), [("8.0", "80"), ("8.9", "89"), ("9.0", "90a"), ("12.1", "121a"), ("10.0", "100a")]
)
def test_architecture(capability: str, arch: str) -> None:
    assert runpy.run_path(str(PROOF))["architecture"](capability) == arch


def test_a_proof_that_fails_answers_with_the_compilers_words(tmp_path: Path) -> None:
    """A CUDA_HOME whose nvcc is a program that complains: the words arrive, the others still answer."""
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'CUDA compiler and CUDA toolkit headers are incompatible' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    asked = {"folder": str(tmp_path), "capability": "8.0", "proofs": ["cuda", "triton"]}
    done = subprocess.run(
        [sys.executable, PROOF, json.dumps(asked)],
        env={"CUDA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = toolchain.answers_of(done.stdout)
    assert [answer["proof"] for answer in answers] == ["cuda", "triton"]
    assert "headers are incompatible" in answers[0]["what"]
    assert "headers are incompatible" in toolchain.refusal(
        asked | {"cuda_home": "", "compiler": ""}, answers, "", ["cuda", "triton"]
    )
