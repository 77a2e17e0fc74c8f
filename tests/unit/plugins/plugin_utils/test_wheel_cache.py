# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import package_index, wheel_cache
from ansible_collections.baremetal.sglang.plugins.plugin_utils.package_index import Indexes
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheel_cache import (
    Progress,
    Wanted,
    WheelCache,
    identity_of,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.wheels import FetchError, Pin, Target, Wheel
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import World, sha256

TARGET = Target("3.11", "x86_64", "2.36")


def wanted(world: World) -> list[Wanted]:
    return [
        Wanted(Pin("sglang", "0.5.7", frozenset({sha256(world.common[0])})), TARGET),
        Wanted(Pin("some-text", "1.0", frozenset({sha256(world.common[1])})), TARGET),
    ]


def fetched(world: World, cache: WheelCache) -> list[str]:
    indexes = Indexes(world.market.indexes("default"))
    cache.fetch(cache.offers(cache.missing(wanted(world)), indexes), indexes.web)
    return [path.name for item in wanted(world) if (path := cache.wheel(item.pin, item.target))]


def test_fetches_once_with_bytes_and_time_left_and_then_needs_no_index(world: World) -> None:
    said: list[str] = []
    cache = WheelCache(world.folder / "cache", said.append)
    names = fetched(world, cache)
    assert names == ["sglang-0.5.7-py3-none-any.whl", "some_text-1.0-py3-none-any.whl"]
    assert "2 of 2 downloads, 0.00 of 0.00 GB" in said[-1]
    assert said[-1].endswith("s left")
    world.market.asked.clear()
    assert cache.missing(wanted(world)) == []
    assert world.market.asked == []


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "CHUNK", 500)
    world.market.broken += [world.common[0].name] * 2
    assert len(fetched(world, WheelCache(world.folder / "cache", print))) == 2
    ranges = [
        part for _method, path, part in world.market.asked if path.endswith(world.common[0].name) and part
    ]
    assert ranges == ["bytes=1000-", "bytes=2000-"]


def test_a_download_that_never_ends_well_keeps_its_part_for_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "CHUNK", 500)
    world.market.broken += [world.common[0].name] * package_index.ATTEMPTS
    cache = WheelCache(world.folder / "cache", print)
    with pytest.raises(FetchError, match=r"sglang-0.5.7-py3-none-any.whl: .* 4000 bytes are kept, run again"):
        fetched(world, cache)
    # The other one came, in spite of that.
    assert [item.pin.name for item in cache.missing(wanted(world))] == ["sglang"]
    assert len(fetched(world, cache)) == 2
    assert world.market.asked[-1][2] == "bytes=4000-"


def test_another_content_than_the_lock_names_is_refused_with_all_names(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchanged(self: Indexes, pin: Pin, _index: str) -> list[Wheel]:
        other = world.common[1 if pin.name == "sglang" else 0]
        url = f"{world.market.url('default')}/files/{other.name}"
        return [
            Wheel(pin.name, f"{pin.name.replace('-', '_')}-1-py3-none-any.whl", next(iter(pin.sha256)), url)
        ]

    monkeypatch.setattr(Indexes, "offered", exchanged)
    with pytest.raises(FetchError, match=r"(?s)sglang-1.*sha256 differs.*some_text-1.*sha256 differs"):
        fetched(world, WheelCache(world.folder / "cache", print))
    assert not list((world.folder / "cache").rglob("*.whl"))
    assert not list((world.folder / "cache").rglob("part"))


def test_every_wheel_that_the_index_lacks_is_named(world: World) -> None:
    pins = [Wanted(Pin(name, "3", frozenset({"e" * 64})), TARGET) for name in ("three", "four")]
    with pytest.raises(FetchError) as refused:
        WheelCache(world.folder / "cache", print).offers(pins, Indexes(world.market.indexes("default")))
    for name in ("three", "four"):
        assert f"{name}==3 for Python 3.11 on x86_64 with glibc 2.36: the index has no file" in str(
            refused.value
        )


def test_two_runs_after_the_same_file_fetch_it_once(world: World) -> None:
    world.market.pause = 0.01
    runs = [
        threading.Thread(target=fetched, args=(world, WheelCache(world.folder / "cache", print)))
        for _turn in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(world.market.sent()) == sorted(f"/default/files/{item.name}" for item in world.common[:2])


def test_progress_says_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [100.0]
    monkeypatch.setattr(wheel_cache.time, "monotonic", lambda: now[0])
    progress = Progress(said.append, 4, 4_000_000_000)
    progress.add(1_000_000_000)
    progress.finished, now[0] = 1, 110.0
    progress.tell()
    assert said == ["  1 of 4 wheels, 1.00 of 4.00 GB, 100 MB/s, 30 s left"]


def test_the_folder_of_a_cache_that_older_versions_filled_is_read(tmp_path: Path) -> None:
    (tmp_path / ("a" * 64)).mkdir()
    (tmp_path / ("a" * 64) / "a-1-py3-none-any.whl").write_text("")
    (tmp_path / ("b" * 64)).mkdir()
    (tmp_path / ("b" * 64) / "part").write_text("")
    cache = WheelCache(tmp_path, print)
    assert cache.find("a" * 64) and not cache.find("b" * 64)


def test_a_seal_holds_until_somebody_writes_to_the_file(tmp_path: Path) -> None:
    cache = WheelCache(tmp_path / "wheels", print)
    wheel = tmp_path / "wheels" / ("a" * 64) / "one-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"content")
    assert not cache.sealed(wheel)
    before = identity_of(wheel)
    cache.seal(wheel, before)
    (tmp_path / "link").hardlink_to(wheel)
    assert cache.sealed(wheel), "a link changes nothing in it"
    (tmp_path / "link").write_bytes(b"kontent")
    assert not cache.sealed(wheel)
    cache.seal(wheel, before)
    assert not cache.sealed(wheel), "what was written while it was read was not compared"
    stranger = tmp_path / "elsewhere.whl"
    stranger.write_bytes(b"content")
    cache.seal(stranger, identity_of(stranger))
    assert not cache.sealed(stranger)
