# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run can be stopped and resumed, keeps what it has when the server dies, and refuses before it asks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import point_host as point
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import prompts, results
from ansible_collections.baremetal.sglang.plugins.module_utils.measure.client_host import Server
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bench_run
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS
from ansible_collections.baremetal.sglang.tests.unit.fixtures.truth_server import TruthServer

from ..module_utils.measure.test_point_host import DATA
from ..module_utils.measure.test_results import ABOUT, result
from ..module_utils.measure.test_results import run as made


def points(*labels: str, setting: str = "", server: Any = None) -> list[dict[str, Any]]:
    found = []
    for label in labels:
        one: dict[str, Any] = {
            "scenario": "random",
            "label": label,
            "key": f"random/{label}/{setting}/0",
            "seed": 1,
            "block": 0,
        }
        if setting:
            one |= {"setting": setting, "server": server}
        found.append(one)
    return found


class Bench:
    """A run with everything outside it written down."""

    def __init__(self, folder: Path, identity: str = "same", **answers: Mapping[str, Any]) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.switched: list[str] = []
        self.said: list[str] = []
        self.answers = answers
        self.run = bench_run.Run(
            bench_run.Store(folder), "big", identity, self.measure, self.switched.append, self.said.append
        )

    def measure(self, asked: Mapping[str, Any], scale: Any, _server: str) -> dict[str, Any]:
        self.asked.append((asked["label"], scale))
        answer = self.answers.get(asked["label"], {})
        if isinstance(answer, Exception):
            raise answer
        return {"valid": True, "scale": {"fixed": 1.0, "each": 2.0}, "output_tokens_per_second": 10.0,
                "requests": {"good": 1, "sent": 1, "failed": {}}, **answer}  # fmt: skip


def test_a_second_run_measures_nothing_again(tmp_path: Path) -> None:
    first, second = Bench(tmp_path), Bench(tmp_path)
    first.run.go(points("a", "b"))
    second.run.go(points("a", "b", "c"))
    assert [label for label, _unused in first.asked] == ["a", "b"]
    assert [label for label, _unused in second.asked] == ["c"]
    assert len(second.run.records) == 3
    assert "2 of 3 points are kept" in second.said[0]


def test_the_scale_is_measured_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run.go(points("a", "b"))
    assert [scale for _unused, scale in bench.asked] == [None, {"fixed": 1.0, "each": 2.0}]


@pytest.mark.parametrize("change", ["server", "parameters"])
def test_another_server_or_other_parameters_are_measured_again(tmp_path: Path, change: str) -> None:
    Bench(tmp_path).run.go(points("a"))
    bench = Bench(tmp_path, "other" if change == "server" else "same")
    asked = points("a")
    if change == "parameters":
        asked[0]["seed"] = 2
    bench.run.go(asked)
    assert len(bench.asked) == 1


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    Bench(tmp_path).run.go(points("a", "b"))
    path = tmp_path / bench_run.RECORDS
    path.write_text(path.read_text()[:-40])
    bench = Bench(tmp_path)
    bench.run.go(points("a", "b"))
    assert [label for label, _unused in bench.asked] == ["b"]
    assert len(bench_run.Store(tmp_path).read()) == 2


def test_a_dead_server_ends_the_run_and_keeps_what_was_measured(tmp_path: Path) -> None:
    died = {"died": "killed by signal 9", "why": "failed: 3 cut; the server ended", "valid": False}
    bench = Bench(tmp_path, b=died)
    bench.run.go(points("a", "b", "c"))
    assert [label for label, _unused in bench.asked] == ["a", "b"]
    assert "the server ended" in bench.run.stopped
    assert [record["point"]["label"] for record in bench_run.Store(tmp_path).read()] == ["a", "b"]
    again = Bench(tmp_path)
    again.run.go(points("a", "b", "c"))
    assert [label for label, _unused in again.asked] == ["b", "c"]


def test_other_servers_are_switched_between_and_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    asked = [
        *points("a"),
        *points("x", setting="on", server={}),
        *points("x", setting="off", server={"s": False}),
    ]
    bench.run.go(asked)
    assert bench.switched == ["random: on", "random: off", ""]


