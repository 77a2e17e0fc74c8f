# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of tools/update_release.py: a resolver's answer to lock text and catalogue values."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


release_lock = load("release_lock")


def package(name: str, version: str, *filenames: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "wheels": [
            {"url": f"https://index.invalid/{item}", "hashes": {"sha256": str(number) * 64}}
            for number, item in enumerate(filenames, start=1)
        ],
    }


PYLOCK = {
    "packages": [
        package(
            "torch",
            "2.9.1",
            "torch-2.9.1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "torch-2.9.1-cp312-cp312-manylinux_2_28_x86_64.whl",
            "torch-2.9.1-cp312-cp312-manylinux_2_28_aarch64.whl",
        ),
        package("nvidia-cuda-nvcc", "13.0.88", "nvidia_cuda_nvcc-13.0.88-py3-none-manylinux_2_17_x86_64.whl"),
        package("aiohttp", "3", "aiohttp-3-py3-none-any.whl",
                "aiohttp-3-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_31_x86_64.whl"),
    ]
}  # fmt: skip


def test_lock_names_the_one_wheel_that_is_installed() -> None:
    lock = release_lock.lock_of(PYLOCK, "3.12", "x86_64", "manylinux_2_34")
    assert lock.text == (
        f"aiohttp==3 \\\n    --hash=sha256:{'2' * 64}\n"
        f"nvidia-cuda-nvcc==13.0.88 \\\n    --hash=sha256:{'1' * 64}\n"
        f"torch==2.9.1 \\\n    --hash=sha256:{'2' * 64}\n"
    )
    assert lock.glibc == "2.28"
    assert lock.components == {"torch": "2.9.1", "nvcc": "13.0.88"}


@pytest.mark.parametrize(
    ("python", "arch", "platform", "missing"),
    [
        ("3.13", "x86_64", "manylinux_2_34", "torch==2.9.1"),
        ("3.12", "x86_64", "manylinux_2_17", "torch==2.9.1"),
        ("3.12", "aarch64", "manylinux_2_34", "nvidia-cuda-nvcc==13.0.88"),
    ],
)
def test_missing_wheel_is_named(python: str, arch: str, platform: str, missing: str) -> None:
    with pytest.raises(release_lock.NoWheelError, match=missing):
        release_lock.lock_of(PYLOCK, python, arch, platform)


@pytest.mark.parametrize(
    ("filenames", "floor"),
    [
        ((), "2.5"),
        (("a-1-py3-none-any.whl",), "2.5"),
        (("a-1-cp312-cp312-manylinux2014_x86_64.whl",), "2.17"),
        (("a-1-cp312-cp312-manylinux_2_9_x86_64.whl", "b-1-py3-none-manylinux_2_27_x86_64.whl"), "2.27"),
        (("a-1-cp312-cp312-manylinux_2_17_x86_64.manylinux_2_34_x86_64.whl",), "2.17"),
    ],
)
def test_glibc_floor(filenames: tuple[str, ...], floor: str) -> None:
    wheels = [release_lock.Wheel("a", item, "") for item in filenames]
    assert release_lock.glibc_floor(wheels) == floor


def test_ptxas_alone_is_no_compiler() -> None:
    assert release_lock.components_of({"nvidia-cuda-nvcc-cu12": "12.8.93"}) == {}


@pytest.mark.parametrize(
    ("cuda", "wanted"), [("cu126", ["a<13"]), ("cu128", ["a<13"]), ("cu130", ["b==13.0.*"]), ("cu140", [])]
)
def test_constraints_of_a_tag(cuda: str, wanted: list[str]) -> None:
    table = {"cu12": ["a<13"], "cu130": ["b==13.0.*"]}
    assert release_lock.constraints_for(table, cuda) == wanted


def test_bad_platform() -> None:
    with pytest.raises(ValueError, match="manylinux_2_34"):
        release_lock.platform_glibc("linux_x86_64")


RELEASE = """---
version: "1"  # a note
variants:
  # The first.
  - cuda: cu130  # tag
    arch: x86_64
    locks: {}
    glibc: "2.28"
    constraints:
      - a==1.*  # why
    components:
      torch: "1"
  # The second.
  - cuda: cu130
    arch: aarch64
    locks: {}
notes:
  - the end
"""


