# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch carried out on a host: written down first, done in an order that a power cut may end anywhere."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..facts.host import RunCommand
from ..service.application import STANDBY
from ..service.folders_host import remove_tree
from ..service.serving_host import NotServingError, Question, Watch, healthy, unit_state
from ..weights.folder_host import look
from . import folder_host as folder
from . import standby_host as standbys
from . import switching
from .driver_host import unfit_drivers
from .members import Member, Release
from .switching import Found, Record, Switch, Unfinished, Unit

RECORD = ".switches.json"
LOCK = ".lock"
CARRIED = "carried"
"""Where archives of JIT caches pass through; there only after a run that was cut off."""
ENABLED = ("enabled", "enabled-runtime")


class SwitchError(Exception):
    """A switch that did not end in tokens, with all that a person needs to know."""


class NeitherServesError(SwitchError):
    """The release before gives no tokens any more either."""


@dataclass
class Outcome:
    switch: Switch
    lines: list[str]
    answers: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """From the first stop to the last token."""


@dataclass
class Host:
    run: RunCommand
    root: str = "/opt/sglang"
    units: str = "/etc/systemd/system"
    passing_units: str = "/run/systemd/system"
    """Where units lie that no boot brings back."""
    driver: str = "/proc/driver/nvidia/version"
    timeout: float = 0.0
    token_timeout: float = 300.0
    prompt: str = "Say hi in one short sentence."
    max_tokens: int = 48
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    is_healthy: Callable[[str, str], bool] = healthy

    @property
    def releases(self) -> str:
        return os.path.join(self.root, "releases")

    @property
    def lock(self) -> str:
        return os.path.join(self.releases, LOCK)

    @property
    def probe(self) -> str:
        return os.path.join(self.root, "probe.py")

    def current(self) -> str:
        try:
            return os.path.basename(os.readlink(os.path.join(self.root, "current")))
        except OSError:
            return ""

    # --- what is there ---

    def found(self) -> Found:
        releases = folder.listed(self.releases)
        units = {}
        for release in releases.values():
            for member in release.members.values():
                unit = self.unit(member.unit)
                if unit:
                    units[member.unit] = unit
        return Found(self.current(), releases, units, self.record())

    def unit(self, name: str) -> Unit | None:
        try:
            with open(os.path.join(self.units, name), encoding="utf-8") as stream:
                text = stream.read()
        except (OSError, ValueError):
            return None
        state = unit_state(self.run, name)
        return Unit(text, state.get("UnitFileState") in ENABLED, state.get("ActiveState", ""))

    def record(self) -> Record:
        try:
            with open(os.path.join(self.releases, RECORD), encoding="utf-8") as stream:
                said = json.load(stream)
            cut_off = said.get("unfinished")
            unfinished = Unfinished(**{**cut_off, "units": tuple(cut_off["units"])}) if cut_off else None
            return Record(tuple(said["served"]), unfinished, dict(said.get("failed") or {}))
        except (OSError, ValueError, KeyError, TypeError):
            # A host that was made before switches were written down served what is current.
            return Record(tuple(filter(None, [self.current()])))

    def keep(self, record: Record) -> None:
        text = json.dumps(asdict(record), indent=2, sort_keys=True)
        folder.write(os.path.join(self.releases, RECORD), text + "\n")

    def now(self) -> str:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.clock()))

    # --- prepared ---

    def prepare(self, wanted: folder.Wanted) -> None:
        """Beside what serves. Where it is what serves, its instances restart at the switch that follows."""
        name = os.path.basename(wanted.folder)
        before = folder.read(wanted.folder) if name == self.current() else None
        if before is None:
            folder.lay_down(wanted)
            return
        record = self.record()
        cut_off = record.unfinished or Unfinished(name, "", (), self.now())
        units = {member.unit for member in before.members.values()}
        self.keep(Record(record.served, _with(cut_off, units), record.failed))
        folder.lay_down(wanted)
        after = folder.read(wanted.folder)
        same = {
            member.unit
            for member in (after.members.values() if after else ())
            if after and before.proofs.get(member.name) == after.proofs[member.name]
        }
        units = set(cut_off.units) | (units - same)
        unfinished = _with(Unfinished(cut_off.to, cut_off.back, (), cut_off.since), units)
        self.keep(Record(record.served, unfinished if units or record.unfinished else None, record.failed))

    # --- switched ---

    def lacking(self, release: Release, live: Release | None) -> list[str]:
        """What the release leads to and is gone: `path: what is wrong`."""
        found = unfit_drivers(release.plan, self.driver)
        for name, member in sorted(release.members.items()):
            environment = folder.target(release, name, "env")
            weights = folder.target(release, name, "weights")
            if not os.access(os.path.join(environment, "bin", "python"), os.X_OK):
                found.append(f"{environment}: the environment of {name} is gone")
            if not release.text_of(member.unit):
                found.append(f"{release.folder}/{folder.UNITS}/{member.unit}: the unit of {name} is gone")
            if live and name in live.members and folder.target(live, name, "weights") == weights:
                continue
            seen = look(weights)
            if seen["state"] in ("absent", "damaged") or not os.path.isdir(weights):
                damage = "; ".join(map(str, seen["damage"][:3])) or "not there"
                found.append(f"{weights}: the weights of {name}: {damage}")
        return found

    def switch(self, found: Found, decided: Switch) -> Outcome:
        """To a release that serves tokens, or back to the one before."""
        lines = self.words(found, decided)
        try:
            outcome = self.relieved(found, decided, lines) if decided.changes else Outcome(decided, lines)
        except NeitherServesError:
            # What took the requests meanwhile is all that answers; the next switch ends it.
            raise
        except BaseException:
            standbys.end(self)
            raise
        standbys.end(self)
        return outcome

    def relieved(self, found: Found, decided: Switch, lines: list[str]) -> Outcome:
        try:
            standbys.begin(self, found, decided)
        except (NotServingError, OSError) as error:
            failed = {"release": decided.to, "why": str(error), "when": self.now()}
            self.keep(Record(found.record.served, found.record.unfinished, failed))
            raise SwitchError(
                f"release {decided.to} does not serve beside what serves now: {error}\nNothing was stopped or changed; "
                "standby: false tries it without."
            ) from error
        try:
            self.stage(found, decided)
        except OSError as error:
            for name in decided.write:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.units, f".{name}"))
            raise SwitchError(f"release {decided.to}: {error}. Nothing was stopped or changed.") from error
        began = self.clock()
        try:
            answers = self.carry_out(found, decided, began)
        except (NotServingError, OSError) as error:
            raise self.go_back(found, decided, error) from error
        self.keep(switching.after_success(found.record, decided.to))
        return Outcome(decided, lines, answers, round(self.clock() - began, 1))

    def words(self, found: Found, decided: Switch) -> list[str]:
        live, wanted = found.releases.get(found.current), found.releases[decided.to]
        return switching.words(found, decided, live.plan if live else None, wanted.plan)

    def stage(self, found: Found, decided: Switch) -> None:
        """All that can lack room is written before anything stops; then what is about to happen."""
        for name in decided.write:
            folder.write(os.path.join(self.units, f".{name}"), found.releases[decided.to].text_of(name))
        record = found.record
        cut_off = record.unfinished or Unfinished(decided.to, decided.back, (), self.now())
        journal = Unfinished(decided.to, decided.back or cut_off.back, (), cut_off.since)
        units = {*cut_off.units, *decided.touched, *decided.remove}
        self.keep(Record(record.served, _with(journal, units), record.failed))

    def carry_out(self, found: Found, decided: Switch, began: float) -> dict[str, Any]:
        self.flip(found, decided)
        return self.tokens(found.releases[decided.to], decided, began)

    def flip(self, found: Found, decided: Switch) -> None:
        """Old units end by their own rules, so files change only when they have stopped."""
        release = found.releases[decided.to]
        self.systemctl("stop", *decided.stop)
        self.systemctl("disable", *decided.remove)
        for name in decided.remove:
            os.unlink(os.path.join(self.units, name))
        for name in decided.write:
            os.rename(os.path.join(self.units, f".{name}"), os.path.join(self.units, name))
        folder.sync_folder(self.units)
        if decided.flip:
            folder.write_link(os.path.join(self.root, "current"), release.folder)
        if decided.write or decided.remove:
            self.systemctl("daemon-reload")
        self.systemctl("enable", *decided.enable)
        if decided.start:
            self.run(["systemctl", "reset-failed", *decided.start])
            self.systemctl("start", "--no-block", *decided.start)

    def tokens(self, release: Release, decided: Switch, since: float) -> dict[str, Any]:
        asked = [
            self.question(release, name)
            for name, member in sorted(release.members.items())
            if decided.settle or member.unit in decided.start
        ]
        watch = Watch(self.run, self.timeout, sleep=self.sleep, is_healthy=self.is_healthy, since=since)
        return watch.all(asked, fresh=decided.start)

    def question(self, release: Release, name: str) -> Question:
        member = release.members[name]
        asked = self.question_at(os.path.join(release.folder, name), member.unit, member.port, member)
        return asked if member.rank == 0 else replace(asked, command=())

    def question_at(self, place: str, unit: str, port: int, member: Member) -> Question:
        address = f"http://127.0.0.1:{port}"
        words = [os.path.join(place, "env/bin/python"), self.probe, "--base-url", address]
        words += ["--model", member.serves, "--prompt", self.prompt]
        words += ["--alive", member.alive, "--token", member.token]
        words += ["--max-tokens", str(self.max_tokens), "--timeout", str(self.token_timeout)]
        return Question(unit, address, tuple(words), member.alive)

    def go_back(self, found: Found, decided: Switch, error: Exception) -> SwitchError:
        """What served before serves again, what the new release alone brought is gone; the whole story to raise."""
        failed = {"release": decided.to, "why": str(error), "when": self.now()}
        story = f"release {decided.to} does not serve: {error}"
        if not decided.back:
            self.keep(switching.after_failure(found.record, decided.to, "", failed))
            return SwitchError(f"{story}\n{switching.stays_words(found, decided.to)}")
        began = self.clock()
        now = self.found()
        back = switching.decide(now, decided.back)
        try:
            for name in back.write:
                folder.write(os.path.join(self.units, f".{name}"), now.releases[back.to].text_of(name))
            self.carry_out(now, back, began)
        except (NotServingError, OSError) as again:
            self.keep(Record(now.record.served, now.record.unfinished, failed))
            story += f"\nRelease {decided.back} was put back and does not serve either: {again}"
            for path in standbys.there(self):
                story += f"\n{os.path.basename(path)} goes on answering in its place until the next switch."
            return NeitherServesError(story)
        self.keep(switching.after_failure(found.record, decided.to, decided.back, failed))
        return SwitchError(
            f"{story}\nBack on release {decided.back}: {', '.join(back.start) or 'nothing had stopped'} "
            f"gave a token again after {self.clock() - began:.1f} s."
        )

    # --- together with other hosts: each step is done on all of them before the next one ---

    def begin(self, found: Found, decided: Switch) -> None:
        """Everything but the proof; the journal stays open until the hosts have agreed."""
        if not decided.changes:
            return
        try:
            self.stage(found, decided)
            self.flip(found, decided)
        except OSError as error:
            raise SwitchError(f"release {decided.to}: {error}") from error

    def prove(self, found: Found) -> dict[str, Any]:
        """A token from each instance that this switch started; nothing where none is under way."""
        cut_off = found.record.unfinished
        if cut_off is None:
            return {}
        release = found.releases[cut_off.to]
        asked = [
            self.question(release, name)
            for name, member in sorted(release.members.items())
            if member.unit in cut_off.units
        ]
        watch = Watch(self.run, self.timeout, sleep=self.sleep, is_healthy=self.is_healthy)
        try:
            return watch.all(asked, fresh=cut_off.units)
        except (NotServingError, OSError) as error:
            raise SwitchError(f"release {cut_off.to} does not serve: {error}") from error

    def settle(self, found: Found) -> bool:
        """All hosts serve: the journal is closed. A return keeps what it says of the release that failed."""
        cut_off = found.record.unfinished
        if cut_off is None:
            return False
        record = switching.after_success(found.record, cut_off.to)
        returned = not cut_off.back and found.record.failed.get("when") == cut_off.since
        self.keep(Record(record.served, None, found.record.failed if returned else {}))
        return True

    def give_back(self, found: Found, why: str) -> str:
        """The release before is started again, whatever the new one does here; where there is none, nothing."""
        cut_off = found.record.unfinished
        if cut_off is None:
            return ""
        failed = {"release": cut_off.to, "why": why, "when": self.now()}
        record = switching.after_failure(found.record, cut_off.to, cut_off.back, failed)
        if not cut_off.back:
            self.keep(record)
            return ""
        back = switching.decide(found, cut_off.back, cut_off.units)
        units = {*cut_off.units, *back.touched, *back.remove}
        for name in back.write:
            folder.write(os.path.join(self.units, f".{name}"), found.releases[back.to].text_of(name))
        journal = Unfinished(back.to, "", (), failed["when"])
        self.keep(Record(record.served, _with(journal, units), failed))
        self.flip(found, back)
        return back.to

    def systemctl(self, verb: str, *words: str) -> None:
        if not words and verb != "daemon-reload":
            return
        status, _unused, err = self.run(["systemctl", verb, *words])
        if status:
            raise OSError(f"systemctl {verb} {' '.join(words)}: {str(err).strip()}")

    # --- pruned ---

    def prune(self, keep: int, dry: bool) -> list[str]:
        going = [os.path.join(self.releases, name) for name in switching.superfluous(self.found(), keep)]
        going += folder.left_over(self.releases)
        for path in () if dry else going:
            away = path if path.endswith(folder.PARTIAL) else path + folder.PARTIAL
            if away != path:
                os.rename(path, away)
            shutil.rmtree(away)
        return going

    # --- removed ---

    def remains(self, extra: Collection[str]) -> list[str]:
        """All of ours that is there: unit files, then folders."""
        names = {os.path.basename(path) for path in glob.glob(os.path.join(self.units, "sglang-*.service*"))}
        ours = {m.unit for release in folder.listed(self.releases).values() for m in release.members.values()}
        units = sorted(os.path.join(self.units, name) for name in names if name.removesuffix(".d") in ours)
        folders = [
            os.path.join(self.root, name) for name in ("current", STANDBY, "probe.py", "releases", CARRIED)
        ]
        return units + standbys.there(self) + [path for path in [*folders, *extra] if os.path.lexists(path)]

    def remove(self, paths: Collection[str]) -> None:
        units = [os.path.basename(path) for path in paths if path.endswith(".service")]
        for verb in ("stop", "disable"):
            self.systemctl(verb, *units)
        for path in paths:
            remove_tree(path)
        self.systemctl("daemon-reload")
        if units:
            self.run(["systemctl", "reset-failed", *units])
        if os.path.isdir(self.root) and not os.listdir(self.root):
            os.rmdir(self.root)


def _with(journal: Unfinished, units: Collection[str]) -> Unfinished:
    return Unfinished(journal.to, journal.back, tuple(sorted(units)), journal.since)
