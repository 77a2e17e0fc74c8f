# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which GPU is wrong, which is slow, and what to do: out of one measurement of acceptance.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

FAILED, WARNED = "failed", "warning"
RATES = {
    "matmul_bf16_tflops": ("matrix products", "TFLOP/s", "bf16_tflops"),
    "copy_gb_per_second": ("copies in its memory", "GB/s", "memory_gb_per_second"),
    "read_gb_per_second": ("reads of its memory", "GB/s", "memory_gb_per_second"),
    "from_host_gb_per_second": ("copies from the host", "GB/s", ""),
    "to_host_gb_per_second": ("copies to the host", "GB/s", ""),
}
"""Rate -> its name, its unit, and the key of the hardware entry's peak."""
HARDWARE_SLOWDOWN, SOFTWARE_THERMAL, HARDWARE_THERMAL, POWER_BRAKE = 0x8, 0x20, 0x40, 0x80
REPLACE = "take it out of service, run the maker's field diagnosis, have it replaced"
SLOW = "look at its clocks, power and cooling (`nvidia-smi -q -d CLOCK,POWER,TEMPERATURE,PERFORMANCE -i {index}`)"
ALL_SLOW = "look at power limit, clock limits, cooling and driver of the host (`nvidia-smi -q -d CLOCK,POWER,PERFORMANCE`)"
LATCHED = (
    "its clocks stay low after a bad power event: shut the host down, pull the power adapter from host and wall for a "
    "minute (a restart does not help), finish the system update"
)
LATCHED_CLOCK_MHZ, LATCHED_REASONS = 1500, 0x5
"""Under load, with no reason but idle and power cap, a DGX Spark that is well runs above 2000 MHz."""
LINK = "look at `nvidia-smi nvlink -s` and `nvidia-smi topo -m`, reset the GPUs, then check bridge, baseboard or slot"


@dataclass(frozen=True)
class Expectations:
    """files/acceptance.yml, and what the hardware entry of the GPUs promises."""

    peak_shares: Mapping[str, float]
    sibling_shares: Mapping[str, float]
    siblings: int
    steady_share: float
    link_shares: Mapping[str, float]
    pair_share: float
    temperature_most: float
    temperature_above_others: float
    memory_tested: float
    peak: Mapping[str, float] = field(default_factory=dict)
    """{bf16_tflops, memory_gb_per_second}; empty where nobody knows."""
    unified: bool = False
    """GPU and CPU share memory and power adapter, as on a DGX Spark."""
    link_gb_per_second: float = 0.0
    """One direction of NVLink between every two GPUs; 0 where they have none, or not between all of them."""

    @classmethod
    def of(
        cls, data: Mapping[str, Any], hardware: Mapping[str, Any] | None = None, links_everywhere: bool = True
    ) -> Expectations:
        entry = hardware or {}
        interconnect = entry.get("interconnect") or {}
        nvlink = interconnect.get("kind") == "nvlink" and links_everywhere
        return cls(
            peak_shares=dict(data["peak_shares"]),
            sibling_shares=dict(data["sibling_shares"]),
            siblings=int(data["siblings"]),
            steady_share=float(data["steady_share"]),
            link_shares=dict(data["link_shares"]),
            pair_share=float(data["pair_share"]),
            temperature_most=float(data["temperature"]["most"]),
            temperature_above_others=float(data["temperature"]["above_others"]),
            memory_tested=float(data["memory_tested"]),
            peak=dict(entry.get("peak") or {}),
            unified=bool(entry.get("unified_memory")),
            link_gb_per_second=float(interconnect.get("gb_per_second") or 0) / 2 if nvlink else 0.0,
        )


@dataclass(frozen=True)
class Finding:
    code: str
    subject: str
    what: str
    fix: str
    severity: str = FAILED

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


Gpu = Mapping[str, Any]


def judge(measured: Mapping[str, Any], expected: Expectations) -> list[Finding]:
    """Everything that is wrong, failures first."""
    gpus: Sequence[Gpu] = measured.get("gpus") or []
    found: list[Finding] = []
    if not gpus:
        found.append(Finding("no-gpus", "host", "no GPU was measured", "look at `nvidia-smi -L`"))
    for gpu in gpus:
        found += _results(gpu)
        found += _state(gpu, gpus, expected)
    if measured.get("device") != "cpu":
        # There the program is tried, and the machine does other work meanwhile.
        found += _rates(gpus, expected)
    found += _pairs(measured, expected)
    found += _all_reduce(measured, expected)
    if measured.get("error"):
        found.append(Finding("links-not-measured", "host", str(measured["error"]), LINK))
    return sorted(found, key=lambda item: item.severity != FAILED)


