# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read out of a plan to apply it."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import bundle_report
from ansible_collections.baremetal.sglang.tests.lab.engine_host import make_plan

BASE = Plan.from_dict(make_plan("h1"))


def plan(*models: str, libraries: tuple[str, ...] = ()) -> Plan:
    instances = {
        model: replace(
            BASE.instances["tiny"],
            weights={"path": f"/w/{model}", "model": model, "revision": "r1", "bytes": 356_000_000_000},
            release={"host_libraries": libraries},
        )
        for model in models
    }
    return replace(BASE, instances=instances)


MADE = {"files": 180, "bytes": 4_440_000_000, "carried_files": 180, "carried_bytes": 4_440_000_000}


def test_weights_that_nobody_carries_are_named_where_they_can_be_fetched() -> None:
    lines = bundle_report([plan("a", "b"), plan("b")], {"a": "/media/a"}, "/media/bundle", MADE)
    assert lines[0] == "/media/bundle: 180 files, 4.44 GB; 180 files, 4.44 GB of them are in this folder"
    (warning,) = lines[1:]
    assert "weights of b, revision r1 (356.0 GB)" in warning
    assert "playbooks/weights.yml" in warning and "bundle_weights.json" in warning


def test_a_bundle_with_all_weights_has_no_warning() -> None:
    assert len(bundle_report([plan("a")], {"a": "/media/a"}, "/media/bundle", MADE)) == 1


def test_a_library_of_the_host_that_nobody_planned_is_named() -> None:
    known = plan("a", libraries=("libnuma.so.1",))
    made = {**MADE, "host_libraries": ["libnuma.so.1"]}
    assert len(bundle_report([known], {"a": "/media/a"}, "/b", made)) == 1
    (warning,) = bundle_report([plan("a")], {"a": "/media/a"}, "/b", made)[1:]
    assert "libnuma.so.1" in warning and "host_libraries" in warning


def test_check_mode_counts_nothing() -> None:
    (line,) = bundle_report([plan("a")], {"a": "/media/a"}, "/media/bundle", {"changed": True})
    assert "0 files" not in line and "nothing was fetched or written" in line
