# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual GPUs, new drivers, sensors that fail, clocks that stay low."""

from __future__ import annotations

import re

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.gpu import gpus_of
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_smi import parse
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import capture, codes
from ansible_collections.baremetal.sglang.tests.unit.fixtures.memory_host import MemoryHost

H200 = capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")
REMARK = "[Deprecated; will be removed in CUDA 14.0. Use {} Version instead]"


def faults_of(text: str) -> set[str]:
    return {fault.code for fault in gpus_of(parse(text), {})[1]}


def changed(before: str, after: str, text: str = H200) -> str:
    found, count = re.subn(before, after, text, count=1)
    assert count == 1
    return found


@pytest.mark.parametrize("mode", ["VGPU", "VSGA", "Host VGPU", "Host VSGA"])
def test_virtual_modes_are_named(mode: str) -> None:
    text = changed("<virtualization_mode>Pass-Through", f"<virtualization_mode>{mode}")
    (fault,) = gpus_of(parse(text), {})[1]
    assert (fault.code, fault.subject) == ("gpu-virtual", "GPU 0")
    assert "vGPU" in fault.what or "vSGA" in fault.what or "shared" in fault.what


@pytest.mark.parametrize(
    ("product", "virtual"),
    [
        ("GRID A100-40C", True), ("NVIDIA A100-2-10C", True), ("NVIDIA L40S-48Q", True), ("NVIDIA H100XM-80C", True),
        ("GRID T4-16Q", True), ("NVIDIA A40-4A", True), ("NVIDIA A100-1-5CME", True), ("NVIDIA A800-SXM4-80GB", False),
        ("NVIDIA H100 80GB HBM3", False), ("NVIDIA L40S", False), ("NVIDIA GB10", False), ("Tesla V100-SXM2-32GB", False),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", False), ("Tesla P100-PCIE-16GB", False),
        ("NVIDIA H20-3e", False), ("NVIDIA A30-24GB", False),
    ],
)  # fmt: skip
def test_virtual_gpus_by_their_names(product: str, virtual: bool) -> None:
    text = f"index, name, memory.total [MiB]\n0, {product}, 40960 MiB\n"
    assert ("gpu-virtual" in faults_of(text)) is virtual