def passed(findings: Iterable[Finding]) -> bool:
    return all(item.severity != FAILED for item in findings)


def name_of(gpu: Gpu) -> str:
    return f"GPU {gpu.get('index')}"


def rate(gpu: Gpu, name: str) -> float | None:
    """The median of one rate; nothing where it was not measured."""
    value = ((gpu.get("rates") or {}).get(name) or {}).get("median")
    return float(value) if isinstance(value, (int, float)) else None


def _results(gpu: Gpu) -> Iterator[Finding]:
    name = name_of(gpu)
    if gpu.get("error"):
        fix = f"read the kernel log (`journalctl -k -b -g NVRM`), then {REPLACE}"
        yield Finding("gpu-failed", name, str(gpu["error"]), fix)
    for check in gpu.get("checks") or ():
        if check["wrong"]:
            what = f"{check['wrong']} of {check['of']} results are wrong ({check['name']})"
            yield Finding("gpu-wrong-results", name, what, REPLACE)
    memory = gpu.get("memory") or {}
    if memory.get("wrong_words"):
        places = "; ".join(memory.get("places") or ())
        what = f"{memory['wrong_words']} words of {memory['tested_mib']} MiB read back wrong ({places})"
        yield Finding("gpu-wrong-memory", name, what, REPLACE)


def _state(gpu: Gpu, gpus: Sequence[Gpu], expected: Expectations) -> Iterator[Finding]:
    name, sensors, memory = name_of(gpu), gpu.get("sensors") or {}, gpu.get("memory") or {}
    look = SLOW.format(index=gpu.get("index"))
    if sensors.get("ecc_uncorrected"):
        what = f"{sensors['ecc_uncorrected']:g} uncorrectable memory errors during the test"
        yield Finding("gpu-ecc", name, what, REPLACE)
    if sensors.get("ecc_corrected"):
        what = f"{sensors['ecc_corrected']:g} corrected memory errors during the test"
        yield Finding("gpu-ecc-corrected", name, what, "test it again; replace it if they go on", WARNED)
    reasons = int(sensors.get("clock_reasons") or 0)
    for bit, cause in (
        (HARDWARE_THERMAL, "the hardware slowed it down because of its temperature"),
        (POWER_BRAKE, "the power supply slowed it down (power brake)"),
    ):
        if reasons & bit:
            yield Finding("gpu-slowdown", name, cause, look)
    if reasons & HARDWARE_SLOWDOWN and not reasons & (HARDWARE_THERMAL | POWER_BRAKE):
        yield Finding("gpu-slowdown", name, "the hardware slowed it down", look)
    if reasons & SOFTWARE_THERMAL:
        yield Finding(
            "gpu-warm", name, "the driver lowered its clocks because of its temperature", look, WARNED
        )
    yield from _temperature(gpu, gpus, expected)
    tested, total = memory.get("tested_mib") or 0, memory.get("total_mib") or 0
    if total and tested < expected.memory_tested * total:
        what = f"only {tested} of {total} MiB of its memory were free to be tested"
        yield Finding("gpu-memory-in-use", name, what, "end what uses the GPU and test again", WARNED)


def _temperature(gpu: Gpu, gpus: Sequence[Gpu], expected: Expectations) -> Iterator[Finding]:
    value = (gpu.get("sensors") or {}).get("temperature_max")
    if value is None:
        return
    look = SLOW.format(index=gpu.get("index"))
    others = [
        other["sensors"]["temperature_max"]
        for other in gpus
        if other is not gpu and (other.get("sensors") or {}).get("temperature_max") is not None
    ]
    if value > expected.temperature_most:
        yield Finding("gpu-hot", name_of(gpu), f"reached {value:g} degrees Celsius", look, WARNED)
    elif (
        len(others) + 1 >= expected.siblings
        and value > statistics.median(others) + expected.temperature_above_others
    ):
        what = f"reached {value:g} degrees Celsius, the others {statistics.median(others):g}"
        yield Finding("gpu-hotter-than-others", name_of(gpu), what, look, WARNED)


