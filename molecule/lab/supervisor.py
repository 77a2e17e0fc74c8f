# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one host from power-on to power-off, through its reboots: `python -m lab.supervisor STATE HOST`.

A process of its own, so that a host outlives the command that started it. Each boot gets new NICs,
as after a real power cycle; what the kernel counted in the old ones is added up first.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import egress, groups, network
from .machine import Hosting
from .paths import HostPaths, LabPaths
from .processes import ProcessId, read_json, write_json
from .spec import HostSpec, LabSpec

REBOOT = 133
"""What systemd-nspawn exits with, under --keep-unit, when the host asked to be booted again."""


def main(state: Path, name: str) -> int:
    paths = HostPaths(LabPaths(state), name)
    boot = read_json(paths.boot)
    with (paths.directory / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"{name} has a supervisor already\n")
            return 1
        return _keep(paths, boot)


def _keep(paths: HostPaths, boot: dict[str, Any]) -> int:
    lab, host = LabSpec.from_dict(boot["lab"]), HostSpec.from_dict(boot["host"])
    hosting = Hosting(**{**boot["hosting"], "groups": tuple(boot["hosting"]["groups"])})
    if hosting.starter == "direct":
        # A guest's memory and processors are the emulator's arguments; the emulator itself needs more.
        limits = (host.memory, host.cpus) if host.kind == "nspawn" else (None, None)
        mine = groups.create(hosting, paths.unit, *limits)
        groups.enter(mine)
    else:
        mine = groups.own(paths.unit)
    leaves = groups.divide(mine)
    me = ProcessId.of(_own_pid())
    assert me is not None
    boots = 0
    while True:
        boots += 1
        if host.kind == "nspawn":
            egress.keep_attempts(paths)
            network.attach(lab, host, paths)
        else:
            network.attach_tap(host, paths)
        write_json(
            paths.supervisor,
            {"pid": me.pid, "start": me.start, "boots": boots, "groups": [str(g) for g in mine]},
        )
        status = _run_host(boot, paths, leaves)
        if host.kind != "nspawn" or status != REBOOT:
            break
    egress.keep_attempts(paths)
    network.detach(host, paths)
    return 0


def _run_host(boot: dict[str, Any], paths: HostPaths, leaves: list[Path]) -> int:
    groups.renew(leaves)
    with paths.console.open("ab") as console:
        return subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *boot["command"]],
            stdin=subprocess.DEVNULL, stdout=console, stderr=console, check=False,
            env=boot["environment"], preexec_fn=lambda: groups.enter(leaves),
        ).returncode  # fmt: skip


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
