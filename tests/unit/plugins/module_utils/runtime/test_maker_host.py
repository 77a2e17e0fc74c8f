# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments out of stand-in wheels, with the real uv."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import lock_host as lock
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import maker_host as making
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import store_host as storing
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError
from ansible_collections.baremetal.sglang.tests.unit.fixtures import killed_host
from ansible_collections.baremetal.sglang.tests.unit.fixtures import stand_in_wheels as stand_in
from ansible_collections.baremetal.sglang.tests.unit.fixtures.killed_host import Files, Host, run

pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Files]:
    folder = tmp_path_factory.mktemp("bundle")
    return folder, stand_in.bundle(folder, megabytes=8)


@pytest.fixture
def ready(host: Host, bundled: tuple[Path, Files]) -> tuple[Host, Files]:
    assert host.bring(*bundled) == []
    return host, bundled[1]


def test_an_environment_appears_and_the_next_one_shares_its_files(ready: tuple[Host, Files]) -> None:
    host, files = ready
    host.make(files, cuda="cu130")
    host.make(files, "two")
    one, two = (host.site(name) / "bulk0" / "0.bin" for name in ("one", "two"))
    assert one.stat().st_ino == two.stat().st_ino
    assert host.left_over() == []
    assert host.warnings == []
    assert (host.folder / "store").stat().st_mode & 0o777 == 0o700
    assert host.make(files).seconds == {}  # what is there is left alone


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"imports": ["torch", "nonsense"]}, "import nonsense: ModuleNotFoundError"),
        ({"versions": {"sglang": "2.0"}}, "sglang: 2.0 was planned, 1.0 is installed"),
        ({"versions": {"vllm": "2.0"}}, "vllm: 2.0 was planned, nothing is installed"),
        ({"cuda": "cu126"}, "torch: cu126 was planned, this build is for cu130"),
        ({"gpus": 8}, "torch.cuda sees 0 GPUs, the plan has 8"),
        ({"python": "/usr/bin/python9.9"}, "there is no /usr/bin/python9.9 on this host"),
    ],
)
def test_what_is_not_planned_does_not_appear(
    ready: tuple[Host, Files], more: dict[str, Any], said: str
) -> None:
    host, files = ready
    with pytest.raises(RefusedError, match=said):
        host.make(files, **more)
    assert not (host.folder / "envs" / "one").exists()
    assert host.left_over() == []


