# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/acceptance/files/acceptance.py: what it makes of the GPUs, the workers and nvidia-smi."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/acceptance/files/acceptance.py"
SMALL = [
    "--device",
    "cpu",
    "--size",
    "64",
    "--seconds",
    "0.1",
    "--chunk-mib",
    "1",
    "--copy-mib",
    "1",
    "--link-mib",
    "1",
]


@pytest.fixture(scope="module")
def program() -> ModuleType:
    specification = importlib.util.spec_from_file_location("acceptance_program", PROGRAM)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def stand_in(folder: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program in the place of the workers."""
    path = folder / "worker.py"
    path.write_text("import json, sys\ntask = json.loads(sys.argv[-1])\n" + body)
    monkeypatch.setattr(program, "__file__", str(path))


def test_each_worker_answers_for_its_own_gpu(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, program, monkeypatch, 'print(json.dumps({"result": {"kind": task["kind"], "wrong": 0, '
             '"bus_gb_per_second": {"median": 3.0 - task.get("rank", 0)}}}))')  # fmt: skip
    found = program.measure(program.arguments([*SMALL, "--count", "2"]))
    assert [gpu["kind"] for gpu in found["gpus"]] == ["gpu", "gpu"]
    assert found["all_reduce"] == {
        "gpus": [0, 1], "errors": {}, "wrong": {"0": 0, "1": 0}, "bus_gb_per_second": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('print(json.dumps({"stage": "products"}), flush=True)\nimport time\ntime.sleep(60)', "no answer during: products"),
        ('print(json.dumps({"stage": "memory patterns"}))\nsys.stderr.write("CUDA error\\n")\nsys.exit(3)',
         "ended with status 3 during: memory patterns: CUDA error"),
        ('print("no JSON")\nprint(json.dumps({"error": "RuntimeError: bad"}))', "RuntimeError: bad (during: start)"),
    ],
)  # fmt: skip
def test_a_worker_that_hangs_dies_or_raises_is_named_with_its_stage(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    stand_in(tmp_path, program, monkeypatch, body)
    limit = "3" if "sleep" in body else "60"
    found = program.measure(program.arguments([*SMALL, "--limit-seconds", limit]))
    assert [gpu["error"] for gpu in found["gpus"]] == [said]
    assert found["all_reduce"] == {}


def nvidia_smi(folder: Path) -> Path:
    path = folder / "nvidia-smi"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nquery = sys.argv[1].split('=')[1].split(',')\n"
        "if 'temperature.memory' in query:\n"
        "    print('Field \"temperature.memory\" is not a valid field to query.')\n    sys.exit(2)\n"
        "values = {'index': '1', 'uuid': 'GPU-b', 'name': 'NVIDIA H200', 'driver_version': '580.1',"
        " 'temperature.gpu': '61', 'power.draw': '[N/A]', 'clocks_throttle_reasons.active': '0x0000000000000044'}\n"
        "print(', '.join(values.get(name, '7') for name in query))\n"
    )
    path.chmod(0o755)
    return path


def test_gpus_are_listed_and_chosen(program: ModuleType, tmp_path: Path) -> None:
    path = nvidia_smi(tmp_path)
    found = program.listed(program.arguments(["--nvidia-smi", str(path)]))
    assert found == [{"index": 1, "uuid": "GPU-b", "product": "NVIDIA H200", "driver": "580.1"}]
    assert program.listed(program.arguments(["--nvidia-smi", str(path), "--gpus", "0"])) == []
    with pytest.raises(SystemExit, match="nowhere"):
        program.listed(program.arguments(["--nvidia-smi", str(tmp_path / "nowhere")]))


def test_sensors_leave_out_what_the_driver_does_not_know(program: ModuleType, tmp_path: Path) -> None:
    sensors = program.Sensors(str(nvidia_smi(tmp_path)))
    sensors.sample()
    sensors.sample()
    found = sensors.told("1")
    assert found["samples"] == 2
    assert found["temperature_max"] == 61.0
    assert found["clock_reasons"] == 0x44
    assert "memory_temperature_max" not in found
    assert "power_max" not in found
    assert found["ecc_uncorrected"] == 0
    assert sensors.told("0") == {}


# With the torch of an environment, where this Python can load one.


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def test_a_whole_run_on_the_cpu(torch: Any, program: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([*SMALL, "--count", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [gpu["error"] for gpu in found["gpus"]] == ["", ""]
    assert [check["wrong"] for gpu in found["gpus"] for check in gpu["checks"]] == [0] * 10
    assert [gpu["memory"]["wrong_words"] for gpu in found["gpus"]] == [0, 0]
    assert found["all_reduce"]["wrong"] == {"0": 0, "1": 0}


def test_a_wrong_product_is_counted(torch: Any, program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = program.product

    def wrong(torch: Any, left: Any, right_operand: Any, out: Any) -> None:
        right(torch, left, right_operand, out)
        out[3, 5] += 1

    monkeypatch.setattr(program, "product", wrong)
    checks, _reference = program.check_products(torch, "cpu", 64)
    assert {check["name"]: check["wrong"] for check in checks}["float32 rows"] == 1
    assert {check["name"]: check["wrong"] for check in checks}["float32 row sums"] == 1


def test_a_product_that_goes_wrong_later_is_counted(
    torch: Any, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    _checks, reference = program.check_products(torch, "cpu", 64)
    monkeypatch.setattr(program, "product", lambda _torch, _left, _right, out: out.fill_(1))
    _rate, wrong, looked = program.rate_products(torch, "cpu", 64, 0.0, reference)
    assert 0 < wrong <= looked


def test_a_bit_that_flips_in_memory_is_found_with_its_place(
    torch: Any, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [torch.empty(1024, dtype=torch.int64) for _unused in range(3)]
    assert program.check_memory(torch, "cpu", chunks) == (0, [])
    write = program.write_pattern

    def stuck(torch: Any, chunk: Any, pattern: int, number: int) -> None:
        write(torch, chunk, pattern, number)
        if chunk is chunks[1]:
            chunk[7] |= 1 << 9

    monkeypatch.setattr(program, "write_pattern", stuck)
    wrong, places = program.check_memory(torch, "cpu", chunks)
    assert wrong == 3 - sum(bool(pattern >> 9 & 1) for pattern in program.PATTERNS)
    assert places[0].startswith("chunk 1, byte 56, 1 words, bits 0x0000000000000200")
