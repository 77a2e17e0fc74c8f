# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An import ends in a complete, verified bundle, or in none at all; the old one is never touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bundle_content, package_index
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_content import ContentError
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_folder import BundleFolder
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_import import BundleImport, base_beside
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import ANYBODY
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_verifier import read_manifest, verify
from ansible_collections.baremetal.sglang.tests.unit.plugins.plugin_utils.bundle_world import (
    VARIANTS,
    World,
    contents,
    copied,
    manifest_of,
)

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

ONE = VARIANTS[1]
TORCH = "wheels/torch-2.9.1+cu128-cp311-cp311-manylinux_2_28_x86_64.whl"
NEWER = "wheels/sglang-0.5.8-py3-none-any.whl"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`old`, `full` (one patch later), and `delta` from the one to the other."""
    world = World(tmp_path_factory.mktemp("releases") / "world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package_index, "BACK_OFF_SECONDS", 0.01)
        old = world.bundle("old", ONE)
        world.upgraded()
        world.bundle("full", ONE)
        world.run(world.add(world.builder("delta", base=manifest_of(old)), ONE))
    world.close()
    yield world.folder


@pytest.fixture
def room(releases: Path, tmp_path: Path) -> Path:
    """Copies: nothing is shared with the cache that they were built from."""
    for name in ("old", "delta"):
        copied(releases / name, tmp_path / name)
    return tmp_path


def imported(source: Path, dest: Path, base: Path | None) -> bool:
    work = BundleImport(source, dest, base, print, ANYBODY)
    found = work.refusals()
    assert found.problems == []
    return work.run(found)


@pytest.mark.parametrize("dest", ["delta", "new"])
def test_the_end_is_the_same_as_a_full_build(releases: Path, room: Path, dest: str) -> None:
    before = contents(room / "old")
    assert imported(room / "delta", room / dest, room / "old") is True
    assert contents(room / dest) == contents(releases / "full")
    assert verify(room / dest, print, ANYBODY).problems == []
    assert contents(room / "old") == before
    assert imported(room / "delta", room / dest, room / "old") is False


def test_the_bundle_that_lies_beside_a_delta_is_found_by_its_id(releases: Path, room: Path) -> None:
    copied(releases / "full", room / "another")
    (room / "broken").mkdir()
    (room / "broken/manifest.json").write_text("{")
    copied(releases / "delta", room / "a-delta-too")
    assert base_beside(room / "delta", ANYBODY) == room / "old"
    assert imported(room / "delta", room / "delta", None) is True
    assert contents(room / "delta") == contents(releases / "full")
    assert base_beside(room / "delta", ANYBODY) is None  # it is no delta any more


def test_content_is_shared_and_lasts_as_long_as_somebody_has_it(room: Path) -> None:
    imported(room / "delta", room / "new", room / "old")
    assert (room / "new" / TORCH).stat().st_ino == (room / "old" / TORCH).stat().st_ino
    assert (room / "new" / TORCH).stat().st_nlink == 2
    shutil.rmtree(room / "old")
    assert verify(room / "new", print, ANYBODY).problems == []
    assert (room / "new" / TORCH).stat().st_nlink == 1


def test_a_full_bundle_from_a_carried_disk_shares_what_is_here(releases: Path, room: Path) -> None:
    full = copied(releases / "full", room / "carried")
    imported(full, room / "new", room / "old")
    assert (room / "new" / TORCH).stat().st_ino == (room / "old" / TORCH).stat().st_ino
    assert contents(room / "new") == contents(full)


def test_content_is_found_by_hash_under_another_name(releases: Path, room: Path) -> None:
    """The base may be any bundle that has the content."""
    full = copied(releases / "full", room / "another")
    imported(room / "delta", room / "new", full)
    assert contents(room / "new") == contents(full)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no base", "was built for the bundle with id"),
        ("base lacks it", f"{TORCH}: neither"),
        ("delta lacks it", f"{NEWER}: is missing"),
        ("base is none", "bundle_base ="),
        ("dest is another", "holds another bundle"),
        ("delta is none", "manifest.json: is not there"),
    ],
)
def test_refused_before_anything_is_written(releases: Path, room: Path, what: str, said: str) -> None:
    source, dest, base = room / "delta", room / "new", room / "old"
    if what == "base lacks it":
        (base / TORCH).unlink()
    elif what == "delta lacks it":
        (source / NEWER).unlink()
    elif what == "base is none":
        base = room / "nowhere"
    elif what == "dest is another":
        dest = room / "old"
    elif what == "delta is none":
        source = room / "nowhere"
    elif what == "no base":
        (room / "elsewhere").mkdir()
        base.rename(room / "elsewhere/old")
    before = contents(room)
    found = BundleImport(source, dest, None if what == "no base" else base, print, ANYBODY).refusals()
    assert any(said in problem for problem in found.problems), found.problems
    assert contents(room) == before


@pytest.mark.parametrize("damaged", ["old", "delta"])
def test_damaged_content_is_named_and_nothing_counts(room: Path, damaged: str) -> None:
    name = TORCH if damaged == "old" else NEWER
    data = bytearray((room / damaged / name).read_bytes())
    data[-1] ^= 1
    (room / damaged / name).write_bytes(bytes(data))
    with pytest.raises(ContentError, match=re.escape(f"{room / damaged / name}: its sha256 is")):
        imported(room / "delta", room / "new", room / "old")
    assert verify(room / "new", print, ANYBODY).problems != []


def test_a_damaged_delta_that_is_completed_in_place_stays_a_delta(releases: Path, room: Path) -> None:
    good = (room / "delta" / NEWER).read_bytes()
    (room / "delta" / NEWER).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ContentError, match=f"{NEWER}: its sha256 is"):
        imported(room / "delta", room / "delta", room / "old")
    assert (room / "delta/delta.json").exists()
    (room / "delta" / NEWER).write_bytes(good)
    imported(room / "delta", room / "delta", room / "old")
    assert contents(room / "delta") == contents(releases / "full")


def test_two_runs_at_once(room: Path) -> None:
    with (
        BundleFolder(room / "new").alone(),
        pytest.raises(ContentError, match="another run writes to it now"),
    ):
        imported(room / "delta", room / "new", room / "old")


def test_a_small_disk_is_refused_before_the_first_byte(
    room: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_content, "free_bytes", lambda _folder: 50_000)
    with pytest.raises(ContentError, match=r"0\.00 GB free and .* are needed \(files to copy\)"):
        imported(room / "delta", small_disk / "new", room / "old")
    assert [path.name for path in (small_disk / "new").iterdir()] == ["unfinished"]


def test_a_disk_that_is_full_in_the_middle_leaves_the_old_one_and_goes_on_later(
    releases: Path, room: Path, small_disk: Path
) -> None:
    old = copied(room / "old", small_disk / "old")
    before = contents(old)
    (small_disk / "other").write_bytes(b"x" * (bundle_content.free_bytes(small_disk) - 30_000))
    work = BundleImport(room / "delta", small_disk / "new", old, print, ANYBODY)
    found = work.refusals()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle_content, "free_bytes", lambda _folder: 1 << 30)
        with pytest.raises(OSError, match="No space left"):
            work.run(found)
    assert contents(old) == before
    assert verify(small_disk / "new", print, ANYBODY).problems != []
    (small_disk / "other").unlink()
    imported(room / "delta", small_disk / "new", old)
    assert contents(small_disk / "new") == contents(releases / "full")


POINTS = 10
KILLED = """
import os, signal, sys
from pathlib import Path
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_import import BundleImport
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import ANYBODY
source, dest, base, last = sys.argv[1:]
work = BundleImport(Path(source), Path(dest), Path(base), lambda _line: None, ANYBODY)
found = work.refusals()
steps = 0
def hook(event, arguments):
    global steps
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in ("os.rename", "os.link", "os.remove", "os.mkdir"):
        steps += 1
        if steps == int(last):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