def _rates(gpus: Sequence[Gpu], expected: Expectations) -> Iterator[Finding]:
    for name, (words, unit, peak_key) in RATES.items():
        measured = {str(gpu.get("index")): value for gpu in gpus if (value := rate(gpu, name)) is not None}
        peak = float(expected.peak.get(peak_key, 0.0))
        floor = peak * expected.peak_shares.get(name, 0.0)
        below = [index for index, value in measured.items() if value < floor]
        everyone = len(below) > 1 and len(below) == len(measured)
        if everyone:
            best = max(measured.values())
            what = f"all {len(below)} reach at most {best:g} {unit} in {words}; the hardware entry has a peak of {peak:g}"
            yield Finding("gpus-slow", "all GPUs", what, ALL_SLOW)
        for gpu in gpus:
            index, value = str(gpu.get("index")), measured.get(str(gpu.get("index")))
            if value is None:
                continue
            fix = SLOW.format(index=index)
            others = [other for key, other in measured.items() if key != index]
            usual = statistics.median(others) if len(others) + 1 >= expected.siblings else 0.0
            low = float(gpu["rates"][name].get("low") or value)
            if name == "matmul_bf16_tflops" and index in below and expected.unified and _latched(gpu):
                what = f"{words}: {value:g} {unit} at {gpu['sensors']['sm_clock_median']:g} MHz, without a reason"
                yield Finding("gpu-clocks-stuck", name_of(gpu), what, LATCHED)
            elif index in below and not everyone:
                what = f"{words}: {value:g} {unit}; at least {floor:g} are expected (peak {peak:g})"
                yield Finding("gpu-slow", name_of(gpu), what, fix)
            elif usual and value < usual * expected.sibling_shares.get(name, 0.0):
                what = f"{words}: {value:g} {unit}, the others {usual:g}"
                yield Finding("gpu-slower-than-others", name_of(gpu), what, fix)
            elif low < value * expected.steady_share:
                what = f"{words}: between {low:g} and {value:g} {unit}"
                yield Finding("gpu-unsteady", name_of(gpu), what, fix, WARNED)


def _latched(gpu: Gpu) -> bool:
    sensors = gpu.get("sensors") or {}
    clock = sensors.get("sm_clock_median")
    return (
        clock is not None
        and clock < LATCHED_CLOCK_MHZ
        and not int(sensors.get("clock_reasons") or 0) & ~LATCHED_REASONS
    )


def _pairs(measured: Mapping[str, Any], expected: Expectations) -> Iterator[Finding]:
    pairs: Sequence[Mapping[str, Any]] = measured.get("pairs") or []
    wrong = [pair for pair in pairs if pair["wrong"]]
    if wrong:
        yield Finding("link-wrong", _ends(wrong), f"data arrived wrong on {_count(wrong, pairs)}", LINK)
    floor = expected.link_gb_per_second * expected.link_shares.get("pair", 0.0)
    usual = {
        peer: statistics.median(float(pair["gb_per_second"]) for pair in pairs if bool(pair["peer"]) == peer)
        for peer in {bool(pair["peer"]) for pair in pairs}
    }
    slow = [
        pair
        for pair in pairs
        if float(pair["gb_per_second"]) < max(floor, usual[bool(pair["peer"])] * expected.pair_share)
    ]
    if slow:
        least = min(float(pair["gb_per_second"]) for pair in slow)
        typical = statistics.median(float(pair["gb_per_second"]) for pair in pairs)
        wanted = f"at least {floor:g} are expected" if floor else f"the median of all pairs is {typical:g}"
        what = f"{_count(slow, pairs)} are slow, down to {least:g} GB/s; {wanted}"
        yield Finding("link-slow", _ends(slow), what, LINK)


def _count(some: Sequence[object], every: Sequence[object]) -> str:
    return f"{len(some)} of {len(every)} copies between GPUs"


def _ends(pairs: Sequence[Mapping[str, Any]]) -> str:
    """The GPU that all of these have in common, else the pairs themselves."""
    shared = set.intersection(*({pair["from"], pair["to"]} for pair in pairs))
    if len(shared) == 1:
        return f"GPU {shared.pop()}"
    listed = sorted({tuple(sorted((pair["from"], pair["to"]))) for pair in pairs})
    more = f" and {len(listed) - 6} more" if len(listed) > 6 else ""
    return "GPUs " + ", ".join(f"{one}-{other}" for one, other in listed[:6]) + more


def _all_reduce(measured: Mapping[str, Any], expected: Expectations) -> Iterator[Finding]:
    reduced: Mapping[str, Any] = measured.get("all_reduce") or {}
    for index, error in sorted((reduced.get("errors") or {}).items()):
        yield Finding("all-reduce-failed", f"GPU {index}", f"all-reduce: {error}", LINK)
    for index, wrong in sorted((reduced.get("wrong") or {}).items()):
        if wrong:
            yield Finding("all-reduce-wrong", f"GPU {index}", f"all-reduce: {wrong} sums are wrong", LINK)
    value = reduced.get("bus_gb_per_second")
    floor = expected.link_gb_per_second * expected.link_shares.get("all_reduce", 0.0)
    if value is not None and value < floor:
        what = f"all-reduce reaches {value:g} GB/s on the bus; at least {floor:g} are expected"
        yield Finding("all-reduce-slow", "all GPUs", what, LINK)
