# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import wheels

RANKS = wheels.wheel_tags("3.11", "x86_64", "2.36")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["a-1-py3-none-any.whl"], "a-1-py3-none-any.whl"),
        (
            ["a-1-py3-none-any.whl", "a-1-cp311-cp311-manylinux_2_28_x86_64.whl"],
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        ),
        (
            ["a-1-cp310-abi3-manylinux2014_x86_64.whl", "a-1-py3-none-any.whl"],
            "a-1-cp310-abi3-manylinux2014_x86_64.whl",
        ),
        (["a-1-cp312-cp312-manylinux_2_28_x86_64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_28_aarch64.whl"], None),
        (["a-1-cp311-cp311-manylinux_2_39_x86_64.whl"], None),
        (["a-1-cp311-cp311-win_amd64.whl", "no wheel.whl"], None),
    ],
)
def test_best_wheel_is_what_an_installer_would_take(offered: list[str], chosen: str | None) -> None:
    best = wheels.best_wheel([wheels.Wheel("a", name, "") for name in offered], RANKS)
    assert (best.filename if best else None) == chosen


def test_parse_lock_reads_pins_with_all_their_hashes() -> None:
    hashes = [f"--hash=sha256:{letter * 64}" for letter in "abc"]
    lines = [
        "one==1.0 \\",
        f"  {hashes[0]} \\",
        f"  {hashes[1]}",
        f"two[x]==2 ; python_version > '3' {hashes[2]}",
    ]
    text = "\n".join(lines)
    assert wheels.parse_lock(text) == [
        wheels.Pin("one", "1.0", frozenset({"a" * 64, "b" * 64})),
        wheels.Pin("two", "2", frozenset({"c" * 64}), "python_version > '3'"),
    ]


@pytest.mark.parametrize(
    ("marker", "python", "taken"),
    [
        ("", "3.12", True),
        (" ; python_full_version < '3.13'", "3.12", True),
        (" ; python_full_version < '3.13'", "3.13", False),
        (" ; sys_platform == 'win32'", "3.12", False),
        (" ; platform_machine == 'aarch64'", "3.12", False),
        (" ; implementation_name != 'PyPy' and platform_python_implementation != 'PyPy'", "3.12", True),
    ],
)
def test_pins_for_a_target_heed_markers(marker: str, python: str, taken: bool) -> None:
    text = f"one==1.0{marker} \\\n  --hash=sha256:{'a' * 64}\n"
    pins = wheels.pins_for(text, wheels.Target(python, "x86_64", "2.28"))
    assert [str(pin) for pin in pins] == (["one==1.0"] if taken else [])
