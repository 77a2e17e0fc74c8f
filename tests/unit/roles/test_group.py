# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the members of a group decide: who broke it, what differs, whether they may start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3] / "roles/engine/files/launcher"


@pytest.fixture(scope="module", autouse=True)
def launcher() -> Iterator[None]:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in ("decisions", "group"):
        sys.modules.pop(name, None)


KILLED = ("s3", "sglang::scheduler_TP2 (process 812) is gone", False)
STOPPED = ("s2", "sglang::scheduler_TP1 (process 7) has been stopped for 8 s", False)
# As gloo and NCCL say it on the hosts that did nothing wrong.
GLOO = (
    "s1",
    "the server was killed by signal 9: RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer "
    "[192.168.101.13]:38211",
    False,
)
NCCL = ("s1", "the server ended with exit status 1: torch.distributed.DistBackendError: NCCL error", False)
HUNG = ("s1", "hung: no token for 42 s (/health_generate did not answer within 18 s)", False)
LOST = ("s4", "no word from it for 10 s: link, power or a frozen host", True)
MEMORY = ("s2", "the server ended with exit status 1: torch.OutOfMemoryError: CUDA out of memory", False)


@pytest.mark.parametrize(
    ("said", "who"),
    [
        ([GLOO, KILLED], "s3"),
        ([KILLED, GLOO], "s3"),
        ([NCCL, LOST], "s4"),
        ([HUNG, STOPPED], "s2"),
        ([LOST, MEMORY], "s2"),
        ([GLOO, NCCL], "s1"),
        ([HUNG], "s1"),
    ],
)
def test_the_member_that_broke_it_is_named_and_not_the_first_to_notice(said: Any, who: str) -> None:
    from group import Cause, first_cause

    assert first_cause([Cause(*item) for item in said]).host == who


def head(**changes: Any) -> Any:
    from decisions import Restarts
    from group import Head

    given = {"hosts": ["a", "b", "c"], "group": "g", "restarts": Restarts([0, 5, 20], 3600), "lost_seconds": 10,
             "blame_seconds": 2, "skew_seconds": 30}  # fmt: skip
    return Head(**{**given, **changes})


def there(found: Any, now: float = 0.0, **truths: str) -> None:
    for host in found.hosts:
        truth = {"driver": truths.get(host, "580")}
        assert (
            found.hears(host, {"group": "g", "truth": truth, "time": 1000.0, "loaded": True}, now, 1000.0)
            == ""
        )


def test_nobody_starts_until_all_are_there_and_alike() -> None:
    found = head()
    found.hears("a", {"group": "g"}, 0, 1000)
    assert not found.may_start(0)
    assert "1 of 3 members, waiting for b (missing since" in found.waits_for(0)
    there(found, c="575")
    assert not found.may_start(0)
    assert "the members differ: driver: a 580, b 580, c 575: run site.yml" in found.waits_for(0)
    there(found)
    assert found.may_start(0)
    assert (found.generation, found.phase) == (1, "run")


def test_nobody_starts_while_one_still_loads_torch() -> None:
    found = head()
    there(found)
    found.hears("b", {"group": "g", "truth": {"driver": "580"}, "time": 1000.0}, 0, 1000.0)
    assert not found.may_start(0)
    assert "3 of 3 members, loading torch on b" in found.waits_for(0)
    there(found)
    assert found.may_start(0)


def test_a_clock_that_is_off_is_a_difference() -> None:
    found = head()
    there(found)
    found.hears("c", {"group": "g", "truth": {"driver": "580"}, "time": 1100.0}, 0, 1000.0)
    assert found.objections() == ["clock: c is 100 s ahead of the first host"]


def test_after_a_failure_there_is_a_pause_and_after_the_last_none_starts() -> None:
    found = head()
    there(found)
    assert found.may_start(0)
    found.restarts.reason = "c: gone"
    found.phase = "gather"
    assert not found.may_start(10)
    assert "waiting 5 s before start 2 of 3" in found.waits_for(10)
    assert found.may_start(15)
    found.phase = "gather"
    assert not found.may_start(16)
    assert found.may_start(36)
    assert found.restarts.exhausted


def test_a_stranger_and_a_member_of_before_are_turned_away() -> None:
    found = head()
    assert "d is not a member of this group (a, b, c)" in found.hears("d", {"group": "g"}, 0, 0)
    assert "is not a member" in found.hears("b", {"group": "older"}, 0, 0)
    assert found.missing == ["a", "b", "c"]


def test_who_says_nothing_is_lost_and_ends_the_generation() -> None:
    found = head()
    there(found)
    assert found.may_start(0)
    there(found, now=1)
    found.hears("c", {"group": "g"}, 9, 1000)
    assert found.silent(10.9) == []
    assert found.silent(11.5) == ["b"]
    found.loses("b", "no word from it for 10 s", 11.5, 1000)
    assert found.phase == "down"
    assert not found.is_over(12)
    assert found.is_over(13.6)
    assert found.cause().words() == "b: no word from it for 10 s"


def test_a_wanted_stop_waits_for_nobody_s_word() -> None:
    from group import Cause

    found = head()
    there(found)
    assert found.may_start(0)
    found.hears("b", {"group": "g", "leave": True}, 1, 1000)
    assert found.leaving == "b"
    found.breaks(Cause("b", "was stopped", wanted=True), 2)
    assert found.is_over(2)
    assert found.cause().words() == "b: was stopped"
