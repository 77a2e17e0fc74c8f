# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From verified wheels to a finished environment. Each step succeeds, or nothing becomes visible."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import shutil
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from . import check_host as check
from . import conda_host as conda_tree
from . import lock_host as lock
from . import python_kit_host as python_kit
from . import toolchain_host as toolchain_tree
from . import wheel_names
from .store_host import RefusedError, Store, free_bytes, gigabytes, refuse_full, refuse_unfit
from .unpacked_host import Unpacked

STAMP = ".environment.json"
FICLONE = 0x40049409
# Scripts, links and the metadata of the file system, on top of what the wheels say of themselves.
SPARE = 1.03
# What has to fit where the environment's files are links to unpacked ones: folders and its own few files.
LINKED = 0.02
NO_SPACE = ("No space left on device", "os error 28", "Disk quota exceeded")

Run = Callable[[list[str], dict[str, str], tuple[int, ...]], tuple[int, str, str]]


@dataclass
class Asked:
    dest: str
    store: str
    files: list[dict[str, Any]]
    lock: str
    python: str
    lock_sha256: str = ""
    installer: str = ""
    python_version: str = ""
    python_kit: str = ""
    python_home: str = ""
    conda: dict[str, str] | None = None
    imports: list[str] = field(default_factory=list)
    import_environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    cuda: str = ""
    gpus: int = 0


