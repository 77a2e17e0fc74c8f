# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows, comparison with an earlier result, and the report as a browser shows it."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import chart, report, results, summary

DATA = yaml.safe_load((Path(__file__).parents[5] / "files/bench.yml").read_text(encoding="utf-8"))
FLOOR = DATA["thresholds"]["noise_floor"]


def record(
    scenario: str, label: str, x: float, block: int, setting: str = "", **values: Any
) -> dict[str, Any]:
    key = f"{scenario}/{label}/{setting}/{block}"
    point = {"scenario": scenario, "label": label, "x": x, "block": block, "key": key}
    return {
        "instance": "big", "point": {**point, **({"setting": setting} if setting else {})}, "valid": True, "why": "",
        "requests": {"sent": 4, "good": 4, "failed": {}}, "remarks": [],
        "client": {"cpu_share": 0.02, "lag_p99_ms": 1.0}, "server": {"off": 0.0},
        "samples": {"series": [{"host_cpu_percent": 40.0 + n, "gpus": [{"index": 0, "busy_percent": 90.0}]} for n in range(5)]},
        **values,
    }  # fmt: skip


def run(speed: float = 1.0) -> list[dict[str, Any]]:
    found = []
    for block, drift in enumerate((1.0, 1.01, 0.99)):
        for size in (512, 4096, 16384, 65536):
            rate = 40 * speed * drift / (1 + size / 60000)
            found.append(
                record(
                    "context",
                    str(size),
                    size,
                    block,
                    decode_tokens_per_second={"median": rate},
                    ttft_ms={"median": size / 5},
                )
            )
        for level in (1, 4, 16):
            found.append(
                record("concurrency", str(level), level, block, output_tokens_per_second=35 * level**0.8 * drift * speed,
                       decode_tokens_per_second={"median": 38 / level**0.2 * speed}, ttft_ms={"median": 90 + 10 * level})
            )  # fmt: skip
        for setting, seconds in (("on", 9.0), ("off", 2.5)):
            found.append(
                record("thinking", "answer", 0, block, setting, request_seconds={"median": seconds * drift},
                       tokens={"good_completion_tokens": seconds * 100}, decode_tokens_per_second={"median": 40 * speed})
            )  # fmt: skip
    found.append(
        record("accuracy", "exact answers", 0, 0,
               accuracy={"share": 0.9167, "asked": 12, "right": 11, "wrong": [{"ask": "2+2 <b>", "problem": "said 5"}]})
    )  # fmt: skip
    return found


ABOUT = {
    "big": {
        "host": "gpu-01", "model": "glm-4.7-fp8", "weights_revision": "abc", "release": "0.5.23 cu130-x86_64",
        "argv": ["python", "-m", "sglang.launch_server", "--port", "30000"], "environment_variables": {"A": "<b>"},
        "plan": {"arguments": []},
    }
}  # fmt: skip


def result(
    records: list[dict[str, Any]], before: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    rows = results.rows(records, FLOOR)
    pairs = results.check_baseline(ABOUT, before, "old.json") if before else {}
    return {
        "schema": 1, "made": 1800000000.0, "collection": "0.1.0", "profile": "standard", "blocks": 3, "seed": 1,
        "parameters": {}, "command": "ansible-playbook playbooks/bench.yml", "titles": DATA["titles"], "instances": ABOUT,
        "records": records, "rows": rows, "settings": results.settings_compared(rows), "failures": results.failures(records),
        "skipped": [{"instance": "big", "scenario": "moe_file", "why": "no kernel tuning file is planned"}],
        "baseline": "old.json" if before else "", "verified": {"passed": 20, "failed": 0, "skipped": 12},
        "comparison": results.compare(rows, before, pairs) if before else [], "best": [], **more,
    }  # fmt: skip


# --- numbers ---


def test_a_row_is_the_median_of_its_blocks() -> None:
    rows = results.rows(run(), FLOOR)
    one = next(row for row in rows if row["scenario"] == "context" and row["label"] == "512")
    assert one["median"] == pytest.approx(40 / (1 + 512 / 60000), rel=1e-3)
    assert one["low"] <= one["median"] <= one["high"]
    assert len(one["values"]) == 3


def test_a_block_whose_server_died_is_no_speed() -> None:
    records = [
        record("context", "512", 512, block, decode_tokens_per_second={"median": 40.0}) for block in range(2)
    ]
    records.append(
        record("context", "512", 512, 2, decode_tokens_per_second={"median": 1.0}, died="killed", valid=False)
    )
    rows = results.rows(records, FLOOR)
    assert rows[0]["values"] == [40.0, 40.0]
    assert len(results.failures(records)) == 1


@pytest.mark.parametrize(
    ("speed", "verdict"),
    [(1.0, results.SAME), (1.02, results.SAME), (0.8, results.WORSE), (1.3, results.BETTER)],
)
def test_only_what_is_beyond_noise_counts(speed: float, verdict: str) -> None:
    compared = result(run(speed), result(run()))["comparison"]
    speeds = {
        row["verdict"]
        for row in compared
        if row["metric"].startswith("decode_tokens") and row["scenario"] == "context"
    }
    assert speeds == {verdict}


def test_more_seconds_are_worse_and_more_right_answers_are_better() -> None:
    slower, before = copy.deepcopy(run()), result(run())
    for one in slower:
        if one["point"]["scenario"] == "context":
            one["ttft_ms"]["median"] *= 2
        if one["point"]["scenario"] == "accuracy":
            one["accuracy"]["share"] = 1.0
    compared = result(slower, before)["comparison"]
    found = {(row["scenario"], row["metric"]): row["verdict"] for row in compared}
    assert found["context", "ttft_ms.median"] == results.WORSE
    assert found["accuracy", "accuracy.share"] == results.BETTER


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"rows": []}, "not a result of bench.yml"),
        ([], "not a result of bench.yml"),
        ({"schema": 1, "rows": [], "instances": {"big": {"model": "glm-4.7-awq", "weights_revision": "abc"}}}, "another model"),
        ({"schema": 1, "rows": [], "instances": {"big": {"model": "glm-4.7-fp8", "weights_revision": "x"}}}, "another model"),
    ],
)  # fmt: skip
def test_a_baseline_of_another_model_is_refused(before: Any, words: str) -> None:
    with pytest.raises(results.BaselineError, match=words):
        results.check_baseline(ABOUT, before, "old.json")