def test_only_the_named_keys_of_one_variant_change() -> None:
    values = {"locks": {"3.11": "x.txt"}, "glibc": "2.34", "components": {"torch": "2", "triton": "3"}}
    text = release_lock.with_variant_values(RELEASE, "cu130", "x86_64", values)
    before, after = yaml.safe_load(RELEASE), yaml.safe_load(text)
    assert after["variants"][0] == {**before["variants"][0], **values}
    assert after["variants"][1] == before["variants"][1]
    assert [line for line in RELEASE.splitlines() if "#" in line] == [
        line for line in text.splitlines() if "#" in line
    ]
    assert text.endswith("notes:\n  - the end\n")
    assert release_lock.with_variant_values(text, "cu130", "x86_64", values) == text


def test_new_key_is_added_to_the_variant() -> None:
    text = release_lock.with_variant_values(
        RELEASE, "cu130", "aarch64", {"python": ["3.11"], "download_bytes": 5}
    )
    assert yaml.safe_load(text)["variants"][1] == {
        "cuda": "cu130", "arch": "aarch64", "locks": {}, "python": ["3.11"], "download_bytes": 5
    }  # fmt: skip


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match="cuda: cu126 and arch: x86_64"):
        release_lock.with_variant_values(RELEASE, "cu126", "x86_64", {})


def test_differences_and_present_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    update_release = load("update_release")
    monkeypatch.setattr(update_release, "ROOT", tmp_path)
    lock = tmp_path / "a.txt"
    assert update_release.present_pins(lock) == []
    lock.write_text("a==1 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    assert update_release.present_pins(lock) == ["a==1"]
    assert update_release.differences({lock: lock.read_text()}) == []
    shown = update_release.differences({lock: "b==2\n", tmp_path / "new.txt": "x\n"})
    assert shown[:2] == ["--- a/a.txt", "+++ b/a.txt"]
    assert "+b==2" in shown
    assert "+x" in shown


@pytest.fixture
def release_of_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[Path, str]]:
    """The tool over a tree with one release, whose resolved lock names a kernel and a torch."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    tool = load("update_release")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "CACHE", tmp_path / "cache")
    (tmp_path / "files/engines/sglang/locks").mkdir(parents=True)
    (tmp_path / "files/engines/sglang/releases").mkdir()
    variant = {"cuda": "cu130", "arch": "x86_64", "platform": "manylinux_2_34", "glibc": "2.34",
               "index": "default", "locks": {"3.12": "new.txt"}}  # fmt: skip
    lock = "".join(f"{name}==1 \\\n    --hash=sha256:{'0' * 64}\n" for name in ("sglang-kernel", "torch"))
    wanted = {tmp_path / "files/engines/sglang/locks/new.txt": lock,
              tmp_path / "files/engines/sglang/releases/1.yml": yaml.safe_dump({"variants": [variant]})}  # fmt: skip
    monkeypatch.setattr(tool, "wanted_files", lambda *_unused: wanted)
    return tool, wanted


def answer_of(tool: Any, monkeypatch: pytest.MonkeyPatch, proofs: list[dict[str, Any]], *words: str) -> int:
    monkeypatch.setattr(tool.WheelCache, "complete", lambda *_unused: [])
    monkeypatch.setattr(tool, "prove_wheels", lambda *_unused: proofs)
    monkeypatch.setattr(sys, "argv", ["update_release.py", "1", *words])
    return int(tool.main())


def test_locks_that_hold_are_written(release_of_one_lock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, wanted = release_of_one_lock
    good = [{"proven": True, "what": "all symbols are there", "fix": ""}]
    assert answer_of(tool, monkeypatch, good) == 0
    assert all(path.read_text() == text for path, text in wanted.items())


@pytest.mark.parametrize(
    ("proofs", "told"),
    [
        ([{"proven": False, "what": "symbol x is missing", "fix": "take torch 2"}], "take torch 2"),
        ([], "no kernel package"),
    ],
)
def test_nothing_is_written_when_kernels_and_torch_do_not_fit(
    release_of_one_lock: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    proofs: list[dict[str, Any]],
    told: str,
) -> None:
    tool, wanted = release_of_one_lock
    assert answer_of(tool, monkeypatch, proofs) == 3
    assert not any(path.exists() for path in wanted)
    shown = capsys.readouterr()
    assert told in shown.err
    assert "+torch==1" in shown.out
    assert answer_of(tool, monkeypatch, proofs, "--no-prove") == 0


def test_a_proof_reads_only_what_kernels_link_with(release_of_one_lock: Any) -> None:
    tool, _unused = release_of_one_lock
    lock = "sglang-kernel==1\ntorch==1\nnvidia-cublas==1\nfastapi==1\ntorchvision==1\n"
    assert [pin.name for pin in tool.kernels_torch_and_cuda(lock)] == [
        "sglang-kernel",
        "torch",
        "nvidia-cublas",
    ]