work.run(found)
print(steps)
"""


def killed(room: Path, dest: Path, step: int) -> subprocess.CompletedProcess[str]:
    """Ends by itself, as if the power went, before the given step that would change the disk."""
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    words = [str(room / "delta"), str(dest), str(room / "old"), str(step)]
    return subprocess.run(
        [sys.executable, "-c", KILLED, *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("place", ["new", "delta"])
def test_power_loss_at_ten_points_and_a_run_that_completes(releases: Path, room: Path, place: str) -> None:
    delta = contents(room / "delta")
    old = contents(room / "old")
    whole = contents(releases / "full")
    total = int(killed(room, room / place, 0).stdout)
    assert total > POINTS
    for point in range(POINTS):
        shutil.rmtree(room / place)
        if place == "delta":
            copied(releases / "delta", room / "delta")
        done = killed(room, room / place, 1 + point * (total - 1) // (POINTS - 1))
        assert done.returncode == -signal.SIGKILL, done.stderr
        found = read_manifest(room / place, ANYBODY)
        assert not found.manifest or (room / place / "delta.json").exists(), "half a bundle counts as one"
        imported(room / "delta", room / place, room / "old")
        assert contents(room / place) == whole
        assert contents(room / "old") == old
    if place == "new":
        assert contents(room / "delta") == delta
