# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root and the files of the service user: nothing hangs, nothing is followed, nothing else changes its owner."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.service import files_host as files
from ansible_collections.baremetal.sglang.plugins.module_utils.service import folders_host as folders
from ansible_collections.baremetal.sglang.plugins.module_utils.service import user_host as users

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

Attacker = Callable[[Callable[[], None]], int]
SELF = (os.geteuid(), os.getegid())


def in_fd(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


# --- read ---


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"failures": [1, 2.5, "x"], "reason": "a [[[ \\" ]"}')
    assert files.read_object(str(tmp_path / "a"), depth=2) == {
        "failures": [1, 2.5, "x"],
        "reason": 'a [[[ " ]',
    }


@pytest.mark.parametrize(
    "kind", ["fifo", "link", "dangling", "folder", "device", "socket", "two names", "large"]
)
def test_what_is_no_file_of_its_own_is_refused_at_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    # The path of a socket may have 107 characters.
    monkeypatch.chdir(tmp_path)

    path, other = tmp_path / "starts.json", tmp_path / "other"
    other.write_text("{}")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as made:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(other)
        elif kind == "dangling":
            path.symlink_to("nowhere")
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "socket":
            made.bind(path.name)
        elif kind == "two names":
            os.link(other, path)
        else:
            path.write_bytes(b" " * (files.MOST_BYTES + 1))
        with pytest.raises((OSError, files.UnsafeFileError)):
            files.read_json(str(path))


def test_a_file_under_a_lease_does_not_stop_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "starts.json"
    path.write_text("{}")
    with path.open("r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        # The lease says that it is broken with a signal.
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            with pytest.raises(BlockingIOError):
                files.read_json(str(path))
        finally:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 20 + "1" + "}" * 20,
        '{"generation": ' + "9" * 200_000 + "}",
        '{"generation": 1e999}',
        '{"generation": NaN}',
        '{"generation": -Infinity}',
        "{",
        "\ud800",
        "[]",
        "",
    ],
    ids=["deep", "deep-objects", "huge-integer", "huge-float", "nan", "infinity", "cut", "surrogate", "list", "empty"],
)  # fmt: skip
def test_hostile_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(files.UnsafeFileError, match="a: "):
        files.read_object(str(tmp_path / "a"))


def test_text_for_a_terminal_holds_nothing_that_a_terminal_obeys() -> None:
    said = files.printable("a\x1b]0;x\x07\r\nb\u202e\ud800 ü" + "c" * 1000, 20)
    assert said == "a?]0;x???b?? ü" + "c" * 6


# --- folders ---


