# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and panels ask for what the engines call their counters."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.dashboard import ROWS
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring.series import PLACE, filled, rules
from ansible_collections.baremetal.sglang.tests.unit.fixtures.sglang_data import METRICS

RULES = (Path(__file__).parents[5] / "roles/monitoring/files/rules.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "names", "wanted"),
    [
        ("rate(${generated}[2m])", {"generated": ["a:made"]}, "rate(a:made[2m])"),
        ("${wait_bucket} > 1", {"wait": ["a:wait"]}, "a:wait_bucket > 1"),
        ("${running}", {"running": ["a:run", "b_run"]}, '{__name__=~"a:run|b_run"}'),
        ("${running}", {}, '{__name__=~"no-engine-counts-running"}'),
    ],
)
def test_a_place_becomes_the_series_of_the_engines(
    text: str, names: dict[str, list[str]], wanted: str
) -> None:
    assert filled(text, names) == wanted


def test_every_place_is_a_value_that_an_engine_may_count() -> None:
    queries = [panel.query for row in ROWS.values() for panel in row]
    asked = {found[0] for text in (RULES, *queries) for found in re.findall(PLACE, text)} - {""}
    assert asked and asked <= set(METRICS)


def test_the_rules_stay_rules() -> None:
    said = rules(RULES, {"metrics": {key: [name] for key, name in METRICS.items()}})
    found = {rule["record"]: rule["expr"] for rule in yaml.safe_load(said)["groups"][0]["rules"]}
    assert found["sglang:instance:generation_tokens_per_second"] == (
        "sum by (host, serves, model) (rate(sglang:generation_tokens_total[2m]))"
    )
    assert "sglang:time_to_first_token_seconds_bucket[5m]" in found["sglang:instance:ttft_seconds:p95"]


def test_the_rules_stay_yaml_for_two_engines_and_for_none() -> None:
    for names in ([["sglang:a", "lightllm_a"]], [[]]):
        said = rules(RULES, {"metrics": dict.fromkeys(METRICS, names[0])})
        groups = yaml.safe_load(said)["groups"]
        expressions = [rule["expr"] for group in groups for rule in group["rules"]]
        assert all(isinstance(expression, str) for expression in expressions)
        assert any(expression.startswith("{__name__=~") for expression in expressions)
