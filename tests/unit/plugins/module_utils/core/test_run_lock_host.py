# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock of a host, and when it is nobody's any more."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.run_lock_host import (
    STALE_SECONDS,
    HeldError,
    holder_of,
    is_live,
    take,
)


class Place:
    def __init__(self, folder: Path) -> None:
        self.path, self.beat, self.time = folder / "lock", folder / "beat", 1000.0

    def take(self, run: str, patience: float = 0.0) -> str:
        def sleep(seconds: float) -> None:
            self.time += seconds

        return take(
            run, f"me@{run}", "site.yml", patience, str(self.path), str(self.beat), lambda: self.time, sleep
        )

    def holder(self) -> str:
        return str(holder_of(str(self.path), str(self.beat), self.time).get("run", ""))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_second_is_told_who_holds_it(place: Place) -> None:
    assert place.take("first") == ""
    with pytest.raises(HeldError, match=r"site.yml of me@first, since 20.* Wait until it ends"):
        place.take("second")
    assert place.holder() == "first"


def test_the_same_run_may_ask_twice(place: Place) -> None:
    place.take("first")
    assert place.take("first") == ""


def test_one_that_is_given_back_while_another_waits(place: Place) -> None:
    place.take("first")

    def sleep(_seconds: float) -> None:
        place.path.unlink(missing_ok=True)
        place.time += 1

    said = take("second", "me", "site.yml", 3, str(place.path), str(place.beat), lambda: place.time, sleep)
    assert (said, place.holder()) == ("", "second")


def test_a_controller_that_is_heard_no_more_loses_it(place: Place) -> None:
    place.take("first")
    place.time += STALE_SECONDS - 1
    place.beat.write_text(f"{place.time:.2f} 0.00\n")
    place.time += STALE_SECONDS - 1
    with pytest.raises(HeldError):
        place.take("second")
    place.time += 2
    assert place.holder() == ""
    assert "its controller is gone, so the lock was taken over" in place.take("second")
    assert place.holder() == "second"


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"'])
def test_a_torn_lock_is_nobody_s(place: Place, text: str) -> None:
    place.path.write_text(text)
    place.beat.write_text("")
    assert place.holder() == ""
    assert place.take("first") == ""


@pytest.mark.parametrize(
    ("taken", "beat", "now", "live"),
    [
        (100.0, None, 100.0, True),
        (100.0, 150.0, 200.0, True),
        (100.0, 150.0, 211.0, False),
        # Another boot: its clock had run further.
        (5000.0, 5010.0, 30.0, False),
    ],
)
def test_when_it_is_live(taken: float, beat: float | None, now: float, live: bool) -> None:
    assert is_live({"taken": taken}, beat, now) == live
    assert not is_live({}, beat, now)
