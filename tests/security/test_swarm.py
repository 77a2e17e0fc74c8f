# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile peer, or an agent that one has taken over, against a host of the swarm."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import handover_host as swarm_handover
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import host as swarm_host
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import metainfo as swarm_metainfo
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import (
    published_tree_host as published_tree,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import unit_host as swarm_unit
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm.plan import blame, status_of
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import folder_host as weights_folder
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest as weights_manifest

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

AGENT, STRANGER = 61992, 61993
CONTENT = b"weights" * 1000
FILES = [
    {"path": "model.safetensors", "size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()},
    {"path": "part/config.json", "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()},
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="files change hands")


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Path]:
    """Every folder above can be passed, as /opt/sglang/weights can."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    made = tmp_path / "main.partial"
    made.mkdir(mode=0o700)
    yield made
    swarm_handover.wipe(str(made))


def as_agent(work: Callable[[], None], uid: int = AGENT) -> None:
    """In a process of the agent's user, which has no right that root has."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def given(staging: Path) -> Path:
    return Path(swarm_handover.give(str(staging), FILES, AGENT, AGENT))


def fill(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "part/config.json").write_bytes(b"{}")


def in_place(folder: Path) -> None:
    """The agent sees its folder through its unit; here the way to it is opened for the test."""
    folder.parent.chmod(0o711)


def take(staging: Path) -> list[str]:
    staging.chmod(0o700)
    return swarm_handover.take(str(staging), FILES, AGENT)


# --- what the agent leaves behind ---


@needs_root
def test_what_arrived_becomes_roots_and_nobody_elses(staging: Path) -> None:
    folder = given(staging)
    in_place(folder)
    as_agent(lambda: fill(folder))
    assert take(staging) == []
    for entry in FILES:
        found = (staging / entry["path"]).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o600)
    for place in (staging, staging / "part"):
        assert place.stat().st_uid == 0 and not place.stat().st_mode & 0o022
    assert not folder.exists()


def publish(staging: Path) -> None:
    manifest = weights_manifest.build("m", "main", {"type": "directory", "id": "x"}, FILES, {})
    (staging / weights_manifest.MANIFEST).write_text(weights_manifest.to_text(manifest))
    weights_folder.Staging(str(staging.parent / "main")).publish()


def link(folder: Path, staging: Path) -> None:
    (folder / "model.safetensors").symlink_to("/etc/shadow")


def folder_link(folder: Path, staging: Path) -> None:
    (folder / "part").rmdir()
    (folder / "part").symlink_to("/etc")


def fifo(folder: Path, staging: Path) -> None:
    os.mkfifo(folder / "model.safetensors")


def unix_socket(folder: Path, staging: Path) -> None:
    import socket

    os.chdir(folder)
    socket.socket(socket.AF_UNIX).bind("model.safetensors")


def own_folder(folder: Path, staging: Path) -> None:
    (folder / "model.safetensors").mkdir()


def second_name(folder: Path, staging: Path) -> None:
    fill(folder)
    os.link(folder / "model.safetensors", folder / "another")


def too_long(folder: Path, staging: Path) -> None:
    (folder / "model.safetensors").write_bytes(CONTENT + b"x")


def set_id(folder: Path, staging: Path) -> None:
    fill(folder)
    (folder / "model.safetensors").chmod(0o6777)


@needs_root
@pytest.mark.parametrize("work", [link, folder_link, fifo, unix_socket, own_folder, second_name, too_long])
def test_nothing_but_a_file_with_one_name_is_taken(staging: Path, work: Any) -> None:
    shadow = Path("/etc/shadow").stat()
    folder = given(staging)
    in_place(folder)
    as_agent(lambda: work(folder, staging))
    (refused,) = take(staging)
    assert re.search("is not a (file|folder)|another name|bytes instead of", refused), refused
    assert not (staging / FILES[0]["path"]).exists() or work is folder_link
    assert (shadow.st_mode, shadow.st_uid) == (
        Path("/etc/shadow").stat().st_mode,
        Path("/etc/shadow").stat().st_uid,
    )


@needs_root
def test_a_hard_link_to_a_file_of_somebody_else_is_not_made_roots(staging: Path) -> None:
    """Where the kernel does not protect hard links, an agent could name any file of its disk."""
    other = staging.parent / "other"
    other.write_bytes(CONTENT)
    os.chown(other, STRANGER, STRANGER)
    folder = given(staging)
    os.link(other, folder / "model.safetensors")
    assert take(staging) == ["model.safetensors: belongs to another user"]
    assert other.stat().st_uid == STRANGER


@needs_root
def test_a_file_with_special_bits_loses_them(staging: Path) -> None:
    folder = given(staging)
    in_place(folder)
    as_agent(lambda: set_id(folder, staging))
    assert take(staging) == []
    assert stat.S_IMODE((staging / "model.safetensors").stat().st_mode) == 0o600


@needs_root
def test_a_file_that_somebody_still_writes_to_is_not_taken(staging: Path) -> None:
    """A descriptor outlives a chown: its holder could write after the hash was compared."""
    folder = given(staging)
    fill(folder)
    for path in folder.rglob("*"):
        os.chown(path, AGENT, AGENT)
    with (folder / "model.safetensors").open("r+b"):
        assert take(staging) == ["model.safetensors: is still open for writing"]
    assert (staging / "part/config.json").exists()


@needs_root
def test_an_agent_that_runs_while_it_is_taken_over_wins_nothing(staging: Path) -> None:
    """It exchanges its file for a link as fast as it can; not one round may touch what the link leads to."""
    victim = staging.parent / "victim"
    victim.write_bytes(CONTENT)
    os.chown(victim, STRANGER, STRANGER)
    victim.chmod(0o644)
    for _round in range(60):
        folder = given(staging)
        in_place(folder)
        pid = os.fork()
        if not pid:
            os.setresgid(AGENT, AGENT, AGENT)
            os.setresuid(AGENT, AGENT, AGENT)
            try:
                inside = os.open(folder, os.O_RDONLY)
                os.fchdir(inside)
                for _again in range(4000):
                    with open("made", "wb") as stream:
                        stream.write(b"{}")
                    os.replace("made", "model.safetensors")
                    os.symlink(victim, "made")
                    os.replace("made", "model.safetensors")
            finally:
                os._exit(0)
        with contextlib.suppress(OSError):
            swarm_handover.take(str(staging), FILES, AGENT)
        os.waitpid(pid, 0)
        found = victim.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (STRANGER, 0o644)
        assert not (staging / "model.safetensors").is_symlink()


@needs_root
def test_a_file_that_an_engine_reads_is_shown_and_cannot_be_written(staging: Path) -> None:
    """Another revision has the same file: it is one file with two names."""
    published = staging.parent / "published"
    published.write_bytes(CONTENT)
    published.chmod(0o444)
    os.link(published, staging / "model.safetensors")
    folder = given(staging)
    in_place(folder)

    def write() -> None:
        assert (folder / "model.safetensors").read_bytes() == CONTENT
        with pytest.raises(PermissionError):
            (folder / "model.safetensors").open("r+b")
        with pytest.raises(PermissionError):
            (folder / "model.safetensors").chmod(0o666)
        # It may take the name away, and put another file there.
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").write_bytes(b"other")

    as_agent(write)
    assert take(staging) == []
    assert (staging / "model.safetensors").samefile(published)
    assert published.read_bytes() == CONTENT and published.stat().st_uid == 0


@needs_root
def test_an_unfinished_file_is_gone_on_with(staging: Path) -> None:
    (staging / "model.safetensors").write_bytes(CONTENT[:700])
    folder = given(staging)
    assert (folder / "model.safetensors").stat().st_uid == AGENT
    assert not (staging / "model.safetensors").exists()
    assert swarm_handover.held(str(staging), FILES) > 0
    assert take(staging) == []
    assert (staging / "model.safetensors").read_bytes() == CONTENT[:700]


@needs_root
def test_a_link_in_place_of_the_agents_folder_is_not_followed(staging: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "model.safetensors").write_bytes(CONTENT)
    (staging / swarm_handover.ARRIVING).symlink_to(away)
    with pytest.raises(swarm_handover.HandoverError, match="is not a folder"):
        take(staging)
    folder = given(staging)
    assert not folder.is_symlink() and (away / "model.safetensors").exists()


@needs_root
@pytest.mark.parametrize("take_over", [weights_folder.take_over, published_tree.take_over])
def test_who_publishes_does_not_reach_into_the_folder_of_an_agent(staging: Path, take_over: Any) -> None:
    folder = given(staging)
    in_place(folder)
    as_agent(lambda: (folder / "model.safetensors").symlink_to("/etc/passwd"))
    (staging / "mine").write_text("x")
    os.chown(staging / "mine", STRANGER, STRANGER)
    take_over(str(staging))
    assert (staging / "mine").stat().st_uid == 0
    assert (folder / "model.safetensors").lstat().st_uid == AGENT


@needs_root
def test_the_published_tree_is_roots_and_neither_the_agent_nor_the_engine_writes_to_it(staging: Path) -> None:
    folder = given(staging)
    in_place(folder)
    as_agent(lambda: fill(folder))
    assert take(staging) == []
    dest = staging.parent / "main"
    publish(staging)
    for place, _unused, names in os.walk(dest):
        for path in (Path(place), *(Path(place) / name for name in names)):
            assert path.stat().st_uid == 0 and not path.stat().st_mode & 0o022, path

    def write() -> None:
        for path in (dest / "model.safetensors", dest / "new", dest / "part" / "new"):
            with pytest.raises(PermissionError):
                path.open("ab")

    for uid in (AGENT, STRANGER):
        as_agent(write, uid)


@needs_root
def test_wrong_content_is_found_when_it_is_roots(staging: Path) -> None:
    """An agent that was taken over says that all is complete; the size is right, the content is its own."""
    folder = given(staging)
    in_place(folder)

    def lie() -> None:
        fill(folder)
        (folder / "model.safetensors").write_bytes(b"x" * len(CONTENT))

    as_agent(lie)
    assert take(staging) == []
    with pytest.raises(weights_folder.FolderError, match=r"model\.safetensors"):
        publish(staging)
    assert not (staging.parent / "main").exists()


@needs_root
def test_a_folder_that_is_too_deep_for_a_recursive_removal_is_removed(staging: Path) -> None:
    """Else every further run would fail at it."""
    folder = given(staging)
    in_place(folder)

    def dig() -> None:
        os.chdir(folder)
        for _level in range(3000):
            os.mkdir("d")
            os.chdir("d")

    as_agent(dig)
    assert take(staging) == []
    assert not folder.exists()
    given(staging)


@needs_root
def test_a_list_of_access_rights_is_not_taken_along(staging: Path) -> None:
    """The agent lets another user write to its file before it is taken."""
    import struct

    entries = [(1, 6, -1), (2, 6, STRANGER), (4, 0, -1), (16, 6, -1), (32, 0, -1)]
    rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    folder = given(staging)
    in_place(folder)

    def let_in() -> None:
        fill(folder)
        os.setxattr(folder / "model.safetensors", "system.posix_acl_access", rights)

    try:
        os.setxattr(staging, "system.posix_acl_default", rights)
        os.removexattr(staging, "system.posix_acl_default")
    except OSError:
        pytest.skip("the file system has no lists of access rights")
    as_agent(let_in)
    assert take(staging) == []
    assert os.listxattr(staging / "model.safetensors") == []


@needs_root
@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_an_agent_put_in_the_place_of_its_status_does_not_stop_the_next_run(
    tmp_path: Path, kind: str
) -> None:
    unit = swarm_unit.SwarmUnit(str(tmp_path), lambda _words: (1, "", ""))
    status = tmp_path / "notes" / "status.json"
    status.parent.mkdir()
    target = tmp_path / "target"
    target.write_text("kept")
    if kind == "folder":
        (status / "a" / "b").mkdir(parents=True)
    elif kind == "link":
        status.symlink_to(target)
    else:
        os.mkfifo(status)
    assert unit.status() == {}
    assert unit.stop(str(tmp_path / "staging"), FILES, "root") == (False, {})
    assert not os.path.lexists(status) and target.read_text() == "kept"


def test_content_that_another_host_described_wrongly_does_not_count_as_proven_again(tmp_path: Path) -> None:
    """Same sizes, other bytes, its own trees: found at publication, and fetched again afterwards."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.weights.manifest import MANIFEST

    dest = tmp_path / "main"
    folder = Path(weights_folder.staging_of(str(dest)))
    folder.mkdir()
    (folder / "config.json").write_bytes(b"[]")
    entry = {"path": "config.json", "size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    home = tmp_path / "home"
    home.mkdir()
    (home / swarm_host.DESCRIPTION).write_bytes(b"of the other host")
    os.utime(folder / "config.json", (1, 1))
    swarm_host.remember(str(home), str(folder), [entry])
    assert swarm_host.is_proven(str(home), str(folder), [entry])
    staged = object.__new__(weights_folder.Staging)
    staged.dest, staged.folder, staged.digest, staged.verified = str(dest), str(folder), "", {}
    staged.manifest, staged.piece = {"files": [entry], "piece_bytes": 1 << 20, "bytes": 2}, 1 << 20
    (folder / MANIFEST).write_text("{}")
    with pytest.raises(weights_folder.FolderError, match="content differs"):
        staged.publish()
    assert not swarm_host.is_proven(str(home), str(folder), [entry])


# --- what it says ---


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "huge", "deep", "nonsense", "list", "absent"])
def test_a_status_that_is_none_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "status.json"
    if kind == "link":
        (tmp_path / "real").write_text('{"complete": true}')
        path.symlink_to(tmp_path / "real")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "absent":
        content = {"huge": "1" * (1 << 20), "deep": "[" * 100_000, "nonsense": "{", "list": "[1]"}[kind]
        path.write_text(content)
    assert status_of(swarm_host.read_of_agent(str(path))) == {}


def test_what_an_agent_says_is_shown_as_text_and_counted_as_numbers() -> None:
    said = {
        "complete": "yes", "bytes": "1", "total": float("inf"), "rate": True, "seconds": -1, "state": ["x"],
        "problem": "a\x1b[2J\ud800\nb" + "c" * 9000, "from": {"10.0.0.1\x1b": 1 << 80, "10.0.0.2": 7}, "to": [],
        "connected": {"a": 1}, "complete_peers": [1, "b"], "refused": None, "suspected": "x", "pid": None,
    }  # fmt: skip
    status = status_of(said)
    assert status["complete"] is False
    assert [status[name] for name in ("bytes", "total", "rate", "seconds")] == [0, 0, 0, 0]
    assert status["problem"].startswith("a\ufffd[2J\ufffd\ufffdb") and len(status["problem"]) == 500
    assert status["from"] == {"10.0.0.1\ufffd": 0, "10.0.0.2": 7}
    assert (status["to"], status["connected"], status["complete_peers"]) == ({}, [], ["", "b"])
    assert blame(status, {}) == []
    json.dumps(status).encode()
    assert status_of([]) == status_of(None) == status_of("x") == {}


# --- a description from another host ---


def description(*sizes: int, name: str = "model", names: list[str] | None = None) -> bytes:
    listed = names or [f"f{number}" for number in range(len(sizes))]
    length = swarm_metainfo.piece_length(sum(sizes))
    hashed = []
    for path, size in zip(listed, sizes):
        hasher = swarm_metainfo.FileHasher(path, length)
        hasher.update(memoryview(bytes(size)))
        hashed.append(hasher.finish())
    return swarm_metainfo.metainfo(name, length, hashed)


WANTED = [{"path": "a/f0", "size": 3_000_000}, {"path": "f1", "size": 0}, {"path": "f2", "size": 5}]
GOOD = description(3_000_000, 0, 5, names=["a/f0", "f1", "f2"])


def test_the_description_of_the_listed_files_is_taken() -> None:
    assert swarm_metainfo.problems(GOOD, WANTED) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (description(4_000_000, 0, 5, names=["a/f0", "f1", "f2"]), "'a/f0' has 4000000 bytes instead of 3000000"),
        (description(3_000_000, 0, 5, 9, names=["a/f0", "f1", "f2", "f3"]), "'f3' has 9 bytes instead of None"),
        (description(3_000_000, 5, names=["a/f0", "f2"]), "'f1' has None bytes instead of 0"),
        (description(3_000_000, 0, 5, names=["a/f0", "../f1", "f2"]), "'../f1' has 0 bytes"),
        (GOOD.replace(b"7:privatei1e", b"7:privatei0e"), "another version, or not private"),
        (GOOD.replace(b"piece lengthi1048576e", b"piece lengthi2097152e"), "2097152 bytes instead of 1048576"),
        (GOOD[:-40] + bytes(38) + GOOD[-2:], "a layer does not lead to its root"),
        (b"d8:announce99:http://198.51.100.9/" + GOOD[1:], "malformed"),
        (b"d8:announce1:x" + GOOD[1:], "it has a field 'announce'"),
        (GOOD + b"x", "malformed"),
        (GOOD[:-1], "malformed"),
        (b"l" * 5000 + b"e" * 5000, "malformed"),
        (b"i" + b"9" * 5000 + b"e", "malformed"),
        (b"99999999999:", "malformed"),
        (b"d1:ai1e1:ai1ee", "canonical"),
        (b"", "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_another_description_is_refused_before_a_byte_is_fetched(text: bytes, says: str) -> None:
    found = swarm_metainfo.problems(text, WANTED)
    assert says in "; ".join(found), found


def test_the_agent_is_not_started_with_it(tmp_path: Path) -> None:
    import base64

    called: list[list[str]] = []

    def run(words: list[str]) -> tuple[int, str, str]:
        called.append(words)
        return 1, "", ""

    unit = swarm_unit.SwarmUnit(str(tmp_path / "home"), run)
    asked = {
        "part": {"does": "receive", "peers": [], "sources": [], "address": "10.0.0.1", "share": [0, 1]},
        "files": WANTED, "folder": str(tmp_path / "staging"), "wheel": "", "wheel_hashes": [], "user": "root",
        "description": base64.b64encode(description(1 << 30 >> 8, 0, 5, names=["a/f0", "f1", "f2"])).decode(),
    }  # fmt: skip
    with pytest.raises(swarm_unit.UnitError, match="does not fit the files that were listed"):
        unit.start(asked)
    assert not any("systemd-run" in words for words in called)
    assert not (tmp_path / "staging").exists()


# --- the unit ---


def unit_text(does: str) -> str:
    asked = {
        "part": {"does": does, "peers": ["10.0.0.2"], "address": "10.0.0.1"}, "lifetime": 60, "user": "sglang-swarm",
        "port": 29310, "agent": "/var/lib/sglang-swarm/agent.py", "files": WANTED,
    }  # fmt: skip
    words = swarm_unit.properties(
        asked, "/var/lib/sglang-swarm/x", "/opt/sglang/weights/m:n/main.partial/.arriving"
    )
    ours = [word for word in words[1::2] if not word.startswith("StartLimit")]
    return "\n".join(["[Unit]", "Description=x", "[Service]", *ours, "ExecStart=/usr/bin/python3", ""])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd judges it")
@pytest.mark.parametrize("does", ["receive", "source", "seed"])
def test_systemd_finds_the_agent_confined(tmp_path: Path, does: str) -> None:
    unit = tmp_path / "sglang-swarm-x.service"
    unit.write_text(unit_text(does))
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 2.0, done.stdout


@pytest.mark.parametrize("does", ["receive", "source", "seed"])
def test_the_agent_is_nobody_and_writes_to_what_is_its_own(does: str) -> None:
    text = unit_text(does)
    assert "User=sglang-swarm" in text and "CapabilityBoundingSet=\n" in text
    writable = [line for line in text.splitlines() if line.startswith("BindPaths=")]
    assert len(writable) == (2 if does == "receive" else 1)
    assert 'm:n/main.partial/.arriving":/run/swarm/files' in text
    assert "AF_UNIX" not in text and "append:" not in text
