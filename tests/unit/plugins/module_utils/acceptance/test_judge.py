# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One slow, one wrong or one hot GPU of eight is named; eight slow ones are the host's fault."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.acceptance.judge import (
    FAILED,
    WARNED,
    Expectations,
    judge,
    passed,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.acceptance.report import entry_of, report

ROOT = Path(__file__).parents[5]
DATA = yaml.safe_load((ROOT / "files/acceptance.yml").read_text(encoding="utf-8"))
HARDWARE = [
    yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "files/hardware").glob("*.yml"))
]
H200 = next(entry for entry in HARDWARE if entry["key"] == "h200")


def figures(value: float) -> dict[str, float]:
    return {"median": value, "low": value * 0.98, "high": value, "count": 7}


def gpu(index: int) -> dict[str, Any]:
    rates = {
        "matmul_bf16_tflops": 780.0 + index,
        "copy_gb_per_second": 4300.0 - index,
        "read_gb_per_second": 4000.0,
        "from_host_gb_per_second": 50.0,
        "to_host_gb_per_second": 52.0,
    }
    return {
        "index": index,
        "product": "NVIDIA H200",
        "error": "",
        "checks": [{"name": "bfloat16", "wrong": 0, "of": 67108864}],
        "rates": {name: figures(value) for name, value in rates.items()},
        "memory": {"total_mib": 143000, "tested_mib": 112000, "wrong_words": 0, "places": []},
        "sensors": {
            "temperature_max": 60.0 + index,
            "clock_reasons": 4,
            "ecc_uncorrected": 0,
            "ecc_corrected": 0,
        },
    }


def measured(count: int = 8) -> dict[str, Any]:
    pairs = [
        {"from": one, "to": other, "peer": True, "gb_per_second": 390.0, "wrong": 0}
        for one in range(count)
        for other in range(count)
        if one != other
    ]
    return {
        "gpus": [gpu(index) for index in range(count)],
        "pairs": pairs,
        "all_reduce": {"errors": {}, "wrong": {}, "bus_gb_per_second": 360.0},
        "error": "",
        "seconds": 60.0,
    }


def judged(
    document: dict[str, Any], hardware: dict[str, Any] | None = H200, everywhere: bool = True
) -> list[tuple[str, str, str]]:
    return [
        (item.severity, item.code, item.subject)
        for item in judge(document, Expectations.of(DATA, hardware, everywhere))
    ]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_healthy_gpus_are_accepted_without_a_word(count: int) -> None:
    assert judged(measured(count)) == []


def set_rate(document: dict[str, Any], index: int, name: str, value: float) -> None:
    document["gpus"][index]["rates"][name] = figures(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("matmul_bf16_tflops", 650.0),
        ("copy_gb_per_second", 3900.0),
        ("read_gb_per_second", 3500.0),
        ("from_host_gb_per_second", 12.0),
        ("to_host_gb_per_second", 12.0),
    ],
)
def test_one_slow_gpu_of_eight_is_named(name: str, value: float) -> None:
    document = measured()
    set_rate(document, 5, name, value)
    assert judged(document) == [(FAILED, "gpu-slower-than-others", "GPU 5")]


def test_a_gpu_far_below_its_peak_is_slow_even_alone() -> None:
    document = measured(1)
    set_rate(document, 0, "matmul_bf16_tflops", 500.0)
    assert judged(document) == [(FAILED, "gpu-slow", "GPU 0")]


GB10 = next(entry for entry in HARDWARE if entry["key"] == "gb10")


@pytest.mark.parametrize(
    ("clock", "reasons", "code"),
    [(630, 0, "gpu-clocks-stuck"), (630, 0x20, "gpu-slow"), (2200, 0, "gpu-slow")],
)
def test_clocks_that_stay_low_under_load_have_a_cure_of_their_own(
    clock: int, reasons: int, code: str
) -> None:
    document = measured(1)
    document["gpus"][0]["product"] = "NVIDIA GB10"
    document["gpus"][0]["sensors"].update(sm_clock_median=clock, clock_reasons=reasons)
    set_rate(document, 0, "matmul_bf16_tflops", 30.0)
    set_rate(document, 0, "copy_gb_per_second", 220.0)
    set_rate(document, 0, "read_gb_per_second", 225.0)
    found = [item for item in judge(document, Expectations.of(DATA, GB10)) if item.severity == FAILED]
    assert [item.code for item in found] == [code]
    assert ("power adapter" in found[0].fix) == (code == "gpu-clocks-stuck")


