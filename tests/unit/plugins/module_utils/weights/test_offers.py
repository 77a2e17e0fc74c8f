# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.baremetal.sglang.plugins.module_utils.weights.offers import held, rounds, to_bring

AWQ = {"model": "glm-4.7-awq", "revision": "r1", "path": "/w/awq"}
TINY = {"model": "glm-4.7-tiny", "revision": "r1", "path": "/w/tiny"}
SOURCE = {"source": "/bundle/awq", "manifest_sha256": "aa"}


def test_hosts_that_lack_a_model_get_it_together_from_those_that_have_it() -> None:
    planned = {"h1": [AWQ, TINY], "h2": [AWQ], "h3": [AWQ], "h4": [TINY]}
    missing = {
        "h1": [],
        "h2": [{**AWQ, **SOURCE, "damage": ["one"]}],
        "h3": [{**AWQ, **SOURCE, "damage": []}],
        "h4": [],
    }
    assert rounds(planned, missing) == [
        {**AWQ, **SOURCE, "hosts": ["h2", "h3"], "seeds": {"h1": "/w/awq"}},
    ]


def test_two_models_are_two_rounds_in_the_order_of_hosts() -> None:
    planned = {"h1": [TINY], "h2": [AWQ, TINY]}
    missing = {"h1": [{**TINY, **SOURCE}], "h2": [{**AWQ, **SOURCE}, {**TINY, **SOURCE}]}
    found = rounds(planned, missing)
    assert [(entry["model"], entry["hosts"], entry["seeds"]) for entry in found] == [
        ("glm-4.7-tiny", ["h1", "h2"], {}),
        ("glm-4.7-awq", ["h2"], {}),
    ]


def test_nothing_missing_is_no_round() -> None:
    assert rounds({"h1": [AWQ]}, {"h1": []}) == []


def test_a_late_host_is_offered_what_another_has_whole() -> None:
    planned = {"h1": [AWQ, TINY], "h2": [AWQ]}
    whole = {"state": "whole", "manifest_sha256": "aa"}
    offers = held(
        planned, {"h1": [whole, {"state": "damaged", "manifest_sha256": "bb"}], "h2": [{"state": "absent"}]}
    )
    assert sorted(offers) == ["glm-4.7-awq/r1"]
    (item,) = to_bring([AWQ], [{"state": "absent"}], offers, "h2")
    assert (item["manifest_sha256"], item["manifest_on"]) == (
        "aa",
        {"host": "h1", "path": "/w/awq/.weights.json"},
    )