def test_folders_are_made_once(tmp_path: Path) -> None:
    above, leaf = tmp_path / "sglang", tmp_path / "sglang" / "it"
    assert folders.make_folder(str(above), *SELF, 0o755, dry=True) and not above.exists()
    assert folders.make_folder(str(leaf), *SELF, 0o750, dry=True)
    assert folders.make_folder(str(above), *SELF, 0o755)
    assert folders.make_folder(str(leaf), *SELF, 0o750)
    assert not folders.make_folder(str(above), *SELF, 0o755)
    assert not folders.make_folder(str(leaf), *SELF, 0o750)
    assert (in_fd(above), in_fd(leaf)) == ((*SELF, 0o755), (*SELF, 0o750))


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_was_planted_in_place_of_a_folder_is_refused(
    tmp_path: Path, kind: str, service_user: int
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    leaf = tmp_path / "it"
    leaf.symlink_to(victim) if kind == "link" else leaf.write_text("")
    with pytest.raises(folders.UnsafeFolderError, match="must be a folder"):
        folders.make_folder(str(leaf), service_user, service_user, 0o750)
    assert in_fd(victim) == (0, 0, 0o700)


def test_nothing_is_made_below_a_folder_of_the_service_user(reachable: Path, service_user: int) -> None:
    owned = reachable / "state"
    owned.mkdir()
    os.chown(owned, service_user, service_user)
    with pytest.raises(folders.UnsafeFolderError, match=f"can be changed by user {service_user}"):
        folders.make_folder(str(owned / "it"), service_user, service_user, 0o750)
    victim = reachable / "victim"
    victim.mkdir()
    (owned / "away").symlink_to(victim)
    os.lchown(owned / "away", service_user, service_user)
    with pytest.raises(folders.UnsafeFolderError):
        folders.make_folder(str(owned / "away" / "it"), service_user, service_user, 0o750)
    assert folders.make_folder(str(owned), 0, 0, 0o755)
    assert folders.make_folder(str(owned / "it"), service_user, service_user, 0o750)
    with pytest.raises(folders.UnsafeFolderError):
        folders.make_folder(str(owned / "away" / "it"), service_user, service_user, 0o750)
    assert os.listdir(victim) == []


def test_a_folder_of_roots_may_be_a_link_of_roots(reachable: Path, service_user: int) -> None:
    (reachable / "disk").mkdir(mode=0o700)
    (reachable / "cache").symlink_to("disk")
    assert folders.make_folder(str(reachable / "cache"), 0, 0, 0o755)
    assert folders.make_folder(str(reachable / "cache" / "it"), service_user, service_user, 0o750)
    assert in_fd(reachable / "disk") == (0, 0, 0o755)
    assert in_fd(reachable / "disk" / "it") == (service_user, service_user, 0o750)
    assert not folders.make_folder(str(reachable / "cache"), 0, 0, 0o755)


def test_removal_follows_nothing_and_takes_any_depth(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    tree = tmp_path / "it"
    tree.mkdir()
    (tree / "out").symlink_to(kept)
    os.mkfifo(tree / "fifo")
    place = os.open(tree, os.O_RDONLY)
    for _level in range(3000):
        os.mkdir("d", dir_fd=place)
        place, above = os.open("d", os.O_RDONLY, dir_fd=place), place
        os.close(above)
    os.close(place)
    assert folders.remove_tree(str(tree)) and not tree.exists()
    assert not folders.remove_tree(str(tree))
    assert (kept / "file").read_text() == "x"
    (tmp_path / "link").symlink_to(kept)
    assert folders.remove_tree(str(tmp_path / "link")) and kept.is_dir()


def test_removal_wins_against_a_folder_that_changes_places_with_a_link(
    reachable: Path, service_user: int, as_attacker: Attacker
) -> None:
    victim = reachable / "victim"
    victim.mkdir()
    for number in range(50):
        (victim / str(number)).write_text("root's")
    leaf = reachable / "it"

    def race() -> None:
        while True:
            with contextlib.suppress(OSError):
                os.mkdir(leaf / "a")
            with contextlib.suppress(OSError):
                os.rename(leaf / "a", leaf / "b")
                os.symlink(victim, leaf / "a")
            with contextlib.suppress(OSError):
                os.unlink(leaf / "a")

    leaf.mkdir()
    os.chown(leaf, service_user, service_user)
    as_attacker(race)
    for _round in range(100):
        with contextlib.suppress(OSError):
            folders.remove_tree(str(leaf))
        with contextlib.suppress(OSError):
            folders.make_folder(str(leaf), service_user, service_user, 0o750)
    assert len(os.listdir(victim)) == 50


# --- as the user ---


def test_the_child_is_the_user_and_nothing_more(service_user: int) -> None:
    def seen() -> list[object]:
        with open("/proc/self/status", encoding="utf-8") as stream:
            said = dict(line.rstrip("\n").split(":\t", 1) for line in stream)
        return [
            said["Uid"],
            said["Gid"],
            said["Groups"].strip(),
            said["CapEff"],
            said["NoNewPrivs"],
            os.getsid(0),
        ]

    uid, gid, groups, capabilities, locked, session = users.as_user(service_user, service_user, seen)
    assert uid == gid == "\t".join([str(service_user)] * 4)
    assert (groups, int(capabilities, 16), locked) == ("", 0, "1")
    assert session != os.getsid(0)


def test_the_child_cannot_read_what_its_user_cannot(service_user: int) -> None:
    with pytest.raises(users.UserError, match="Permission denied"):
        users.as_user(service_user, service_user, lambda: Path("/etc/shadow").read_text())
    with pytest.raises(users.UserError, match="must not be root"):
        users.as_user(0, 0, lambda: None)


def test_a_child_that_its_user_stops_or_kills_is_told_and_not_waited_for(
    service_user: int, as_attacker: Attacker
) -> None:
    for number, word in ((signal.SIGSTOP, "stopped by a signal"), (signal.SIGKILL, "gave no answer")):
        reading, writing = os.pipe()

        def send(reading: int = reading, number: int = number) -> None:
            os.kill(int(os.read(reading, 32)), number)
            while True:
                time.sleep(1)

        as_attacker(send)

        def work(writing: int = writing) -> None:
            os.write(writing, str(os.getpid()).encode())
            while True:
                time.sleep(1)

        with pytest.raises(users.UserError, match=word):
            users.as_user(service_user, service_user, work)
        os.close(reading)
        os.close(writing)


def test_what_the_child_leaves_behind_ends_with_it(service_user: int) -> None:
    def work() -> int:
        pid = os.fork()
        if pid == 0:
            while True:
                time.sleep(1)
        return pid

    left = users.as_user(service_user, service_user, work)
    for _try in range(100):
        try:
            with open(f"/proc/{left}/stat", encoding="ascii") as stream:
                if stream.read().rpartition(")")[2].split()[0] in "ZX":
                    break
        except FileNotFoundError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it still runs")