FORMS = {
    "xml": (
        changed(
            "<driver_version>580.159.04</driver_version>\n\t<cuda_version>13.0</cuda_version>",
            f"<driver_version>610.47 {REMARK.format('KMD')}</driver_version>\n\t<cuda_version>13.3 "
            f"{REMARK.format('CUDA UMD')}</cuda_version>\n\t<kmd_version>610.47</kmd_version>\n"
            "\t<cuda_umd_version>13.3</cuda_umd_version>",
        ),
        4,
    ),
    "xml without the new names": (
        changed("<driver_version>580.159.04", f"<driver_version>610.47 {REMARK.format('KMD')}").replace(
            "<cuda_version>13.0", f"<cuda_version>13.3 {REMARK.format('CUDA UMD')}"
        ),
        4,
    ),
    "text": (
        re.sub(
            r"Driver Version +: \S+\nCUDA Version +: \S+\n",
            f"Driver Version    : 610.47 {REMARK.format('KMD')}\nCUDA Version      : 13.3 "
            f"{REMARK.format('CUDA UMD')}\nKMD Version       : 610.47\nCUDA UMD Version  : 13.3\n",
            capture("nvidia_smi/h200-590.48.01-q.txt"),
        ),
        1,
    ),
    "table": (
        re.sub(
            r"\| NVIDIA-SMI .*\|",
            "| NVIDIA-SMI 610.47                 KMD Version: 610.47        CUDA UMD Version: 13.3     |",
            capture("nvidia_smi/h200-590.48.01-table.txt"),
        ),
        1,
    ),
    "version": (
        'NVIDIA-SMI version  : 610.47\nNVML version        : 610.47\nDRIVER version      : Deprecated, see "KMD version" '
        "instead\nKMD version         : 610.47\nCUDA UMD version    : 13.3\n",
        0,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_driver_610_in_every_form(form: str) -> None:
    text, count = FORMS[form]
    listing = parse(text)
    assert (listing.driver, listing.cuda, len(listing.records)) == ("610.47", "13.3", count)
    assert listing.faults == ()


def test_driver_610_in_the_csv() -> None:
    listing = parse("index, name, driver_version [Deprecated], kmd_version\n0, NVIDIA H200, 610.47, 610.47\n")
    assert (listing.driver, listing.faults) == ("610.47", ())


def four(first: str, second: str = "") -> MemoryHost:
    """A host whose nvidia-smi says one thing, and maybe another one when it is asked again."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import Ran

    host = MemoryHost()
    host.driver("580.159.04")
    for slot in range(6, 10):
        host.gpu_on_bus(f"0000:00:{slot:02x}.0")
    said = [first, second or first]
    host.programs["nvidia-smi"] = lambda arguments: (
        Ran(0, said.pop(0) if len(said) > 1 else said[0]) if arguments == ("-q", "-x") else Ran(2)
    )
    return host


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("<fan_speed>N/A", "gpu-sensor-unreadable"),
        ("<gpu_temp>31 C", "gpu-sensor-unreadable"),
        ("<sm_clock>345 MHz", "gpu-sensor-unreadable"),
        ("<product_name>NVIDIA H200", "gpu-unreadable"),
        ("<current_ecc>Enabled", "gpu-unreadable"),
        ("<dram_uncorrectable>0", "gpu-unreadable"),
        ("<remapped_row_pending>No", "gpu-unreadable"),
    ],
)
@pytest.mark.parametrize("words", ["ERR!", "Unknown Error"])
def test_errors_refuse_where_a_plan_rests_on_the_value(field: str, code: str, words: str) -> None:
    tag = field.partition(">")[0] + ">"
    damaged = changed(re.escape(field), tag + words)
    facts = four(damaged).gather()
    assert code in codes(facts)
    assert ("gpu-unreadable" in codes(facts)) is (code == "gpu-unreadable")


def test_a_sensor_that_answers_when_asked_again_is_no_matter() -> None:
    damaged = changed("<fan_speed>N/A", "<fan_speed>Unknown Error")
    assert codes(four(damaged, H200).gather()) == set()
    (fault,) = four(damaged).gather().faults
    assert (fault.code, fault.subject) == ("gpu-sensor-unreadable", "GPU 0")
    assert "fan speed" in fault.what


def test_the_fan_of_a_table() -> None:
    table = capture("nvidia_smi/table-550.90.07.txt")
    assert re.search(r"\| N/A +\d+C", table)
    assert faults_of(re.sub(r"\| N/A( +\d+C)", r"|ERR!\1", table, count=1)) == {"gpu-sensor-unreadable"}
    assert "gpu-unreadable" in faults_of(re.sub(r"\d+MiB / +\d+MiB", "   ERR! /    ERR! ", table, count=1))


def test_clocks() -> None:
    busy = changed("<gpu_util>0 %", "<gpu_util>97 %")
    assert faults_of(busy) == {"gpu-clocks-stuck"}
    assert faults_of(H200) == set()
    capped = re.sub(
        r"(<applications_clocks>\s*<graphics_clock>)[^<]*(.*?<default_applications_clocks>\s*<graphics_clock>)[^<]*",
        r"\g<1>900 MHz\g<2>1980 MHz",
        H200,
        count=1,
        flags=re.DOTALL,
    )
    assert faults_of(capped) == {"gpu-clocks-capped"}


def test_impossible_numbers() -> None:
    assert faults_of(changed("<total>143771 MiB", "<total>143771000000 MiB")) == {"gpu-numbers-impossible"}
    assert faults_of(changed("<current_link_width>16x", "<current_link_width>160x")) == {
        "gpu-numbers-impossible"
    }


def test_words_that_a_table_has_for_modes() -> None:
    """Off where error correction is off, and a star where a change of the MIG mode waits."""
    table = capture("nvidia_smi/h200-590.48.01-table.txt")
    off = re.sub(r"\|( +)0 \|", r"|\1Off |", table, count=1)
    assert off != table
    (gpu,), faults = gpus_of(parse(off), {})
    assert (gpu.ecc_enabled, gpu.ecc_uncorrected, faults) == (False, None, [])
    star = re.sub(r"Disabled \|", "Enabled* |", table, count=1)
    assert star != table
    assert faults_of(star) == {"gpu-mig-enabled", "gpu-mig-pending"}
