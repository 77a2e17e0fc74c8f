# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole lab: brings its hosts up together, repairs what was interrupted, leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import egress, groups, images, inventory, network, preflight, seed
from .host import Host, clear_nspawn, drop_connections, tool_path
from .machine import decide, read_machine
from .paths import PREFIX, REGISTRY, REPOSITORY, LabPaths, labs_directory
from .problems import LabError, did_you_mean, say
from .processes import read_json, remove_tree, write_json
from .spec import DEFAULT_NAME, LabSpec

DISK_KEYS = ("image", "kind", "layers", "pretend")
MARKER = ".lab"


class Lab:
    """`Lab(spec)` describes one, `Lab.open(name)` finds one that is up."""

    def __init__(self, spec: LabSpec, paths: LabPaths | None = None) -> None:
        self.spec = spec
        self.paths = paths or LabPaths(labs_directory() / spec.name)
        self.hosts = {host.name: Host(spec, host, self.paths.host(host.name)) for host in spec.hosts}

    @classmethod
    def from_inventory(cls, path: Path, name: str | None = None) -> Lab:
        return cls(inventory.read(path, name))

    @classmethod
    def open(cls, name: str = DEFAULT_NAME) -> Lab:
        paths = LabPaths(labs_directory() / name)
        registered = read_json(paths.registry)
        if registered:
            paths = LabPaths(Path(registered["state"]))
        spec = read_json(paths.spec)
        if spec is None:
            raise LabError(
                f"The lab '{name}' is not up. Start it: tools/lab -i INVENTORY up   (`tools/lab list` shows what is up)"
            )
        return cls(LabSpec.from_dict(spec), paths)

    def host(self, name: str) -> Host:
        if name not in self.hosts:
            raise LabError(f"The lab '{self.spec.name}' has no host {name}; {did_you_mean(name, self.hosts)}")
        return self.hosts[name]

    # --- up and down ---

    def up(self, names: Iterable[str] = ()) -> None:
        """Boots what is not running; nothing happens to what is."""
        chosen = [self.host(name) for name in names] or list(self.hosts.values())
        preflight.require_root()
        preflight.require_debian()
        preflight.require_tools({host.spec.kind for host in chosen})
        with self.locked():
            wanted = dict.fromkeys((host.spec.image, host.spec.kind) for host in chosen)
            built = {image: images.get(*image) for image in wanted}
            needed = preflight.HOST_BYTES * sum(not host.running for host in chosen)
            preflight.require_space(self.paths.state, needed, "the hosts' own files")
            self._claim()
            self._compare(chosen)
            hosting = decide(read_machine())
            asleep = [host for host in chosen if not host.running]
            network.ensure(self.spec, self.paths)
            for host in asleep:
                host.prepare()
            self._write_access()
            for host in asleep:
                host.power_on(built[host.spec.image, host.spec.kind], hosting)
            together(chosen, lambda host: host.wait(), "is at {0.spec.address}")

    def _claim(self) -> None:
        """One lab of a name on a machine; what another clone left behind is taken away first."""
        registered = read_json(self.paths.registry)
        if registered and registered["state"] != str(self.paths.state):
            other = Path(registered["state"])
            if other.exists():
                raise LabError(
                    f"A lab '{self.spec.name}' is up already, from {other}. End it with `tools/lab --name {self.spec.name} down`, "
                    "or give this one another name with --name."
                )
            say(self.spec.name, f"removing what is left of a lab whose files were deleted ({other})")
            sweep(self.paths)
        if self.paths.state.exists() and not is_lab(self.paths.state) and any(self.paths.state.iterdir()):
            raise LabError(
                f"{self.paths.state} has files that are no lab's; give the lab another name with --name or lab_name"
            )
        self.paths.state.mkdir(parents=True, exist_ok=True)
        (self.paths.state / MARKER).touch()
        self.paths.state.chmod(0o700)
        self.paths.control.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.paths.link.unlink(missing_ok=True)
        self.paths.link.symlink_to(self.paths.state)
        seed.lab_key(self.paths)

    def _compare(self, chosen: list[Host]) -> None:
        """What changed in the inventory since the lab was last up."""
        before = read_json(self.paths.spec)
        if before and (before["subnet"], before["route"]) != (self.spec.subnet, self.spec.route):
            old = Lab(LabSpec.from_dict(before), self.paths)
            if any(host.running for host in old.hosts.values()):
                raise LabError(
                    f"lab_subnet or lab_route changed while the lab '{self.spec.name}' is up. "
                    f"End it first: tools/lab --name {self.spec.name} down"
                )
            network.remove(self.paths.namespace)
        for gone in LabSpec.from_dict(before).hosts if before else ():
            if gone.name not in self.hosts:
                say(gone.name, "is no longer in the inventory; ending it")
                Host(self.spec, gone, self.paths.host(gone.name)).forget()
        for host in chosen:
            self._compare_host(host)
        write_json(self.paths.spec, self.spec.to_dict())
        write_json(self.paths.registry, {
            "state": str(self.paths.state), "hosts": {host.name: host.spec.address for host in self.hosts.values()},
        })  # fmt: skip

    def _compare_host(self, host: Host) -> None:
        was = read_json(host.paths.spec)
        now = host.spec.to_dict() | {
            "binds": [vars(bind) for bind in host.spec.binds],
            "layers": list(host.spec.layers),
        }
        changed = sorted(key for key in now if was is not None and was.get(key) != now[key])
        if not changed:
            return
        frozen = [key for key in changed if key in DISK_KEYS]
        if frozen:
            raise LabError(
                f"{host.name}: lab.{', lab.'.join(frozen)} changed since it was first booted, and its disk was made from the "
                f"old value. Start it anew: tools/lab --name {self.spec.name} down {host.name}, then up"
            )
        say(host.name, f"restarting, because its {', '.join(changed)} changed")
        host.shut_down()

    def _write_access(self) -> None:
        seed.write_known_hosts(self.spec, self.paths)
        seed.write_ssh_config(self.spec, self.paths, tool_path())

    def down(self, names: Iterable[str] = ()) -> None:
        """Ends hosts; without names the whole lab, of which nothing is left."""
        preflight.require_root()
        chosen = [self.host(name) for name in names]
        with self.locked():
            if chosen:
                together(chosen, lambda host: host.forget(), "is gone")
                return
            together(
                [host for host in self.hosts.values() if host.paths.directory.exists()],
                lambda h: h.forget(),
                "is gone",
            )
            sweep(self.paths)

    # --- single hosts ---

    def power_on(self, name: str) -> None:
        host = self.host(name)
        with self.locked():
            self._boot(host)

    def _boot(self, host: Host) -> None:
        if not host.running:
            network.ensure(self.spec, self.paths)
            host.prepare()
            self._write_access()
            host.power_on(images.get(host.spec.image, host.spec.kind), decide(read_machine()))
        host.wait()

    def snapshot(self, name: str, snapshot: str) -> None:
        """Freezes a host's disk. One that runs is shut down for it and booted again."""
        host = self.host(name)
        with self.locked():
            host.disk.repair()
            host.disk.check_new(snapshot)
            was_running = host.running
            host.shut_down()
            host.disk.unmount()
            host.disk.freeze(snapshot)
            if was_running:
                self._boot(host)

    def reset(self, name: str, snapshot: str = "fresh") -> None:
        """Puts a host back to a snapshot, or to how it was first booted, and boots it."""
        host = self.host(name)
        with self.locked():
            host.disk.repair()
            host.disk.check_known(snapshot)
            host.power_off()
            host.disk.unmount()
            host.disk.return_to(snapshot)
            host.join()
            self._boot(host)
            host.disk.sweep()

    # --- what left ---

    def egress(self) -> dict[str, Any]:
        """What tried to leave since the lab came up, or since `mark_egress`."""
        return egress.difference(self.counts(), read_json(self.paths.egress))

    def mark_egress(self) -> None:
        write_json(self.paths.egress, self.counts())

    def counts(self) -> dict[str, Any]:
        left, tried = egress.frames(self.paths)
        attempts = {
            host.name: host.attempts() for host in self.hosts.values() if host.paths.directory.exists()
        }
        return {
            "frames": left,
            "tried": tried,
            "attempts": attempts | {egress.CONTROLLER: egress.count_in(self.paths.namespace)},
        }

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One command at a time changes a lab."""
        REGISTRY.mkdir(mode=0o700, exist_ok=True)
        while True:
            descriptor = os.open(self.paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(self.spec.name, "waiting for another command on this lab")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self.paths.lock.exists() and os.fstat(descriptor).st_ino == self.paths.lock.stat().st_ino:
                break
            os.close(descriptor)  # `down` removed it while we waited
        try:
            yield
        finally:
            if not self.paths.known.exists() and self.paths.lock.exists():
                self.paths.lock.unlink()  # refused before anything was made, or taken away
            if REGISTRY.exists() and not any(REGISTRY.iterdir()):
                REGISTRY.rmdir()
            os.close(descriptor)


def together(hosts: list[Host], work: Callable[[Host], Any], done: str) -> None:
    """The same for several hosts at once; every failure is reported, not only the first."""
    failures: list[str] = []

    def one(host: Host) -> None:
        try:
            result = work(host)
            say(host.name, done.format(host) + (f", {result}" if result else ""))
        except LabError as error:
            failures.append(str(error))

    with ThreadPoolExecutor(max_workers=max(1, min(8, len(hosts)))) as pool:
        list(pool.map(one, hosts))
    if failures:
        raise LabError("\n".join(failures))


def is_lab(directory: Path) -> bool:
    """Only what a lab made is ever taken away: others may keep files beside the labs."""
    return (directory / MARKER).exists() or (directory / "lab.json").exists()


def sweep(paths: LabPaths) -> None:
    """Takes away whatever carries the lab's name, whether or not its files still tell about it."""
    mine = f"{PREFIX}{paths.name}."
    for hierarchy in decide(read_machine()).groups or ["/sys/fs/cgroup/system.slice"]:
        found = list(Path(hierarchy).glob(f"{mine}*"))
        groups.kill(found) if found else None
        groups.remove(found)
    registered = read_json(paths.registry) or {}
    state = Path(registered.get("state", paths.state))
    drop_connections(paths)
    clear_nspawn(f"{mine}*")
    for namespace in sorted(network.NAMESPACES.glob(f"{mine}*")):
        network.remove(namespace.name)
    network.remove(paths.namespace)
    ours = bool(registered) or is_lab(state)
    for directory in (paths.known, *([state] if ours else [])):
        remove_tree(directory)
    paths.lock.unlink(missing_ok=True)
    for directory in (REGISTRY, REPOSITORY / ".lab"):
        if directory.exists() and not any(directory.iterdir()):
            directory.rmdir()


def all_labs() -> list[LabPaths]:
    """Every lab that this machine knows of: up, half torn down, or only files."""
    found = {}
    for path in REGISTRY.glob("*/"):
        registered = read_json(path / "lab.json")
        found[path.name] = LabPaths(Path(registered["state"]) if registered else labs_directory() / path.name)
    for path in labs_directory().glob("*/"):
        if is_lab(path):
            found.setdefault(path.name, LabPaths(path))
    for namespace in network.NAMESPACES.glob(f"{PREFIX}*"):
        name = namespace.name.removeprefix(PREFIX).partition(".")[0]
        found.setdefault(name, LabPaths(labs_directory() / name))
    return [found[name] for name in sorted(found)]
