# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every finding of the doctor, and that a healthy host has none."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor.diagnosis import (
    Limits,
    judge,
    report,
    status,
)

UNIT: dict[str, Any] = {
    "name": "tiny",
    "unit": "sglang-tiny.service",
    "address": "http://127.0.0.1:30000",
    "file": "same",
    "drop_ins": [],
    "enabled": True,
    "reload": False,
    "active": "active",
    "sub": "running",
    "result": "success",
    "exit_status": "0",
    "restarts": 0,
    "status": "",
    "since": "today",
    "serving": True,
    "why": "",
    "last": "",
}
WEIGHTS = {"path": "/w", "state": "whole", "damage": [], "manifest": "m1"}
PLAN = {
    "collection": "1",
    "facts": {"driver": "580.1", "gpus": [{}]},
    "instances": {
        "tiny": {
            "release": {"version": "0.5.23"},
            "environment": {"id": "e1"},
            "weights": {"path": "/w"},
            "parallel": {"nnodes": 1},
        }
    },
}
SEEN: dict[str, Any] = {
    "current": "r1",
    "root": "/opt/sglang",
    "plan": PLAN,
    "record": {"served": ["r0", "r1"], "unfinished": None, "failed": {}},
    "units": [UNIT],
    "files": [],
    "environments": [{"path": "/e", "id": "e1", "problem": ""}],
    "weights": [WEIGHTS],
    "strangers": [],
    "failed": [],
    "disks": [{"path": "/opt", "free_gib": 50.0, "total_gib": 100.0}],
    "driver": "580.1",
    "gpus": 1,
    "kernel": "6.1",
    "lock": {},
}


def unit(**changes: Any) -> dict[str, Any]:
    return {"units": [{**UNIT, **changes}]}


def stopped(**changes: Any) -> dict[str, Any]:
    return unit(serving=False, active="failed", result="exit-code", exit_status="1", **changes)


def watched(decision: str) -> dict[str, Any]:
    """A verdict of the health watch."""
    finding = {
        "code": "xid:64",
        "subject": "GPU 2",
        "what": "Xid 64, row remapping failed",
        "cure": "have it replaced",
        "decision": decision,
        "returns": "cleared",
    }
    return {"health": {"mode": "observe", "at": 0, "findings": [finding]}}


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("health-xid-64", watched("drain"), "row remapping failed (drain)", "--limit h1 -e health_clear=true"),
    ("release-none", {"plan": {}, "current": "", "units": []}, "nothing is installed", "site.yml"),
    ("release-gone", {"plan": {}, "units": []}, "leads to r1, which is not there", "rollback.yml"),
    (
        "switch-unfinished",
        {"record": {**SEEN["record"], "unfinished": {"to": "r2", "since": "noon"}}},
        "release r2 began at noon",
        "finishes it or goes back",
    ),
    (
        "switch-failed",
        {"record": {**SEEN["record"], "failed": {"release": "r2", "why": "bad flag\nmore", "when": "noon"}}},
        "gave no token: bad flag",
        "mend",
    ),
    (
        "current-changed",
        {"record": {**SEEN["record"], "served": ["r1", "r0"]}},
        "last that gave tokens was r0",
        "site",
    ),
    ("file-edited", {"files": [{"path": "/r/launch.json", "state": "edited"}]}, "was edited", "site.yml"),
    ("file-gone", {"files": [{"path": "/r/launch.json", "state": "gone"}]}, "is gone", "site.yml"),
    ("file-changed", {"files": [{"path": "/r/tiny/env", "state": "changed"}]}, "was changed", "site.yml"),
    ("unit-edited", unit(file="edited"), "the unit file is edited", "drop-in"),
    ("unit-missing", {**unit(file="missing", enabled=False)}, "the unit file is missing", "site.yml"),
    ("unit-not-read", unit(reload=True), "systemd has not read it", "daemon-reload"),
    ("unit-drop-in", unit(drop_ins=["/etc/x.conf"]), "/etc/x.conf", "systemctl cat"),
    ("unit-disabled", unit(enabled=False), "does not start at boot", "site.yml"),
    ("unit-restarted", unit(restarts=2), "after 2 restarts", "journalctl"),
    (
        "no-token",
        unit(serving=False, why="HTTP 503", last="boom"),
        "HTTP 503; last line: boom",
        "restart.yml",
    ),
    (
        "unit-starting",
        unit(serving=False, active="activating", sub="start", status="loading 37 %"),
        "37 %",
        "wait",
    ),
    ("unit-failed", stopped(last="out of memory"), "exit status 1); last line: out of memory", "journalctl"),
    (
        "environment",
        {"environments": [{"path": "/e", "id": "e1", "problem": "is gone"}]},
        "is gone",
        "runtime",
    ),
    (
        "weights",
        {"weights": [{**WEIGHTS, "state": "damaged", "damage": ["a", "b", "c", "d"]}]},
        "damaged: a; b; c and 1 more",
        "weights_dir",
    ),
    ("driver-changed", {"driver": "590"}, "590 is loaded, 580.1 was planned for", "site.yml"),
    ("gpus-changed", {"gpus": 0}, "0 are there, 1 were planned", "nvidia-smi"),
    ("unit-unknown", {"strangers": ["sglang-x.service"]}, "no release brought", "disable"),
    ("host-unit-failed", {"failed": ["cron.service"]}, "failed", "systemctl status cron.service"),
    ("disk-full", {"disks": [{"path": "/opt", "free_gib": 1.0, "total_gib": 100.0}]}, "1.0 GiB", "prune"),
    ("run-live", {"lock": {"what": "site.yml", "owner": "me", "since": "noon"}}, "site.yml of me", "ended"),
]