def test_what_serves_comes_back_when_a_start_fails(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    def switch(server: str) -> None:
        bench.switched.append(server)
        if server == "random: off":
            raise bench_run.StoppedError("no token")

    bench.run.switch = switch
    bench.run.go([*points("x", setting="on", server={}), *points("x", setting="off", server={})])
    assert bench.switched == ["random: on", "random: off", ""]
    assert bench.run.stopped == "no token"
    assert len(bench_run.Store(tmp_path).read()) == 1


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(bench_run.StoppedError, match=r"REFUSED .*Nothing was asked"):
        bench_run.Store(tmp_path / "file").open()
    with pytest.raises(bench_run.StoppedError, match="MiB are free"):
        bench_run.Store(tmp_path, free_mib=1 << 40).open()


def test_a_disk_that_fills_up_ends_with_a_word(tmp_path: Path) -> None:
    (tmp_path / bench_run.RECORDS).symlink_to("/dev/full")
    with pytest.raises(bench_run.StoppedError, match="No space left on device; free some room"):
        bench_run.Store(tmp_path).add({"a": 1})


def test_results_are_written_whole(tmp_path: Path) -> None:
    files = bench_run.write(tmp_path, result(made()))
    assert sorted(os.path.basename(path) for path in files) == ["report.html", "report.md", "results.json"]
    before, pairs = bench_run.read_baseline(str(tmp_path / "results.json"), ABOUT)
    assert pairs == {"big": "big"}
    assert results.compare(result(made())["rows"], before, pairs)
    assert bench_run.read_baseline(str(tmp_path), ABOUT, "gpu-01")[0] == before
    (tmp_path / "gpu-01").mkdir()
    (tmp_path / "results.json").rename(tmp_path / "gpu-01" / "results.json")
    assert bench_run.read_baseline(str(tmp_path), ABOUT, "gpu-01")[0] == before
    (tmp_path / "gpu-01" / "results.json").rename(tmp_path / "results.json")
    (tmp_path / "gpu-01").rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md", "results.json"]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_baseline_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(results.BaselineError, match=r"old\.json"):
        bench_run.read_baseline(str(tmp_path / "old.json"), ABOUT)
    with pytest.raises(results.BaselineError, match="cannot be read"):
        bench_run.read_baseline(str(tmp_path / "none.json"), ABOUT)


def test_the_command_hides_secrets() -> None:
    words = ["/x/bin/ansible-playbook", "bench.yml", "-e", "api_key=abc", "-e", "profile=quick"]
    assert bench_run.command(words) == "ansible-playbook bench.yml -e api_key=... -e profile=quick"


def test_a_server_that_dies_in_mid_run(tmp_path: Path) -> None:
    """With the real client: the point before is whole, the one that broke says how, the next finds nobody."""
    with TruthServer() as server:
        context = point.CheckContext(
            Server(server.url, silence=3, limit=10), "truth", DATA["thresholds"], str(tmp_path), 0,
            scale=prompts.Scale(4, 2), questions=DATA["questions"], metric_names=METRICS,
        )  # fmt: skip

        def measure(asked: Mapping[str, Any], _scale: Any, _server: str) -> dict[str, Any]:
            server.behaviour.fault = "die" if asked["label"] == "b" else ""
            load = {"kind": "load", "input": 64, "output": 16, "concurrency": 2, "requests": 4, "warm_up": 0}
            record = point.run(context, {**load, **asked})
            # As the module does, from what systemd says of the unit.
            return {**record, "died": "gone"} if not record["valid"] else record

        run = bench_run.Run(bench_run.Store(tmp_path), "big", "same", measure, print, lambda _said: None)
        run.go(points("a", "b", "c"))
    kept = bench_run.Store(tmp_path).read()
    assert [record["point"]["label"] for record in kept] == ["a", "b"]
    assert kept[0]["valid"]
    assert set(kept[1]["requests"]["failed"]) <= {"cut", "reset", "connect", "no_answer"}
    assert "failed:" in kept[1]["why"]
    assert json.dumps(kept)
