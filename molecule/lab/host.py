# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a lab: power, disk, cable, and a way to run commands on it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import egress, groups, guest, network, pretend, seed
from .disk import FRESH, Disk
from .images import Image
from .machine import Hosting
from .paths import REPOSITORY, HostPaths, LabPaths
from .problems import LabError, say
from .processes import ProcessId, read_json, remove_tree, run, write_json
from .spec import HostSpec, LabSpec

# Generous, for busy machines: what is waited for is a state.
BOOT_SECONDS = {"nspawn": 600, "qemu": 900}
PATIENCE_SECONDS = 300
NSPAWN = [
    "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off",
    "--link-journal=no", "--settings=no", "--console=read-only",
    # What nspawn withholds though the host's network is its own; nftables and `ip` need it.
    "--capability=CAP_NET_ADMIN",
    # A launcher borrows its server's socket to shut it, as on a real host.
    "--system-call-filter=pidfd_getfd",
]  # fmt: skip


class Host:
    """Everything here is safe to repeat, and to begin again after an earlier command was killed."""

    def __init__(self, lab: LabSpec, spec: HostSpec, paths: HostPaths) -> None:
        self.lab = lab
        self.spec = spec
        self.paths = paths
        self.disk = self._disk()

    def _disk(self) -> Disk:
        if self.spec.kind == "qemu":
            return guest.GuestDisk(self.paths)
        return Disk(self.paths)

    @property
    def name(self) -> str:
        return self.spec.name

    # --- what it is doing ---

    def _supervisor(self) -> tuple[ProcessId, dict[str, Any]] | None:
        state = read_json(self.paths.supervisor)
        return (ProcessId(state["pid"], state["start"]), state) if state else None

    @property
    def running(self) -> bool:
        supervisor = self._supervisor()
        return supervisor is not None and supervisor[0].alive

    @property
    def boots(self) -> int:
        supervisor = self._supervisor()
        return int(supervisor[1]["boots"]) if supervisor else 0

    @property
    def leader(self) -> int | None:
        """The host's process 1, for nspawn."""
        return groups.leader(self._groups())

    def _groups(self) -> list[Path]:
        """The host's control groups, also when its supervisor was killed before it wrote them down."""
        supervisor = self._supervisor()
        known = [Path(group) for group in supervisor[1]["groups"]] if supervisor else []
        boot = read_json(self.paths.boot)
        planned = [Path(group, self.paths.unit) for group in boot["hosting"]["groups"]] if boot else []
        return [group for group in dict.fromkeys([*known, *planned]) if group.exists()]

    def status(self) -> dict[str, Any]:
        return {
            "name": self.name, "address": self.spec.address, "kind": self.spec.kind, "image": self.spec.image,
            "state": "running" if self.running else "off", "boots": self.boots, "cut": self.paths.cut.exists(),
            "snapshot": self.disk.base or FRESH, "snapshots": self.disk.names(),
        }  # fmt: skip

    # --- power ---

    def prepare(self) -> None:
        """Clears what an interrupted command left of a host that is off, and writes its own files."""
        self._end()
        self.paths.directory.mkdir(parents=True, exist_ok=True)
        self.disk.repair()
        self.disk.unmount()
        seed.plant(self.lab, self.spec, self.paths)

    def power_on(self, image: Image, hosting: Hosting) -> None:
        """Starts a prepared host; `wait` afterwards."""
        edge = self.spec.pretend
        pretended = (str(pretend.build(edge, self.paths.lab.pretended)),) if edge else ()
        self.disk.mount(image, (*pretended, *self.spec.layers))
        write_json(self.paths.spec, self.spec.to_dict())
        write_json(self.paths.boot, {
            "lab": self.lab.to_dict(), "host": self.spec.to_dict(), "hosting": asdict(hosting),
            "command": self._command(image), "environment": self._environment(hosting),
        })  # fmt: skip
        self._start(hosting)

    def _command(self, image: Image) -> list[str]:
        if self.spec.kind == "qemu":
            return guest.command(self.lab, self.spec, self.paths, image)
        binds = [
            f"--bind{'-ro' if bind.read_only else ''}="
            + ":".join(p.replace(":", "\\:") for p in (bind.source, bind.target))
            for bind in self.spec.binds
        ]
        namespace = network.NAMESPACES / self.paths.namespace
        # nspawn is told the namespace and begins in it, too: the /sys that it mounts is that of where it began.
        return [
            "nsenter",
            f"--net={namespace}",
            *NSPAWN,
            f"--machine={self.paths.machine}",
            f"--hostname={self.name}",
            f"--network-namespace-path={namespace}",
            *binds,
            "-D",
            str(self.paths.root),
        ]

    @staticmethod
    def _environment(hosting: Hosting) -> dict[str, str]:
        return {
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "TERM": "dumb",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": str(hosting.hierarchy),
            "SYSTEMD_NSPAWN_TMPFS_TMP": "0",  # the host's own systemd decides where /tmp is
        }  # fmt: skip

    def _start(self, hosting: Hosting) -> None:
        supervisor = [sys.executable, "-m", "lab.supervisor", str(self.paths.lab.state), self.name]
        package = str(Path(__file__).resolve().parents[1])
        if hosting.starter == "systemd-run":
            run(["systemctl", "reset-failed", f"{self.paths.unit}.service"], check=False)
            limits = [f"--property=MemoryMax={self.spec.memory}"] if self.spec.memory else []
            limits += [f"--property=CPUQuota={int(self.spec.cpus * 100)}%"] if self.spec.cpus else []
            limits = limits if self.spec.kind == "nspawn" else []
            run([
                "systemd-run", "--quiet", f"--unit={self.paths.unit}", "--collect", "--property=Delegate=yes",
                "--property=KillMode=mixed", "--property=TasksMax=infinity", *limits, f"--setenv=PYTHONPATH={package}",
                *supervisor,
            ])  # fmt: skip
        else:
            with self.paths.console.open("ab") as console:
                subprocess.Popen(
                    supervisor, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                    cwd="/", env=os.environ | {"PYTHONPATH": package},
                )  # fmt: skip
        self._await(lambda: self.running, PATIENCE_SECONDS, "its supervisor does not start")

    def _await(self, true: Any, seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {complaint} (after {seconds:.0f} s). {self._console_end()}")
            time.sleep(0.05)

    def _console_end(self) -> str:
        try:
            lines = self.paths.console.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return "\n  ".join([f"The end of {self.paths.console}:", *(lines[-15:] or ["(empty)"])])

    def wait(self) -> str:
        """Until systemd has booted and ssh answers; systemd's word: running, degraded, or starting.

        Starting: everything is up but engines, whose units are begun only once they give a token.
        """
        deadline = time.monotonic() + BOOT_SECONDS[self.spec.kind]
        while time.monotonic() < deadline:
            if not self.running:
                raise LabError(f"{self.name} ended while it booted. {self._console_end()}")
            if self.paths.cut.exists():
                say(self.name, "booting; its cable is out, so ssh cannot tell when it is ready")
                return "unknown"
            if self._answers():
                state = self.ssh("timeout 10 systemctl is-system-running --wait", check=False).stdout.strip()
                if state == "degraded":
                    failed = self.ssh("systemctl list-units --failed --plain --no-legend", check=False).stdout
                    say(
                        self.name,
                        f"booted, but these units failed: {' '.join(line.split()[0] for line in failed.splitlines())}",
                    )
                if state in ("running", "degraded"):
                    return state
                if not state and (engines := self._only_engines_start()):
                    say(self.name, f"booted; still starting: {' '.join(engines)}")
                    return "starting"
            time.sleep(0.1)
        raise LabError(
            f"{self.name} does not answer ssh after {BOOT_SECONDS[self.spec.kind]} s. {self._console_end()}"
        )

    def _only_engines_start(self) -> list[str]:
        """The units that boot still waits for, where all of them are engines."""
        jobs = self.ssh("systemctl list-jobs --plain --no-legend", check=False).stdout.splitlines()
        running = [words[1] for words in map(str.split, jobs) if words[3:4] == ["running"]]
        return running if all(unit.startswith("sglang-") for unit in running) else []

    def _answers(self) -> bool:
        def greet() -> bool:
            with (
                contextlib.suppress(OSError),
                socket.create_connection((self.spec.address, 22), timeout=1) as peer,
            ):
                peer.settimeout(5)
                return peer.recv(4) == b"SSH-"
            return False

        return network.inside(self.paths.lab.namespace, greet)

    def power_off(self) -> None:
        """Pulls the plug: every process of the host is killed at once, its disk stays as it is."""
        self._end()

    def _end(self) -> None:
        supervisor = self._supervisor()
        if supervisor:
            supervisor[0].kill()
        mine = self._groups()
        groups.kill(mine)
        if supervisor:
            self._await(lambda: not supervisor[0].alive, PATIENCE_SECONDS, "its supervisor does not end")
        groups.remove(mine)
        clear_nspawn(self.paths.machine)
        egress.keep_attempts(self.paths)
        network.detach(self.spec, self.paths)
        drop_connections(self.paths.lab, self.spec.address)

    def shut_down(self) -> None:
        """As `systemctl poweroff` on the host; pulled after some minutes."""
        if self.running:
            self.ssh("systemctl poweroff", check=False, timeout=60)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while self.running and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.running:
                say(self.name, "does not shut down by itself; pulling the plug")
        self._end()

    def reboot(self) -> str:
        """Through the host's own systemd."""
        if not self.running:
            raise LabError(f"{self.name} is off; start it with: power-on {self.name}")
        before, identity = self.boots, self._boot_id()
        self.ssh("systemctl reboot", check=False, timeout=60)
        if self.spec.kind == "nspawn":
            self._await(
                lambda: self.boots > before or not self.running,
                PATIENCE_SECONDS,
                "does not go down to reboot",
            )
        else:
            self._await(
                lambda: self._boot_id() not in (identity, ""),
                BOOT_SECONDS["qemu"],
                "does not come back from its reboot",
            )
        drop_connections(self.paths.lab, self.spec.address)
        return self.wait()

    def _boot_id(self) -> str:
        if self.spec.kind == "nspawn":
            return ""
        return self.ssh("cat /proc/sys/kernel/random/boot_id", check=False, timeout=20).stdout.strip()

    # --- cable ---

    def cut(self) -> None:
        self.paths.cut.touch()
        if self.running:
            network.set_link(self.spec, self.paths, up=False)

    def join(self) -> None:
        self.paths.cut.unlink(missing_ok=True)
        if self.running:
            network.set_link(self.spec, self.paths, up=True)

    # --- commands ---

    def ssh(
        self, command: str, *, check: bool = True, timeout: float | None = 600, text_input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host as root."""
        try:
            done = run(
                ["ssh", "-F", self.paths.lab.ssh_config, self.name, command],
                check=False,
                timeout=timeout,
                text_input=text_input,
            )
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess([command], 255, "", f"no answer within {timeout} s")
        if check and done.returncode != 0:
            raise LabError(
                f"{self.name}: `{command}` exited with {done.returncode}: {(done.stderr or done.stdout).strip()}"
            )
        return done

    def mounted_root(self) -> Path:
        """The host's root directory, seen from this machine; there while the host is off, too."""
        if self.spec.kind != "nspawn":
            raise LabError(
                f"{self.name} is a guest with a disk of its own; its files are reached by ssh only"
            )
        if not self.disk.mounted():
            raise LabError(f"{self.name} has not been booted; start it with: power-on {self.name}")
        return self.paths.root

    def attempts(self) -> int:
        """How often the host wanted to send where no route leads."""
        counts = None
        if self.spec.kind == "qemu" and self.running:
            counts = self.ssh("cat /proc/net/snmp; echo ---; cat /proc/net/snmp6", check=False).stdout
        return egress.attempts(self.paths, counts)

    def forget(self) -> None:
        """Ends the host and removes all that it had."""
        self._end()
        self.disk.unmount()
        remove_tree(self.paths.directory)


def clear_nspawn(machine: str) -> None:
    """What systemd-nspawn keeps about a host, and leaves behind when it is killed: a newer one would
    then refuse to start the host again."""
    for path in Path("/run/systemd/nspawn").glob(f"*/{machine}"):
        run(["umount", "--lazy", path], check=False)
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def drop_connections(paths: LabPaths, address: str = "") -> None:
    """Ends ssh's shared connections to a host that is gone: they would be used again, in vain."""
    for control in paths.control.glob(f"{address}-*" if address else "*"):
        run(
            ["ssh", "-F", "/dev/null", "-o", f"ControlPath={control}", "-O", "exit", "lab"],
            check=False,
            timeout=10,
        )
        control.unlink(missing_ok=True)


def tool_path() -> Path:
    """The command, for ssh configurations; of an installed collection too."""
    return REPOSITORY / "tools" / "lab"