def replaced(files: Files, part: str, **values: Any) -> Files:
    return [{**entry, **values} if part in entry["path"] else entry for entry in files]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda files: [entry for entry in files if "sglang" not in entry["path"]],
            "no wheel here is: sglang==1.0",
        ),
        (lambda files: [entry for entry in files if "/uv-" not in entry["path"]], "lists no wheel of uv"),
        (
            lambda files: [entry for entry in files if "locks/" not in entry["path"]],
            "lists no lock stand-in.txt",
        ),
        (lambda files: replaced(files, "torch-", sha256="0" * 64), "not on this host: wheels/torch-1.0"),
        (
            lambda files: replaced(files, "torch-", path="wheels/torch-1.0-cp311-cp311-linux_riscv64.whl"),
            "built for another machine than .*: torch-1.0",
        ),
        (
            lambda files: replaced(files, "torch-", path="../torch.whl"),
            "names or hashes that cannot be: ../torch.whl",
        ),
        (lambda files: replaced(files, "torch-", sha256="../x"), "names or hashes that cannot be"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_by_name(
    ready: tuple[Host, Files], change: Callable[[Files], Files], said: str
) -> None:
    host, files = ready
    with pytest.raises(RefusedError, match=said):
        host.make(change(files))
    assert not (host.folder / "envs" / "one").exists()


def test_a_tampered_wheel_never_reaches_the_store(host: Host, tmp_path: Path) -> None:
    files = stand_in.bundle(tmp_path / "bundle")
    target = tmp_path / "bundle" / files[2]["path"]
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    assert host.bring(tmp_path / "bundle", files) == [f"{files[2]['path']}: content differs (sha256)"]
    assert [entry["path"] for entry in host.store.lacking(files)] == [files[2]["path"]]


@pytest.mark.parametrize("name", ["wheels/bulk0", "wheels/uv-", "locks/"])
@pytest.mark.parametrize("hidden", [False, True])
def test_what_rots_in_the_store_is_named_and_brought_again(
    ready: tuple[Host, Files], bundled: tuple[Path, Files], name: str, hidden: bool
) -> None:
    """`hidden`: with the time put back, and no note of what it looked like."""
    host, files = ready
    entry = next(entry for entry in files if name in entry["path"])
    path = Path(host.store.path(entry))
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-len(data) // 4] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    if hidden:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        (host.folder / "store/verified" / entry["sha256"]).unlink()
    with pytest.raises(RefusedError, match=f"changed in .* since it was verified, and taken away: {name}"):
        host.make(files)
    assert host.left_over() == []
    assert host.bring(*bundled) == []
    host.make(files)


def test_only_what_was_touched_is_read_again(
    ready: tuple[Host, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, files = ready
    touched = next(entry for entry in files if "bulk1" in entry["path"])
    os.utime(host.store.path(touched))
    read: list[str] = []
    hashed = storing.sha256_of
    monkeypatch.setattr(storing, "sha256_of", lambda path: read.append(path) or hashed(path))
    host.make(files)
    assert read == [host.store.path(touched)]
    read.clear()
    assert host.store.rotten(files) == [] == read


def test_uv_is_shown_no_wheel_that_the_lock_does_not_allow(ready: tuple[Host, Files]) -> None:
    """Of one name and version, too: uv itself compares no hash here."""
    host, files = ready
    shown: list[str] = []

    def told(command: list[str], *rest: Any) -> Any:
        shown.extend(command)
        return run(command, *rest)

    host.make(files, with_run=told)
    folders = {Path(word).name for word in shown if "/content/" in word and Path(word).is_dir()}
    locked = {
        entry["sha256"] for entry in files if "wheels/" in entry["path"] and "/uv-" not in entry["path"]
    }
    assert folders == locked


@pytest.mark.parametrize("how", ["written", "replaced", "added", "removed"])
def test_unpacked_files_that_somebody_changed_are_made_again(ready: tuple[Host, Files], how: str) -> None:
    host, files = ready
    host.make(files)
    target = host.site() / "sglang" / "launch_server.py"
    unpacked = next(
        path
        for path in Path(host.store.unpacked).rglob("launch_server.py")
        if path.stat().st_ino == target.stat().st_ino
    )
    if how == "written":
        target.write_text("evil = 1")
    elif how == "replaced":
        unpacked.unlink()
        unpacked.write_text("")
    elif how == "added":
        (unpacked.parent / "evil.py").write_text("evil = 1")
    else:
        unpacked.unlink()
    host.make(files, "two")
    made = host.site("two") / "sglang"
    assert (made / "launch_server.py").read_text() == ""
    assert not (made / "evil.py").exists()
    assert len(host.warnings) == 1
    assert "sglang-1.0" in host.warnings[0]
    host.make(files, "three")
    assert len(host.warnings) == 1


def test_a_disk_that_is_too_small_is_refused_before_anything_is_unpacked(
    ready: tuple[Host, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, files = ready
    monkeypatch.setattr(
        "os.statvfs", lambda _path: os.statvfs_result((4096, 4096, 0, 0, 500, 0, 0, 0, 0, 255))
    )
    with pytest.raises(
        RefusedError, match=r"store has 2\.0 MB free and \d+\.\d MB are needed for the environment .*/one"
    ):
        host.make(files)
    assert list(Path(host.store.unpacked).iterdir()) == []


KILLS = 10


def killed(host: Host, bundle: Path, files: Files, moment: object) -> str:
    words = [sys.executable, killed_host.__file__, host.folder, bundle, json.dumps(files), str(moment)]
    path = os.pathsep.join(entry for entry in sys.path if (Path(entry) / "ansible_collections").is_dir())
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == (-signal.SIGKILL if moment else 0), done.stderr
    return done.stdout


def test_killed_at_ten_points_the_next_run_completes(host: Host, bundled: tuple[Path, Files]) -> None:
    changes = int(killed(host, *bundled, 0))
    assert changes > 2 * KILLS
    for number in range(KILLS):
        shutil.rmtree(host.folder)
        killed(host, *bundled, 1 + number * (changes - 2) // (KILLS - 1))
        stamp = host.folder / "envs" / "one" / making.STAMP
        assert stamp.exists() == stamp.parent.exists()
        assert host.bring(*bundled) == []
        host.make(bundled[1])
        assert (host.site() / "sglang" / "__init__.py").exists()
        assert host.left_over() == []


def test_killed_while_uv_works_the_next_run_waits_for_uv(host: Host, bundled: tuple[Path, Files]) -> None:
    killed(host, *bundled, "uv")
    started = time.monotonic()
    host.make(bundled[1])
    assert time.monotonic() - started > 1
    assert host.left_over() == []


def test_the_second_of_two_runs_is_told_who_the_first_is(ready: tuple[Host, Files]) -> None:
    host, files = ready
    with (
        lock.held(host.store.lock, "/opt/sglang/envs/other"),
        pytest.raises(RefusedError, match=rf"process {os.getpid()}, .* makes /opt/sglang/envs/other"),
    ):
        host.make(files)
    host.make(files)


def test_a_disk_that_fills_up_meanwhile(ready: tuple[Host, Files]) -> None:
    host, files = ready

    def full(
        command: list[str], environment: dict[str, str], handles: tuple[int, ...]
    ) -> tuple[int, str, str]:
        if "sync" in command:
            return 2, "", "error: failed to write: No space left on device (os error 28)"
        return run(command, environment, handles)

    host.make(files, "old")
    before = sorted(str(path) for path in (host.folder / "envs").rglob("*"))
    with pytest.raises(
        RefusedError, match=r"the disk of .*store became full while .*/one was made: .* are needed"
    ):
        host.make(files, with_run=full)
    assert sorted(str(path) for path in (host.folder / "envs").rglob("*")) == before
