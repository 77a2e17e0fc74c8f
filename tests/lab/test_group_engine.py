# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real engine and the real torchrun on two hosts, tensor parallel over both: one start, one fault, a client.

`make bench-groups` has the long list of faults.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .conftest import lab_name
from .group_hosts import Group

ADDRESSES = {"s1": "10.96.0.11", "s2": "10.96.0.12"}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def group(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    found = Group(tmp_path_factory.mktemp("engines"), lab_name("engines"), ADDRESSES)
    try:
        found.up()
        yield found
    finally:
        found.down()


def test_two_hosts_serve_as_one_and_come_back_together(group: Group) -> None:
    begun = time.monotonic()
    group.apply()
    print(f"from bare hosts to a token: {time.monotonic() - begun:.0f} s")
    group.serving(1)
    assert "s1: serving it on 127.0.0.1:30000" in group.status("s2")[1]
    group.talk()
    end = time.monotonic() + 900
    while not group.heard():
        assert time.monotonic() < end, group.ssh("s1", "journalctl -u client -n 20")
        time.sleep(0.5)

    begun = time.monotonic()
    group.ssh("s2", f"kill -9 {group.process('s2', 'sglang::scheduler')}")
    group.until("s1", "generation 1 ended: s2: ")
    print(f"noticed after {time.monotonic() - begun:.1f} s: {group.status('s1')[1]}")
    group.serving(2)
    print(f"whole again after {time.monotonic() - begun:.0f} s")
    count, end = len(group.heard()), time.monotonic() + 900
    while len(group.heard()) < count + 2 or "text" not in group.heard()[-1]:
        assert time.monotonic() < end, group.ssh("s1", "journalctl -u client -n 20")
        time.sleep(0.5)

    answers = group.heard()
    assert {tuple(sorted(set(item) - {"begun", "seconds"})) for item in answers} == {("error",), ("text",)}
    # Nobody was left waiting: a request that failed did so by itself, and not at the client's patience.
    assert "APITimeoutError" not in {item.get("error") for item in answers}
    assert len({item["text"] for item in answers if "text" in item}) == 1
    assert "text" in answers[-1]
    group.stop()
    assert group.left_over() == {}