def test_all_slow_is_one_finding_about_the_host() -> None:
    document = measured()
    for index in range(8):
        set_rate(document, index, "matmul_bf16_tflops", 300.0)
    assert judged(document) == [(FAILED, "gpus-slow", "all GPUs")]


def test_without_a_hardware_entry_the_others_are_the_measure() -> None:
    document = measured()
    for index in range(8):
        set_rate(document, index, "matmul_bf16_tflops", 30.0 if index == 2 else 60.0)
    assert judged(document, None) == [(FAILED, "gpu-slower-than-others", "GPU 2")]


def test_two_gpus_are_not_compared_with_each_other() -> None:
    document = measured(2)
    set_rate(document, 0, "matmul_bf16_tflops", 640.0)
    assert judged(document) == []


def test_an_unsteady_rate_is_a_warning() -> None:
    document = measured()
    document["gpus"][1]["rates"]["copy_gb_per_second"]["low"] = 2000.0
    assert judged(document) == [(WARNED, "gpu-unsteady", "GPU 1")]


def test_one_wrong_gpu_of_eight_is_named() -> None:
    document = measured()
    document["gpus"][3]["checks"][0]["wrong"] = 1
    assert judged(document) == [(FAILED, "gpu-wrong-results", "GPU 3")]


def test_wrong_memory_names_the_place_and_the_bits() -> None:
    document = measured()
    document["gpus"][6]["memory"].update(
        wrong_words=2, places=["chunk 7, byte 4096, 2 words, bits 0x0000000000000100"]
    )
    (found,) = judge(document, Expectations.of(DATA, H200))
    assert (found.code, found.subject) == ("gpu-wrong-memory", "GPU 6")
    assert "chunk 7" in found.what
    assert "0x0000000000000100" in found.what


def test_a_gpu_that_failed_is_named_with_its_error() -> None:
    document = measured()
    document["gpus"][4] = {"index": 4, "product": "NVIDIA H200", "error": "no answer during: memory patterns"}
    assert judged(document) == [(FAILED, "gpu-failed", "GPU 4")]


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        ({"ecc_uncorrected": 1}, (FAILED, "gpu-ecc")),
        ({"ecc_corrected": 3}, (WARNED, "gpu-ecc-corrected")),
        ({"clock_reasons": 0x40 | 0x8}, (FAILED, "gpu-slowdown")),
        ({"clock_reasons": 0x80}, (FAILED, "gpu-slowdown")),
        ({"clock_reasons": 0x8}, (FAILED, "gpu-slowdown")),
        ({"clock_reasons": 0x20}, (WARNED, "gpu-warm")),
        ({"temperature_max": 91}, (WARNED, "gpu-hot")),
        ({"temperature_max": 82}, (WARNED, "gpu-hotter-than-others")),
    ],
)
def test_sensors(sensors: dict[str, float], expected: tuple[str, str]) -> None:
    document = measured()
    document["gpus"][0]["sensors"].update(sensors)
    assert judged(document) == [(*expected, "GPU 0")]


def test_memory_that_was_in_use_is_said() -> None:
    document = measured()
    document["gpus"][0]["memory"]["tested_mib"] = 1000
    assert judged(document) == [(WARNED, "gpu-memory-in-use", "GPU 0")]


def test_a_gpu_whose_every_link_is_slow_is_named() -> None:
    document = measured()
    for pair in document["pairs"]:
        if 2 in (pair["from"], pair["to"]):
            pair["gb_per_second"] = 40.0
    assert judged(document) == [(FAILED, "link-slow", "GPU 2")]


def test_one_slow_pair_is_named() -> None:
    document = measured()
    for pair in document["pairs"]:
        if {pair["from"], pair["to"]} == {1, 6}:
            pair["gb_per_second"] = 40.0
    assert judged(document) == [(FAILED, "link-slow", "GPUs 1-6")]


