# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tool calls by category: every name has questions, and the table has one row for each."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import categories

QUESTIONS = yaml.safe_load((Path(__file__).parents[5] / "files/bench.yml").read_text(encoding="utf-8"))[
    "questions"
]


def test_every_category_has_questions_that_can_be_answered() -> None:
    assert {question["category"] for question in QUESTIONS["calls"]} == set(categories.ORDER)
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in QUESTIONS["tools"]}
    for question in QUESTIONS["calls"]:
        assert set(question["tools"]) <= set(tools), question["ask"]
        for call in question["calls"]:
            assert call["name"] in question["tools"], question["ask"]
            known = tools[call["name"]]
            assert set(call["arguments"]) <= set(known["properties"]), question["ask"]
            assert set(known["required"]) <= set(call["arguments"]), question["ask"]


def test_the_table_has_a_column_for_each_instance_and_the_mean_of_all_questions() -> None:
    one = categories.tally([("simple", True), ("simple", False), ("sql", True), ("java", False)])
    other = categories.tally([("simple", True), ("java", True)])
    records = [
        {"instance": "flash", "accuracy": {"categories": one}},
        {"instance": "other", "accuracy": {"categories": other}},
        {"instance": "other", "accuracy": {"asked": 1}},
    ]
    heads, rows = categories.table(records)
    assert heads == ["category", "flash", "other"]
    assert rows == [
        ["simple", "50.00%", "100.00%"], ["java", "0.00%", "100.00%"], ["sql", "100.00%", "-"],
        ["OVERALL", "50.00%", "100.00%"],
    ]  # fmt: skip
    assert categories.lines(records)[1] == "| category | flash | other |"
    assert categories.lines([]) == []
