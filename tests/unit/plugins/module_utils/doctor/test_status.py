# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One screen: what instances and hosts say of themselves."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import host as doctor_look
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor.status import (
    Limits,
    figures,
    host_line,
    host_problems,
    instance_words,
    warning_line,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.faults import fault
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_host import NvidiaFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.dashboard import ROWS, dashboard
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.scrape_config import (
    fragment,
    prometheus,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.release.host import Host
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS

PAGE = """\
# HELP sglang:gen_throughput The generation throughput
# TYPE sglang:gen_throughput gauge
sglang:gen_throughput{model_name="a b",tp_rank="0"} 12.5
sglang:gen_throughput{model_name="a b",tp_rank="1"} 7.5
sglang:num_queue_reqs{model_name="a b"} 3
sglang:token_usage{model_name="a b",dp="0"} 0.25
sglang:token_usage{model_name="a b",dp="1"} 0.75
sglang:spec_accept_length{model_name="a b"} NaN?
"""


def test_figures_of_an_engine() -> None:
    assert figures(PAGE, METRICS) == {"tokens_per_second": 20.0, "queue": 3.0, "cache_use": 0.75}
    assert figures("", METRICS) == {} and figures("<html>", METRICS) == {}


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ({}, ""),
        ({"figures": {"tokens_per_second": 20.0, "queue": 3.0, "cache_use": 0.75}}, "20.0 tokens/s, 3 wait, KV 75 %"),
        ({"figures": {"accept_length": 0.0}}, ""),
        ({"figures": {"accept_length": 2.51}, "restarts": 2, "last_reason": "hung"},
         "accepts 2.51  restarted 2 times: hung"),
        ({"members": 4, "rank": 1, "generation": 2}, "rank 1 of 4  generation 2"),
    ],
)  # fmt: skip
def test_words_of_an_instance(unit: dict[str, Any], words: str) -> None:
    assert instance_words(unit) == words


def seen(days: float = 90, free: float = 80, state: str = "active") -> dict[str, Any]:
    return {
        "certificates": [{"file": "internal.crt", "days_left": days}],
        "disks": [{"path": "/opt/sglang", "free_gib": free, "total_gib": 100}],
        "services": {"sglang-gateway.service": state},
    }


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (seen(), []),
        (seen(days=13), ["certificate internal.crt has 13 days left"]),
        (seen(days=-1, free=1), ["-1 days left", "/opt/sglang has 1.0 GiB left"]),
        (seen(state="failed"), ["sglang-gateway.service is failed (journalctl -u sglang-gateway.service)"]),
    ],
)
def test_what_is_wrong_with_a_host(what: dict[str, Any], words: list[str]) -> None:
    found = host_problems(what, Limits())
    assert len(found) == len(words) and all(part in said for part, said in zip(words, found, strict=True))
    line = host_line("h1", what, found)
    assert line.startswith("h1  PROBLEM" if words else "h1  host") and "\n" not in line
    if not words:
        assert line == "h1  host  /opt/sglang 80 GiB free, certificate 90 days, gateway active"


def target(**more: Any) -> dict[str, Any]:
    return {"host": "h1", "address": "10.0.0.1:8444", "instances": {"a": "tiny"}, "dcgm": False, **more}


def test_what_prometheus_asks() -> None:
    section = {
        "folders": {"configuration": "/m"},
        "limits": {"sample_limit": 20000, "body_size_limit": "32MB"},
        "prometheus": {"scrape_seconds": 15, "targets": [target()]},
        "files": {"scrape_seconds": 60, "targets": [target(dcgm=True)]},
    }
    made = prometheus(section)
    jobs = {job["job_name"]: job for job in made["scrape_configs"]}
    assert sorted(jobs) == ["sglang-engine", "sglang-gateway", "sglang-node"]
    assert all(
        job["scheme"] == "https" and job["tls_config"]["cert_file"] == "/m/tls/monitoring.crt"
        for job in jobs.values()
    )
    assert all(job["sample_limit"] == 20000 and job["body_size_limit"] == "32MB" for job in jobs.values())
    # Its certificate would go wherever an answer points to.
    assert not any(job["follow_redirects"] for job in jobs.values())
    (engine,) = jobs["sglang-engine"]["static_configs"]
    assert engine["labels"] == {
        "host": "h1", "serves": "a", "model": "tiny", "__metrics_path__": "/metrics/engine/a"
    }  # fmt: skip
    others = {job["job_name"]: job for job in fragment(section, "/etc/p")["scrape_configs"]}
    assert "sglang-gpu" in others and others["sglang-gpu"]["scrape_timeout"] == "10s"
    assert others["sglang-node"]["tls_config"]["key_file"] == "/etc/p/monitoring.key"


def test_the_dashboard_has_every_panel_once_and_none_over_another() -> None:
    made = dashboard({"metrics": {key: [name] for key, name in METRICS.items()}})
    assert not any("${" in target["expr"] for panel in made["panels"] for target in panel.get("targets", ()))
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(numbers) == len(set(numbers)) == sum(map(len, ROWS.values())) + len(ROWS)
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells


def test_a_warning_names_host_subject_and_cure() -> None:
    said = {"subject": "GPU 3", "what": "the hardware slows the GPU down now", "fix": "check cooling"}
    assert warning_line("gpu-01", said) == (
        "gpu-01  WARNING  GPU 3: the hardware slows the GPU down now; check cooling"
    )
    assert warning_line("gpu-01", {**said, "fix": ""}).endswith("GPU down now")


def test_status_reads_the_gpus_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    found = NvidiaFacts(faults=[fault("gpu-slowdown", "GPU 3", reason="hw thermal slowdown")])
    monkeypatch.setattr(doctor_look, "nvidia_facts", lambda *_arguments: found)
    monkeypatch.setattr(doctor_look, "rdma_devices", lambda *_arguments: ())
    monkeypatch.setattr(doctor_look, "rdma_faults", lambda *_arguments: [])
    host = Host(lambda *_arguments, **_options: (0, "", ""))
    (warning,) = doctor_look.warnings(host)
    assert warning["subject"] == "GPU 3" and "thermal" in warning["what"] and warning["fix"]


def test_gpus_that_cannot_be_read_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any) -> NvidiaFacts:
        raise RuntimeError("no luck")

    monkeypatch.setattr(doctor_look, "nvidia_facts", broken)
    (warning,) = doctor_look.warnings(Host(lambda *_arguments, **_options: (0, "", "")))
    assert "no luck" in warning["what"]