def test_a_healthy_host_has_no_finding() -> None:
    assert judge("h1", SEEN, ["tiny"], Limits()) == []


@pytest.mark.parametrize(("code", "differs", "what", "fix"), CASES, ids=[case[0] for case in CASES])
def test_each_finding_says_what_and_what_to_do(
    code: str, differs: dict[str, Any], what: str, fix: str
) -> None:
    found = {item.code: item for item in judge("h1", {**SEEN, **differs}, ["tiny"], Limits())}
    assert what in found[code].what
    assert fix in found[code].fix
    assert found[code].line().endswith(found[code].fix)


def test_an_instance_that_the_inventory_serves_and_the_host_does_not_know() -> None:
    found = judge("h1", SEEN, ["tiny", "large"], Limits())
    assert [(item.code, item.subject) for item in found] == [("instance-absent", "large")]


def of(**differs: Any) -> dict[str, Any]:
    return {**SEEN, **differs}


@pytest.mark.parametrize(
    ("differs", "codes"),
    [
        ({}, []),
        ({"driver": "590"}, ["parity-driver"]),
        ({"kernel": "6.2"}, ["parity-kernel"]),
        ({"current": "r9"}, ["parity-release"]),
        ({"weights": [{**WEIGHTS, "manifest": "m2"}]}, ["parity-weights"]),
        ({"plan": {**PLAN, "collection": "2"}}, ["parity-collection"]),
    ],
)
def test_hosts_that_serve_the_same_are_compared(differs: dict[str, Any], codes: list[str]) -> None:
    told = report({"h1": SEEN, "h2": SEEN, "h3": of(**differs)}, {}, {}, [])
    assert [(item["code"], item["host"]) for item in told["findings"]] == [(code, "h3") for code in codes]


def test_members_of_one_group_may_have_releases_of_their_own() -> None:
    tiny = {**PLAN["instances"]["tiny"], "parallel": {"nnodes": 2}}  # type: ignore[index]
    plan = {**PLAN, "instances": {"tiny": tiny}}
    told = report({"h1": of(plan=plan), "h2": of(plan=plan, current="r2")}, {}, {}, [])
    assert told["findings"] == []


def test_the_inventory_and_hosts_that_do_not_answer() -> None:
    refusal = {"host": "", "where": "serve.tiny", "what": "does not fit", "fix": "a smaller one"}
    told = report({"h1": SEEN, "h2": {}, "h3": SEEN}, {}, {"h1": ["tiny: flag x added"]}, [refusal])
    assert [(item["code"], item["host"]) for item in told["findings"]] == [
        ("unreachable", "h2"),
        ("plan-refused", "h1"),
        ("plan-changed", "h1"),
    ]
    assert told["problems"] == 2
    assert told["lines"][0] == "h1  release r1  tiny serving"
    assert told["lines"][-1] == "2 problems, 1 notes"


def test_status_is_one_line_an_instance() -> None:
    assert status("h1", SEEN, ["tiny"]) == [
        (True, "tiny  h1  serving  http://127.0.0.1:30000  release r1  since today")
    ]
    units = [{**SEEN["units"][0], "status": "generation 2, 4 of 4 members: serving"}]
    (line,) = status("h1", {**SEEN, "units": units}, ["tiny"])
    assert line[1].endswith("since today  generation 2, 4 of 4 members: serving")
    (line,) = status("h1", {**SEEN, **stopped(status="gave up: out of memory")}, ["tiny"])
    assert line == (
        False,
        "tiny  h1  NOT SERVING  failed: gave up: out of memory  (journalctl -u sglang-tiny.service)",
    )
    assert status("h1", {"current": "", "units": []}, ["tiny"])[0][0] is False
