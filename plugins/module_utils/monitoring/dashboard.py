# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Grafana dashboard out of a table of panels; the tests ask a live Prometheus every query of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .series import filled

COLUMNS, HEIGHT = 3, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    title: str
    query: str
    legend: str
    unit: str = "short"
    gpu: bool = False
    """Has something to show only on a host with GPUs, or RDMA."""


ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Instances": (
        Panel("Serving", "sglang_instance_serving", "{{name}} {{host}}"),
        Panel(
            "Generated tokens a second", "sglang:instance:generation_tokens_per_second", "{{serves}} {{host}}"
        ),
        Panel("Prompt tokens a second", "sglang:instance:prompt_tokens_per_second", "{{serves}} {{host}}"),
        Panel("Requests under way", "${running}", "{{serves}} {{host}}"),
        Panel("Requests waiting", "${queued}", "{{serves}} {{host}}"),
        Panel("KV cache in use", "${cache_use}", "{{serves}} {{host}}", "percentunit"),
        Panel("Time to first token, 95 %", "sglang:instance:ttft_seconds:p95", "{{serves}} {{host}}", "s"),
        Panel("Accepted length of drafts", "${accept_length}", "{{serves}} {{host}}"),
        Panel("Restarts", "sglang_instance_restarts", "{{name}} {{host}}"),
        Panel("Failed checks of the last verify", "sglang_verify_failed_checks", "{{name}} {{host}}"),
    ),
    "Gateway": (
        Panel(
            "Answers a second",
            'sum by (host, proxy, code) (rate(haproxy_backend_http_responses_total{proxy=~"model-.*"}[2m]))',
            "{{proxy}} {{code}} {{host}}",
        ),
        Panel("Streams", 'haproxy_backend_current_sessions{proxy=~"model-.*"}', "{{proxy}} {{host}}"),
        Panel(
            "Waiting in the gateway", 'haproxy_backend_current_queue{proxy=~"model-.*"}', "{{proxy}} {{host}}"
        ),
        Panel(
            "Engines that take requests",
            'haproxy_backend_active_servers{proxy=~"model-.*"}',
            "{{proxy}} {{host}}",
        ),
        Panel("Connections", 'haproxy_frontend_current_sessions{proxy="front"}', "{{host}}"),
        Panel("Days left of certificates", "sglang_certificate_days_left", "{{file}} {{host}}"),
    ),
    "Hosts": (
        Panel(
            "Disk left", "sglang_disk_free_bytes / sglang_disk_size_bytes", "{{path}} {{host}}", "percentunit"
        ),
        Panel("Memory left", "node_memory_MemAvailable_bytes", "{{host}}", "bytes"),
        Panel("Load", "node_load1", "{{host}}"),
        Panel("Damaged files of weights", "sglang_weights_damaged_files", "{{path}} {{host}}", gpu=True),
        Panel("RDMA ports", "sglang_rdma_port_active", "{{device}} {{host}}", gpu=True),
        Panel(
            "Gb/s between hosts, measured last",
            "sglang_fabric_gbps",
            "{{kind}} {{sender}} {{receiver}}",
            gpu=True,
        ),
        Panel("Age of these figures", "time() - sglang_collected_time_seconds", "{{host}}", "s"),
    ),
    "GPUs": (
        Panel("Temperature", "sglang_gpu_temperature_celsius", "{{gpu}} {{host}}", "celsius", gpu=True),
        Panel("Power", "sglang_gpu_power_watts", "{{gpu}} {{host}}", "watt", gpu=True),
        Panel("Memory", "sglang_gpu_memory_used_bytes", "{{gpu}} {{host}}", "bytes", gpu=True),
    ),
}


def dashboard(section: Mapping[str, Any]) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    line = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": line},
                "panels": [],
            }
        )
        line += 1
        for place, panel in enumerate(row):
            query = filled(panel.query, section["metrics"])
            panels.append(_panel(len(panels) + 1, panel, query, place, line))
        line += -(-len(row) // COLUMNS) * HEIGHT
    return {
        "uid": "baremetal-sglang",
        "title": "LLM serving on bare hosts",
        "schemaVersion": 39,
        "tags": ["sglang"],
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def _panel(number: int, panel: Panel, query: str, place: int, line: int) -> dict[str, Any]:
    width = 24 // COLUMNS
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": {
            "h": HEIGHT,
            "w": width,
            "x": place % COLUMNS * width,
            "y": line + place // COLUMNS * HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": query, "legendFormat": panel.legend}],
    }