def test_the_same_model_under_another_name_is_compared() -> None:
    before = {
        "schema": 1,
        "rows": [],
        "instances": {"glm": {"model": "glm-4.7-fp8", "weights_revision": "abc"}},
    }
    assert results.check_baseline(ABOUT, before, "old.json") == {"big": "glm"}


def test_settings_stand_side_by_side() -> None:
    found = result(run())["settings"]
    one = next(entry for entry in found if entry["name"] == "whole request")
    assert (one["first"], one["second"], one["verdict"]) == ("on", "off", results.BETTER)
    assert one["change"] == pytest.approx(2.5 / 9 - 1, abs=0.01)


def sweep(*rates: float) -> list[dict[str, Any]]:
    names = ["as planned", *(f"memory_fraction=0.{8 + n}" for n in range(len(rates) - 1))]
    found = []
    for block in range(2):
        for number, (name, rate) in enumerate(zip(names, rates)):
            one = record("sweep", "8 streams", 8, block, name, output_tokens_per_second=rate + block)
            one["point"]["server"] = (
                {"memory_fraction": 0.8 + number / 10, "options": {"a": 1}} if number else {}
            )
            found.append(one)
    return found


def test_the_best_of_a_sweep_is_lines_to_paste() -> None:
    lines = results.best_lines(results.rows(sweep(100, 140, 90), FLOOR), "big", sweep(100, 140, 90))
    pasted = yaml.safe_load("\n".join(lines))
    assert pasted["serve"]["big"] == {"memory_fraction": 0.9, "options": {"a": 1}}
    same = results.best_lines(results.rows(sweep(100, 101), FLOOR), "big", sweep(100, 101))
    assert same == ["# big: nothing that was tried beats the plan beyond noise"]


def test_spread_and_quantiles() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 100.0]
    found = summary.spread(values)
    assert found
    assert (found["median"], found["p25"], found["p75"], found["max"]) == (3.0, 2.0, 4.0, 100.0)
    low, high = summary.interval(values)
    assert low <= 3.0 <= high
    assert summary.interval(values) == summary.interval(values)
    assert summary.spread([None, None]) is None


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (3.14159, "3.14"), (123.4, "123"), (20480, "20,480")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert chart.number(value) == text


@pytest.mark.parametrize("most", [0.0, 0.003, 1.0, 7.0, 99.0, 1234567.0])
def test_axes_hold_their_values(most: float) -> None:
    ticks = chart.steps(most)
    assert ticks[0] == 0
    assert ticks[-1] >= most
    assert len(ticks) <= 7


# --- the page ---


class Strict(HTMLParser):
    """Counts elements; an element that is never closed is found."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def worse_result() -> dict[str, Any]:
    records = run(0.7)
    records[0] |= {
        "died": "killed",
        "valid": False,
        "why": "the server ended while it was measured: <signal 9>",
    }
    return result(records, result(run()))


def test_the_page_is_whole_and_fetches_nothing() -> None:
    page = report.html(worse_result())
    found = Strict()
    found.feed(page)
    assert found.open == []
    assert found.addresses == []
    assert "script" not in found.count
    assert not re.search(r"https?://|url\(|@import", page)
    assert found.count["svg"] > 8
    assert len(page) < 200_000
    # What a server said is text here.
    assert "&lt;signal 9&gt;" in page
    assert "2+2 &lt;b&gt;" in page


def test_the_page_says_what_counts() -> None:
    page = report.html(worse_result())
    for words in ("slower beyond noise", "1 point with failures", "WORSE", "Changed beyond noise", "no kernel tuning file is planned",
                  "exact answers 92%", "ansible-playbook playbooks/bench.yml", "sglang.launch_server"):  # fmt: skip
        assert words in page, words
    good = report.html(result(run(), result(run())))
    assert "Nothing is worse" in good
    assert "Every request was answered" in good


def test_markdown_has_the_same() -> None:
    text = report.markdown(worse_result())
    assert "## Slower beyond noise" in text
    assert "| big | 512 | decode speed of one stream |" in text
    assert "- big, Kernel tuning file or default tiles: no kernel tuning file is planned" in text


@pytest.mark.skipif(
    not shutil.which("chromium"), reason="needs Debian's chromium (bindep.txt, profile browser)"
)
def test_a_browser_shows_it_without_a_word_of_complaint(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(report.html(worse_result()), encoding="utf-8")
    picture = tmp_path / "report.png"
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--window-size=1180,3200",
         "--enable-logging=stderr", f"--screenshot={picture}", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=3600, check=True,
    )  # fmt: skip
    assert picture.stat().st_size > 50_000
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # The browser's own tree has every chart and table.
    assert done.stdout.count("<svg") == report.html(worse_result()).count("<svg")