class Maker:
    def __init__(self, asked: Asked, run: Run, warn: Callable[[str], None]) -> None:
        self.asked = asked
        self.store = Store(asked.store)
        self.run_command = run
        self.warn = warn
        self.work = f"{asked.dest}.partial"
        self.env = os.path.join(self.work, "env")
        self.seconds: dict[str, float] = {}
        self.handle = -1
        self.wheels = [entry for entry in asked.files if wheel_names.is_wheel(str(entry["path"]))]
        self.needed = 0
        self.pins: dict[str, set[str]] = {}
        uv = self._uv_entry()
        self.uv_wheel = self.store.path(uv)
        self.lock = self._one(f"locks/{asked.lock}", f"lock {asked.lock}")
        if asked.lock_sha256 and self.lock["sha256"] != asked.lock_sha256:
            raise RefusedError(
                f"locks/{asked.lock}: its sha256 is {self.lock['sha256']}, {asked.dest} was planned with "
                f"{asked.lock_sha256}: build the bundle again with this collection. Nothing was changed."
            )
        self.lock_path = self.store.path(self.lock)
        self.unpacked = Unpacked(self.store.unpacked, str(uv["sha256"])[:16])

    def _one(self, path: str, what: str) -> dict[str, Any]:
        found = [entry for entry in self.asked.files if entry["path"] == path]
        if not found:
            raise RefusedError(f"the bundle lists no {what} for {self.asked.dest}: build it again")
        return found[0]

    def _uv_entry(self) -> dict[str, Any]:
        """It runs as root: the one that is named, never one that is called like it."""
        named = [str(entry["path"]) for entry in self.wheels if _base(entry).startswith("uv-")]
        if not self.asked.installer and len(named) > 1:
            raise RefusedError(f"{', '.join(named)}: say which of them is the installer of {self.asked.dest}")
        return self._one(self.asked.installer or "".join(named), "wheel of uv")

    def make(self) -> None:
        refuse_unfit(self.store, self.asked.files)
        self.store.open()
        with lock.held(self.store.lock, self.asked.dest) as self.handle:
            shutil.rmtree(self.work, ignore_errors=True)
            if os.path.exists(os.path.join(self.asked.dest, STAMP)):
                return
            try:
                for step in (
                    self.inspect,
                    self.mend,
                    self.compare,
                    self.room,
                    self.kit,
                    self.install,
                    self.toolchain,
                    self.check,
                    self.publish,
                ):
                    started = time.monotonic()
                    step()
                    self.seconds[step.__name__] = round(time.monotonic() - started, 2)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise self._full() from error
                raise
            finally:
                shutil.rmtree(self.work, ignore_errors=True)

    def inspect(self) -> None:
        """All that is wrong with what was brought, at once."""
        problems = []
        lacking = self.store.lacking(self.asked.files)
        if lacking:
            problems.append(f"not on this host: {_few(str(entry['path']) for entry in lacking)}")
        foreign = wheel_names.foreign((str(entry["path"]) for entry in self.wheels), platform.machine())
        if foreign:
            problems.append(f"built for another machine than {platform.machine()}: {_few(foreign)}")
        if os.path.exists(self.lock_path):
            if bad := self.store.rotten([self.lock]):
                raise self._rotten(bad)
            with open(self.lock_path, encoding="utf-8") as stream:
                self.pins = wheel_names.pins(stream.read())
            unmet = wheel_names.unmet(self.pins, self.wheels)
            if unmet:
                problems.append(f"the lock asks for what no wheel here is: {_few(unmet)}")
        if problems:
            raise RefusedError(
                f"{self.asked.dest} cannot be made from this bundle: {'; '.join(problems)}. Build the bundle again "
                "with playbooks/bundle.yml and this inventory. Nothing was changed."
            )

    def mend(self) -> None:
        changed = self.unpacked.mend()
        if changed:
            self.warn(
                f"{self.unpacked.folder}: changed since they were unpacked, thrown away and made again from the "
                f"verified wheels: {_few(changed)}"
            )

    def compare(self) -> None:
        """All hashes were compared when the files came, so uv need not read the wheels for that a second time."""
        if bad := self.store.rotten(self.asked.files):
            raise self._rotten(bad)

    def room(self) -> None:
        """Both places, before anything is unpacked."""
        there = self.unpacked.distributions()
        names = {self.store.path(entry): wheel_names.distribution(_base(entry)) for entry in self.wheels}
        try:
            new = sum(wheel_names.unpacked_bytes(path) for path, name in names.items() if name not in there)
        except zipfile.BadZipFile:
            raise self._damaged("a wheel has no table of contents") from None
        self.needed = int(new * SPARE)
        os.makedirs(os.path.dirname(self.asked.dest), mode=0o755, exist_ok=True)
        if os.stat(self.store.folder).st_dev != os.stat(os.path.dirname(self.asked.dest)).st_dev:
            whole = sum(wheel_names.unpacked_bytes(path) for path in names)
            refuse_full(
                os.path.dirname(self.asked.dest), int(whole * SPARE), f"the environment {self.asked.dest}"
            )
        refuse_full(self.store.folder, int(self.needed * (1 + LINKED)), f"the environment {self.asked.dest}")

    def kit(self) -> None:
        asked = self.asked
        if asked.python_kit and not os.path.exists(asked.python_home):
            archive = self.store.path(self._one(asked.python_kit, f"Python kit {asked.python_kit}"))
            python_kit.unpack(archive, asked.python_home, asked.python_version, self._python)
        if not os.path.exists(asked.python):
            raise RefusedError(
                f"there is no {asked.python} on this host. Plan again (playbooks/site.yml reads the host), or bring "
                "a Python with runtime_python_kits and bundle_pythons"
            )

    def _python(self, command: list[str]) -> str:
        status, out, err = self.run_command(command, {}, ())
        if status != 0:
            raise RefusedError(f"{command[0]} does not run on this host: {(err or out).strip()[-500:]}")
        return out

    def install(self) -> None:
        os.makedirs(self.work, mode=0o755)
        os.makedirs(self.unpacked.folder, mode=0o700, exist_ok=True)
        uv = self._unpack_uv()
        environment = {
            "UV_CACHE_DIR": self.unpacked.folder,
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
            "TMPDIR": self.work,
        }
        os.makedirs(self.unpacked.folder, mode=0o700, exist_ok=True)
        if self.asked.conda:
            self._conda(self.asked.conda)
        else:
            self._uv(
                [uv, "venv", "--quiet", "--relocatable", "--python", self.asked.python, self.env], environment
            )
        # A folder for each wheel: the place is the content's hash, so what is unpacked is found again, and uv is shown
        # no wheel but those whose hash the lock allows.
        allowed = {digest for digests in self.pins.values() for digest in digests}
        found = [
            word
            for entry in self.wheels
            if entry["sha256"] in allowed
            for word in ("--find-links", os.path.dirname(self.store.path(entry)))
        ]
        sync = [uv, "pip", "sync", "--quiet", "--python", os.path.join(self.env, "bin", "python")]
        rules = ["--no-index", "--no-verify-hashes", "--no-build", "--link-mode", self._link_mode()]
        # The Python of a conda package says of itself that it is a system's own.
        rules += ["--break-system-packages"] if self.asked.conda else []
        self._uv([*sync, *rules, *found, self.lock_path], environment)

    def _conda(self, conda: dict[str, str]) -> None:
        places = {str(entry["path"]): self.store.path(entry) for entry in self.asked.files}

        def run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
            return self.run_command(command, environment, (self.handle,))

        try:
            conda_tree.install(run, self.work, self.env, self.asked.dest, self.asked.python, conda, places)
        except conda_tree.CondaError as error:
            raise RefusedError(f"{self.asked.dest} was not made, its conda packages fail: {error}") from error

    def toolchain(self) -> None:
        """Before the imports: some of them look for a CUDA_HOME."""
        toolchain_tree.lay_out(self.env)

    def _unpack_uv(self) -> str:
        target = self.unpacked.uv()
        if os.path.exists(target):
            return target
        os.makedirs(os.path.dirname(target), mode=0o700)
        with zipfile.ZipFile(self.uv_wheel) as wheel:
            member = next((name for name in wheel.namelist() if name.endswith(".data/scripts/uv")), "")
            if not member:
                raise RefusedError(
                    f"{os.path.basename(self.uv_wheel)} holds no program uv: build the bundle again"
                )
            with wheel.open(member) as source, open(target, "wb") as stream:
                shutil.copyfileobj(source, stream)
        os.chmod(target, 0o755)
        return target

    def _uv(self, command: list[str], environment: dict[str, str]) -> None:
        # The lock goes with uv: should this process be killed, the next run waits for uv to be gone.
        status, out, err = self.run_command(command, environment, (self.handle,))
        if status == 0:
            return
        said = (err or out).strip()
        self.unpacked.mend()
        if any(words in said for words in NO_SPACE):
            raise self._full()
        raise self._damaged(said[-3000:])

    def _full(self) -> RefusedError:
        shutil.rmtree(self.work, ignore_errors=True)
        self.unpacked.mend()
        free = free_bytes(self.store.folder)
        return RefusedError(
            f"the disk of {self.store.folder} became full while {self.asked.dest} was made: "
            f"{gigabytes(self.needed)} are needed and {gigabytes(free)} are free now. Free the difference and run "
            "again. What was begun was taken away; other environments are as they were."
        )

    def _damaged(self, said: str) -> RefusedError:
        """A failed unpacking is looked into: is a file here no longer what was verified?"""
        bad = self.store.damaged(self.asked.files)
        if not bad:
            return RefusedError(f"{self.asked.dest} was not made: {said}")
        return self._rotten(bad)

    def _rotten(self, bad: list[dict[str, Any]]) -> RefusedError:
        names = _few(str(entry["path"]) for entry in bad)
        return RefusedError(
            f"{self.asked.dest} was not made: changed in {self.store.content} since it was verified, and taken away: "
            f"{names}. Run again: it is brought again."
        )

    def _link_mode(self) -> str:
        """A clone shares the blocks until one side is written, a hard link for ever, a copy never."""
        source, target = (
            os.path.join(self.store.folder, "clone-probe"),
            os.path.join(self.work, "clone-probe"),
        )
        try:
            with open(source, "w+b") as one, open(target, "w+b") as other:
                one.write(b"x")
                one.flush()
                fcntl.ioctl(other.fileno(), FICLONE, one.fileno())
            return "clone"
        except OSError as error:
            return "copy" if error.errno == errno.EXDEV else "hardlink"
        finally:
            for path in (source, target):
                if os.path.exists(path):
                    os.unlink(path)

    def check(self) -> None:
        """The disk is busy with what was written while the processor is busy with imports."""
        with ThreadPoolExecutor(1) as beside:
            settled = beside.submit(self._settle)
            self._ask()
            settled.result()

    def _settle(self) -> None:
        self.unpacked.seal()
        _flush(self.work)

    def _ask(self) -> None:
        asked = self.asked
        scratch = os.path.join(self.work, "scratch")
        os.makedirs(scratch)
        question = check.question(asked.imports, asked.versions, asked.cuda, asked.gpus)
        python = os.path.join(self.env, "bin", "python")
        environment = {"HOME": scratch, "TMPDIR": scratch, **asked.import_environment}
        status, out, err = self.run_command([python, "-c", check.PROGRAM, question], environment, ())
        if status != 0:
            raise RefusedError(
                f"{asked.dest} was not made: its Python ended with {status}: {(err or out).strip()[-2000:]}"
            )
        problems = check.answer(out)
        if problems:
            raise RefusedError(f"{asked.dest} was not made, it is not the planned one: {'; '.join(problems)}")

    def publish(self) -> None:
        asked = self.asked
        stamp = {
            "lock": asked.lock,
            "made": time.time(),
            "python": asked.python,
            "content": sorted({str(entry["sha256"]) for entry in asked.files}),
            "distributions": sorted(wheel_names.distribution(_base(entry)) for entry in self.wheels),
        }
        # uv leaves a lock that anybody may write; an environment that is never changed needs none.
        if os.path.exists(os.path.join(self.env, ".lock")):
            os.unlink(os.path.join(self.env, ".lock"))
        if asked.conda:
            conda_tree.repair_scripts(self.env, asked.dest)
        with open(os.path.join(self.env, STAMP), "w", encoding="utf-8") as stream:
            json.dump(stamp, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(self.env, asked.dest)


def _base(entry: dict[str, Any]) -> str:
    return os.path.basename(str(entry["path"]))


def _flush(folder: str) -> None:
    """To the disk with this file system alone: another one may be slow or far away."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(handle)
    finally:
        os.close(handle)


def _few(names: Any) -> str:
    listed = list(names)
    rest = f" and {len(listed) - 10} more" if len(listed) > 10 else ""
    return ", ".join(listed[:10]) + rest
