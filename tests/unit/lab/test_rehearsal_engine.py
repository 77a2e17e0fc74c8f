# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's stand-in of the rehearsals takes the release's command line and nothing else."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests/unit/fixtures"), *sys.path])
    place = ROOT / "tests/lab/rehearsal/engine/launch_server.py"
    spec = importlib.util.spec_from_file_location("rehearsal_engine", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copy(ROOT / "files/engines/sglang/flags/0.5.23.json", tmp_path / "flags.json")
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def test_planned_arguments_are_read_by_the_names_of_the_release(
    engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--tp-size", "8", "--enable-metrics", "--mem-fraction-static", "0.78", "--model-path", "/w"]
    monkeypatch.setattr(sys, "argv", ["launch_server.py", *words])
    said = engine.arguments()
    assert (said.tp_size, said.enable_metrics, said.mem_fraction_static) == (8, True, 0.78)
    assert said.model_path == "/w"


def test_an_option_that_the_release_does_not_have_ends_it(
    engine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["launch_server.py", "--tensor-paralel-size", "8"])
    with pytest.raises(SystemExit):
        engine.arguments()
    assert "--tensor-paralel-size" in capsys.readouterr().err


def test_it_says_which_kernel_file_it_takes_and_when_there_is_none(
    engine: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SGLANG_MOE_CONFIG_DIR", str(tmp_path))
    engine.kernels(2)
    assert capsys.readouterr().out.count("Using default MoE kernel config") == 2
    (tmp_path / "configs/triton_3_8_0").mkdir(parents=True)
    (tmp_path / "configs/triton_3_8_0/E=161,N=192,device_name=X.json").touch()
    engine.kernels(1)
    assert "Using MoE kernel config from" in capsys.readouterr().out
