# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of other programs: nvidia-smi, /proc, /metrics."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import counters, judge
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import samples as sampling
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS as NAMES


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Two idle H200, recorded.
        (
            "0, 0, 0, 112.54, 375, 34\n1, 0, 0, 104.65, 345, 36\n",
            [{"index": 0, "busy_percent": 0, "memory_mib": 0, "power_w": 112.54, "clock_mhz": 375, "celsius": 34},
             {"index": 1, "busy_percent": 0, "memory_mib": 0, "power_w": 104.65, "clock_mhz": 345, "celsius": 36}],
        ),
        # A board that shares the host's memory does not say how much is used.
        ("0, 97, [N/A], 61.2, 2411, 66\n", [{"index": 0, "busy_percent": 97, "power_w": 61.2, "clock_mhz": 2411, "celsius": 66}]),
        ("No devices were found\n", []),
    ],
)  # fmt: skip
def test_gpus_say_what_they_know(text: str, found: list[dict[str, float]]) -> None:
    assert sampling.gpus(text) == found


def test_a_busy_host() -> None:
    before = sampling.cpu_times("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 1 1 1\n")
    after = sampling.cpu_times("cpu  160 0 70 810 60 0 0 0 0 0\n")
    assert (after[0] - before[0], after[1] - before[1]) == (80, 100)
    assert sampling.memory_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n") == 2.0


def test_the_course_of_a_point_is_a_line_a_quantity() -> None:
    samples: list[dict[str, Any]] = [
        {
            "host_cpu_percent": 10.0 * number,
            "server": {"running": number},
            "gpus": [{"index": 0.0, "power_w": 300.0}],
        }
        for number in range(1, 4)
    ]
    found = sampling.summary(samples)
    assert found["host_cpu_percent"] == {"median": 20.0, "min": 10.0, "max": 30.0}
    assert found["running"]["max"] == 3
    assert found["gpu0_power_w"]["median"] == 300.0


METRICS = """# HELP sglang:generation_tokens_total x
sglang:generation_tokens_total{is_streaming="true",model_name="a"} 100.0
sglang:generation_tokens_total{is_streaming="false",model_name="a"} 11.0
sglang:time_to_first_token_seconds_bucket{le="0.1"} 5
sglang:time_to_first_token_seconds_sum 2.5
sglang:time_to_first_token_seconds_count 5
sglang:num_running_reqs NaN
other_total 7
"""


def test_counters_are_summed_over_their_labels() -> None:
    found = counters.parse(METRICS, NAMES)
    assert found["generated"] == 111 and found["first_token_seconds_count"] == 5
    assert set(found) <= {f"{name}{end}" for name in NAMES for end in counters.ENDS}
    assert not any(name.endswith("_bucket") for name in found)


@pytest.mark.parametrize(
    ("before", "after", "ours", "agrees", "why"),
    [
        (100, 200, 100, True, ""),
        (100, 200, 99, False, "somebody else used it"),
        (100, 200, 130, False, "answers were lost"),
        (None, 200, 200, True, ""),
        (100, None, 100, None, "no counters"),
        # The server was started again in between.
        (500, 20, 20, None, "no counters"),
    ],
)
def test_sums_are_compared_with_the_server_s(
    before: Any, after: Any, ours: int, agrees: Any, why: str
) -> None:
    name = counters.GENERATED
    found = counters.reconcile(
        {} if before is None else {name: before},
        {} if after is None else {name: after},
        {"completion_tokens": ours},
        0.005,
    )
    assert found["agrees"] is agrees
    assert why in found["why"]


def test_tokens_a_step_come_from_the_counters() -> None:
    after = {counters.GENERATED: 270, counters.VERIFIED: 100}
    assert counters.reconcile({}, after, {"completion_tokens": 270}, 0.01)["accept_length"] == 2.7


@pytest.mark.parametrize(
    ("text", "accepted", "right"),
    [
        ("391", ["391"], True), ("The answer is 391.", ["391"], True), ("**391**", ["391"], True), ("17 * 23 = 391", ["391"], True),
        ("$\\boxed{391}$", ["391"], True), ("5,040", ["5040"], True), ("It is 392, not 391, or 3910", ["391"], False),
        ("1391", ["391"], False), ("", ["391"], False), ("canberra", ["Canberra"], True), ("Sydney", ["Canberra"], False),
        ("No, because it is 7 * 13", ["no"], False), ("Let me see.\n\nno", ["no"], True),
    ],
)  # fmt: skip
def test_an_exact_answer(text: str, accepted: list[str], right: bool) -> None:
    assert judge.answer_right(text, accepted) is right


def call(name: str, arguments: str) -> dict[str, str]:
    return {"id": "1", "name": name, "arguments": arguments}


@pytest.mark.parametrize(
    ("calls", "problem"),
    [
        ([call("f", '{"a": 1, "b": "X"}')], ""),
        ([call("f", '{"a": 1.0, "b": " x "}')], ""),
        ([call("f", '{"a": 1}')], ""),
        ([call("f", '{"a": 2}')], "no call f"),
        ([call("f", '{"a": true}')], "no call f"),
        ([call("f", '{"a": 1, "c": 1}')], "no call f"),
        ([call("g", '{"a": 1}')], "no call f"),
        ([call("f", '{"a": 1')], "no call f"),
        ([], "0 calls instead of 1"),
        ([call("f", '{"a": 1}'), call("f", '{"a": 1}')], "2 calls instead of 1"),
    ],
)
def test_calls_are_compared_as_bfcl_does(calls: list[dict[str, str]], problem: str) -> None:
    wanted = [{"name": "f", "arguments": {"a": [1], "b": ["x", ""]}}]
    assert judge.calls_right(calls, wanted).startswith(problem) and bool(problem) == bool(
        judge.calls_right(calls, wanted)
    )