def test_data_that_arrives_wrong_is_named() -> None:
    document = measured()
    for pair in document["pairs"]:
        if pair["to"] == 7:
            pair["wrong"] = 5
    assert judged(document) == [(FAILED, "link-wrong", "GPU 7")]


def test_partial_nvlink_is_not_measured_against_full() -> None:
    document = measured(4)
    for pair in document["pairs"]:
        pair["gb_per_second"] = 20.0
    document["all_reduce"]["bus_gb_per_second"] = 15.0
    assert {code for _severity, code, _subject in judged(document)} == {"link-slow", "all-reduce-slow"}
    assert judged(document, everywhere=False) == []


def test_all_reduce_failures_name_the_gpu() -> None:
    document = measured()
    document["all_reduce"] = {"errors": {"3": "no answer during: start"}, "wrong": {"0": 0, "5": 12}}
    assert judged(document) == [(FAILED, "all-reduce-failed", "GPU 3"), (FAILED, "all-reduce-wrong", "GPU 5")]


def test_rates_of_a_cpu_are_not_judged() -> None:
    document = {**measured(), "device": "cpu"}
    set_rate(document, 5, "copy_gb_per_second", 3.0)
    assert judged(document) == []


def test_no_gpus_and_links_that_were_not_measured_fail() -> None:
    assert judged({"gpus": []}) == [(FAILED, "no-gpus", "host")]
    document = measured()
    document["error"] = "copies between GPUs: no answer during: start"
    assert judged(document) == [(FAILED, "links-not-measured", "host")]


def test_report_of_all_hosts() -> None:
    wrong = measured()
    wrong["gpus"][3]["checks"][0]["wrong"] = 1
    found = report({"a": measured(), "b": deepcopy(wrong), "c": {}}, DATA, HARDWARE)
    assert (found["passed"], found["failures"]) == (False, 2)
    assert "a  8 GPUs accepted, 60 s" in found["lines"]
    assert any(
        "FAILED   GPU 3: 1 of 67108864 results are wrong (bfloat16)" in line for line in found["lines"]
    )
    assert [host for host, one in found["hosts"].items() if one["passed"]] == ["a"]
    assert json.loads(json.dumps(found["hosts"]))["b"]["findings"][0]["subject"] == "GPU 3"
    assert found["html"].count("<h2>") == 3
    assert "default-src 'none'" in found["html"]


def test_the_page_escapes_what_comes_from_the_host() -> None:
    document = measured(1)
    document["gpus"][0].update(product="<script>alert(1)</script>", error="<b>x</b>")
    assert "<script>" not in report({"<i>": document}, DATA, HARDWARE)["html"]
    assert "<b>x" not in report({"<i>": document}, DATA, HARDWARE)["html"]


def test_entry_of_unlike_or_unknown_gpus_is_none() -> None:
    document = measured(2)
    assert entry_of(document, HARDWARE) == H200
    document["gpus"][1]["product"] = "NVIDIA New"
    assert entry_of(document, HARDWARE) is None
    assert passed(judge(document, Expectations.of(DATA)))


RECORDED = ROOT / "tests/unit/fixtures/acceptance"


@pytest.mark.parametrize(("name", "gpus"), [("h200", 1), ("h200-x2", 2)])
def test_healthy_gpus_as_they_were_measured_are_accepted(name: str, gpus: int) -> None:
    measured = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    found = report({"gpu-1": measured}, DATA, HARDWARE)
    assert found["passed"] and f"{gpus} GPUs accepted" in found["lines"][0]
    assert len(measured["pairs"]) == gpus * (gpus - 1)


def test_the_slower_of_two_measured_links_is_named() -> None:
    measured = json.loads((RECORDED / "h200-x2.json").read_text(encoding="utf-8"))
    measured["pairs"][1]["gb_per_second"] /= 3
    found = report({"gpu-1": measured}, DATA, HARDWARE)
    assert not found["passed"] and "GPUs 0-1: 1 of 2 copies" in "\n".join(found["lines"])
