# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import (
    MANIFEST,
    STAMP,
    ManifestError,
    build,
    to_text,
)

PIECE = 1000
BIG = bytes(range(256)) * 40
CONTENT: Mapping[str, bytes] = MappingProxyType(
    {"config.json": b"{}", "deep/one.safetensors": BIG, "two.safetensors": BIG[::-1]}
)


def manifest_of(content: Mapping[str, bytes]) -> dict[str, Any]:
    entries = []
    for name, data in content.items():
        made: dict[str, Any] = {"path": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if len(data) > PIECE:
            cut = [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
            made["pieces"] = [hashlib.sha256(piece).hexdigest() for piece in cut]
        entries.append(made)
    return build("m", "r", {"type": "directory", "id": "x"}, entries, {}, PIECE)


def lay(place: Path, content: Mapping[str, bytes], listed: Mapping[str, bytes] | None = None) -> Path:
    for name, data in content.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    place.mkdir(parents=True, exist_ok=True)
    (place / MANIFEST).write_text(to_text(manifest_of(listed or content)))
    return place


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    return tmp_path / "m" / "r"


def staged(
    dest: Path, content: Mapping[str, bytes], listed: Mapping[str, bytes] | None = None
) -> folder.Staging:
    lay(Path(folder.staging_of(str(dest))), content, listed)
    return folder.Staging(str(dest))


def published(dest: Path, content: Mapping[str, bytes] = CONTENT) -> Path:
    staged(dest, content).publish()
    return dest


def damage(path: Path, place: int = 2500) -> None:
    """A bit flips on the disk: the time of the file stays."""
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=times)


def state(dest: Path, full: bool = False) -> str:
    return str(folder.look(str(dest), full=full)["state"])


def test_a_good_folder_appears_read_only(dest: Path) -> None:
    published(dest)
    assert state(dest) == state(dest, full=True) == "whole"
    assert not Path(folder.staging_of(str(dest))).exists()
    assert {path.stat().st_mode & 0o777 for path in dest.rglob("*") if path.is_file()} == {0o444}
    assert dest.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("name", CONTENT)
def test_damage_is_named_and_nothing_appears(dest: Path, name: str) -> None:
    bad = {**CONTENT, name: CONTENT[name][:-1] + b"!"}
    stage = staged(dest, bad, CONTENT)
    with pytest.raises(folder.FolderError, match=f"{name}: content differs"):
        stage.publish()
    assert not dest.exists()
    again = folder.Staging(str(dest))
    lacking = again.lacking()
    assert [item["path"] for item in lacking] == [name], "what was good is neither fetched nor read again"
    assert again.bytes_of(lacking) <= PIECE


def test_a_stranger_is_not_published(dest: Path) -> None:
    stage = staged(dest, {**CONTENT, "evil.safetensors": b"x", "deep/er/evil": b"x"}, CONTENT)
    stage.publish()
    assert not list(dest.rglob("*evil*"))


def test_quick_and_full_looks(dest: Path) -> None:
    published(dest)
    damage(dest / "two.safetensors")
    assert state(dest) == "whole", "a quick look cannot see rot"
    found = folder.look(str(dest), full=True)
    assert [str(item) for item in found["damage"]] == [
        "two.safetensors: content differs in 1 of 11 pieces (at byte 2000)"
    ]
    assert folder.remember(str(dest), found)
    assert not folder.remember(str(dest), found)
    assert state(dest) == "damaged", "what reading found is known to the next quick look"


def test_a_file_that_was_written_to_is_read_by_the_quick_look(dest: Path) -> None:
    published(dest)
    os.utime(dest / "two.safetensors", ns=(1, 1))
    found = folder.look(str(dest))
    assert (found["state"], found["touched"]) == ("whole", ["two.safetensors"])
    assert folder.remember(str(dest), found)
    assert folder.look(str(dest))["touched"] == []
    damage(dest / "two.safetensors")
    os.utime(dest / "two.safetensors", ns=(2, 2))
    assert state(dest) == "damaged"


def test_repair_brings_one_piece_and_leaves_the_old_file_to_its_reader(dest: Path, tmp_path: Path) -> None:
    published(dest)
    damage(dest / "two.safetensors")
    folder.remember(str(dest), folder.look(str(dest), full=True))
    inode = (dest / "deep/one.safetensors").stat().st_ino
    with (dest / "two.safetensors").open("rb") as reader:
        lay(Path(folder.open_staging(str(dest))), {}, CONTENT)
        stage = folder.Staging(str(dest))
        assert stage.reuse() == len(BIG) + 2
        lacking = stage.lacking()
        assert lacking == [{"path": "two.safetensors", "size": len(BIG), "pieces": [2]}]
        source = lay(tmp_path / "source", CONTENT)
        stage.copy_from(str(source), lacking)
        stage.publish()
        assert reader.read() != CONTENT["two.safetensors"]
    assert state(dest, full=True) == "whole"
    assert (dest / "deep/one.safetensors").stat().st_ino == inode


def test_sent_pieces_are_put_in_their_places(dest: Path) -> None:
    bad = {**CONTENT, "two.safetensors": bytes(1000) + CONTENT["two.safetensors"][1000:]}
    stage = staged(dest, bad, CONTENT)
    lacking = stage.lacking()
    folder.hand_over(stage.folder, lacking)
    assert lacking[0]["pieces"] == [0]
    (Path(stage.folder) / folder.PIECES / "0-0").write_bytes(CONTENT["two.safetensors"][:1000])
    stage.apply_pieces(lacking)
    stage.publish()
    assert state(dest, full=True) == "whole"
    assert not (dest / folder.PIECES).exists()


def test_a_transfer_that_was_cut_off_goes_on_at_its_piece(dest: Path) -> None:
    half = {**CONTENT, "two.safetensors": CONTENT["two.safetensors"][:7300]}
    lacking = staged(dest, half, CONTENT).lacking()
    assert lacking == [{"path": "two.safetensors", "size": len(BIG), "pieces": [7, 8, 9, 10]}]


def test_hardly_begun_is_sent_whole(dest: Path) -> None:
    begun = {**CONTENT, "two.safetensors": CONTENT["two.safetensors"][:1300]}
    assert staged(dest, begun, CONTENT).lacking()[0]["pieces"] is None


def test_a_second_revision_lies_beside_the_first_and_shares_its_files(dest: Path) -> None:
    published(dest)
    second = dest.with_name("r2")
    changed = {**CONTENT, "config.json": b'{"a": 1}', "renamed.safetensors": BIG}
    lay(Path(folder.open_staging(str(second))), {}, changed)
    stage = folder.Staging(str(second))
    assert stage.reuse() == 3 * len(BIG)
    assert [item["path"] for item in stage.lacking()] == ["config.json"]
    (Path(stage.folder) / "config.json").write_bytes(b'{"a": 1}')
    stage.publish()
    assert state(dest, full=True) == state(second, full=True) == "whole"
    for name in ("deep/one.safetensors", "two.safetensors"):
        assert (dest / name).samefile(second / name)
    shutil.rmtree(dest)
    assert state(second, full=True) == "whole"


def test_a_damaged_sibling_is_not_shared(dest: Path) -> None:
    published(dest)
    damage(dest / "two.safetensors")
    folder.remember(str(dest), folder.look(str(dest), full=True))
    second = dest.with_name("r2")
    lay(Path(folder.open_staging(str(second))), {}, CONTENT)
    stage = folder.Staging(str(second))
    stage.reuse()
    assert stage.lacking() == [{"path": "two.safetensors", "size": len(BIG), "pieces": [2]}]
    assert not (Path(stage.folder) / "two.safetensors").samefile(dest / "two.safetensors")


def test_a_linked_file_is_never_written_to(dest: Path) -> None:
    """The notes of a staging folder are lost: its links still lead to files that an engine reads."""
    published(dest)
    second = dest.with_name("r2")
    other = {**CONTENT, "two.safetensors": BIG[:5000] + bytes(len(BIG) - 5000)}
    lay(Path(folder.open_staging(str(second))), {}, other)
    staging = Path(folder.staging_of(str(second)))
    os.link(dest / "deep/one.safetensors", staging / "two.safetensors")
    stage = folder.Staging(str(second))
    lacking = stage.lacking()
    stage.copy_from(str(lay(dest.parent.parent / "source", other)), lacking)
    assert state(dest, full=True) == "whole"
    assert (dest / "deep/one.safetensors").stat().st_mode & 0o777 == 0o444


def test_another_manifest_replaces_in_one_step(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(dest)
    published(dest, {**CONTENT, "config.json": b"[]"})
    assert (dest / "config.json").read_bytes() == b"[]"
    monkeypatch.setattr(folder, "_exchange", lambda *_unused: False)
    published(dest)
    assert (dest / "config.json").read_bytes() == b"{}"
    assert sorted(os.listdir(dest.parent)) == ["r"]


def test_a_manifest_that_is_not_the_wanted_one(dest: Path) -> None:
    published(dest)
    assert folder.look(str(dest), wanted="0" * 64)["state"] == "other"
    (dest / STAMP).unlink()
    assert state(dest) == "other"
    shutil.rmtree(dest)
    assert state(dest) == "absent"


def test_somebody_s_own_folder(dest: Path) -> None:
    dest.mkdir()
    (dest / "notes").write_text("mine")
    assert state(dest) == "foreign"
    with pytest.raises(folder.FolderError, match="not put there by this collection"):
        folder.open_staging(str(dest))


def test_a_link_in_place_of_the_staging_folder(dest: Path, tmp_path: Path) -> None:
    Path(folder.staging_of(str(dest))).symlink_to(tmp_path)
    with pytest.raises(folder.FolderError, match="is a link"):
        folder.open_staging(str(dest))


def test_a_damaged_manifest_in_the_staging_folder(dest: Path) -> None:
    staging = Path(folder.open_staging(str(dest)))
    (staging / MANIFEST).write_text("{")
    with pytest.raises(ManifestError, match="is damaged"):
        folder.Staging(str(dest))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_under_sudo_the_login_user_sends_and_root_publishes(
    dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_UID", "65534")
    stage = staged(dest, CONTENT)
    folder.hand_over(stage.folder, [{"path": "deep/one.safetensors"}])
    assert (Path(stage.folder) / "deep").stat().st_uid == 65534
    os.chown(Path(stage.folder) / "two.safetensors", 65534, -1)
    stage.publish()
    assert {path.stat().st_uid for path in [dest, *dest.rglob("*")]} == {0}


KILLED_AT = [
    "take_over",
    "files.all_damage",
    "files.times_of",
    "write_stamp",
    "_sync_folder",
    "_appear",
    "os.rename",
]
CHILD = """
import os, signal, sys
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as folder
place, dest = sys.argv[1:]
owner, _dot, name = place.rpartition(".")
owner = getattr(folder, owner) if owner else folder
stage = folder.Staging(dest)
setattr(owner, name, lambda *_unused, **_more: os.kill(os.getpid(), signal.SIGKILL))
stage.publish()
"""


@pytest.mark.parametrize("before", [False, True], ids=["first", "replacing"])
@pytest.mark.parametrize("place", KILLED_AT)
def test_killed_while_publishing(dest: Path, place: str, before: bool) -> None:
    """Nothing half-made is ever visible, and the next run ends it."""
    if before:
        published(dest, {**CONTENT, "config.json": b"[]"})
    staged(dest, CONTENT)
    collections = Path(__file__).resolve().parents[5] / "collections"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, place, str(dest)],
        env={**os.environ, "PYTHONPATH": str(collections)},
        check=False,
    )
    # Replacing needs no plain rename where names can change places.
    assert done.returncode in ((-signal.SIGKILL, 0) if place == "os.rename" else (-signal.SIGKILL,))
    if done.returncode:
        assert state(dest, full=True) == ("whole" if before else "absent")
        folder.Staging(str(dest)).publish()
    assert (dest / "config.json").read_bytes() == b"{}"
    assert state(dest, full=True) == "whole"
