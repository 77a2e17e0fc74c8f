# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is to ask, out of the plan's targets. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

JOBS = {"gateway": "/metrics/gateway", "node": "/metrics/node", "gpu": "/metrics/gpu"}
Target = Mapping[str, Any]
Limits = Mapping[str, Any]


def jobs(targets: Iterable[Target], credentials: str, seconds: int, limits: Limits) -> list[dict[str, Any]]:
    """One job a kind; every one goes through the internal listener, with a certificate of the own authority on both sides."""
    found = list(targets)
    return [
        *(
            _job(kind, path, found, credentials, seconds, limits)
            for kind, path in JOBS.items()
            if _asked(kind, found)
        ),
        _engines(found, credentials, seconds, limits),
    ]


def _asked(kind: str, targets: list[Target]) -> bool:
    return kind != "gpu" or any(target.get("dcgm") for target in targets)


def _common(name: str, credentials: str, seconds: int, limits: Limits) -> dict[str, Any]:
    return {
        "job_name": f"sglang-{name}",
        "scheme": "https",
        "scrape_interval": f"{seconds}s",
        "scrape_timeout": f"{min(seconds, 10)}s",
        # An answer that sends somewhere else would take the client certificate along.
        "follow_redirects": False,
        **limits,
        "tls_config": {
            "ca_file": f"{credentials}/ca.crt",
            "cert_file": f"{credentials}/monitoring.crt",
            "key_file": f"{credentials}/monitoring.key",
        },
    }


def _job(
    kind: str, path: str, targets: list[Target], credentials: str, seconds: int, limits: Limits
) -> dict[str, Any]:
    return {
        **_common(kind, credentials, seconds, limits),
        "metrics_path": path,
        "static_configs": [
            {"targets": [target["address"]], "labels": {"host": target["host"]}}
            for target in targets
            if kind != "gpu" or target.get("dcgm")
        ],
        "relabel_configs": [{"source_labels": ["host"], "target_label": "instance"}],
    }


def _engines(targets: list[Target], credentials: str, seconds: int, limits: Limits) -> dict[str, Any]:
    return {
        **_common("engine", credentials, seconds, limits),
        "static_configs": [
            {
                "targets": [target["address"]],
                "labels": {
                    "host": target["host"],
                    "serves": name,
                    "model": model,
                    "__metrics_path__": f"/metrics/engine/{name}",
                },
            }
            for target in targets
            for name, model in sorted(target["instances"].items())
        ],
        "relabel_configs": [
            {"source_labels": ["host", "serves"], "separator": "/", "target_label": "instance"}
        ],
    }


def prometheus(section: Mapping[str, Any]) -> dict[str, Any]:
    """prometheus.yml of our own Prometheus."""
    said, folder = section["prometheus"], section["folders"]["configuration"]
    seconds = int(said["scrape_seconds"])
    return {
        "global": {"scrape_interval": f"{seconds}s", "evaluation_interval": f"{seconds}s"},
        "rule_files": [f"{folder}/rules.yml"],
        "scrape_configs": jobs(said["targets"], f"{folder}/tls", seconds, section["limits"]),
    }


def fragment(section: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """For `scrape_config_files` of a Prometheus that is there already."""
    files = section["files"]
    return {"scrape_configs": jobs(files["targets"], folder, int(files["scrape_seconds"]), section["limits"])}
