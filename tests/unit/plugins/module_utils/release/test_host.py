# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch on a folder that stands in for a host, cut off after every single step."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.release import folder_host as folder
from ansible_collections.baremetal.sglang.plugins.module_utils.release import steps_host as steps
from ansible_collections.baremetal.sglang.plugins.module_utils.release.host import Host, SwitchError
from ansible_collections.baremetal.sglang.plugins.module_utils.release.members import Member
from ansible_collections.baremetal.sglang.plugins.module_utils.release.switching import decide

PORT = 30000


class PowerCutError(BaseException):
    """Nothing may handle it."""


class Systemd:
    """As much of systemd as a switch sees. A process is what its unit and its release said when it began."""

    def __init__(self, root: Path) -> None:
        self.root, self.units, self.passing = root / "opt", root / "units", root / "passing"
        self.units.mkdir(parents=True)
        self.passing.mkdir()
        self.read: dict[str, str] = {}
        """Unit files as of the last daemon-reload."""
        self.processes: dict[str, str] = {}
        self.wants: set[str] = set()
        self.begun: list[str] = []
        self.refuse: str = ""

    def run(self, args: list[str], **_options: Any) -> tuple[int, str, str]:
        if args[0] == "journalctl":
            return 0, "the server's last words\n", ""
        if args[0] != "systemctl":
            return 0, json.dumps({"ok": True, "url": args[args.index("--base-url") + 1]}), ""
        verb, names = args[1], [word for word in args[2:] if not word.startswith("-")]
        if verb == "show":
            return 0, self.shown(names[0]), ""
        for name in names or [""]:
            getattr(self, verb.replace("-", "_"))(name)
        return 0, "", ""

    def shown(self, name: str) -> str:
        state = {"": "inactive", "failed": "failed"}.get(self.processes.get(name, ""), "active")
        enabled = "enabled" if name in self.wants else "disabled"
        return (
            f"ActiveState={state}\nSubState=x\nNRestarts=0\nUnitFileState={enabled}\nJob=\nResult=exit-code\n"
        )

    def stop(self, name: str) -> None:
        self.processes.pop(name, None)

    def start(self, name: str) -> None:
        instance = name[len("sglang-") : -len(".service")]
        text = self.read.get(name) or (self.units / name).read_text()
        place = "standby" if instance.endswith("-standby") else "current"
        said = f"{text} {(self.root / place / instance / 'config').read_text()}"
        self.processes[name] = "failed" if self.refuse and self.refuse in said else said
        self.begun.append(name)

    def enable(self, name: str) -> None:
        assert (self.units / name).exists()
        self.wants.add(name)

    def disable(self, name: str) -> None:
        self.wants.discard(name)

    def daemon_reload(self, _name: str) -> None:
        paths = [*self.units.iterdir(), *self.passing.iterdir()]
        self.read = {path.name: path.read_text() for path in paths if not path.name.startswith(".")}

    def reset_failed(self, _name: str) -> None:
        pass

    def boot(self) -> None:
        self.processes, self.begun = {}, []
        for path in self.passing.iterdir():
            path.unlink()
        self.daemon_reload("")
        for name in sorted(self.wants):
            if name in self.read:
                self.start(name)


class World:
    def __init__(self, root: Path) -> None:
        self.systemd = Systemd(root)
        self.root = root / "opt"
        self.host = Host(
            self.systemd.run,
            str(self.root),
            str(self.systemd.units),
            str(self.systemd.passing),
            timeout=1,
            sleep=lambda _seconds: None,
            is_healthy=lambda _url, _path: True,
        )
        for name in ("env/bin", "weights"):
            (root / name).mkdir(parents=True)
        (root / "env/bin/python").write_text("")
        (root / "env/bin/python").chmod(0o755)
        self.base = root

    def wanted(self, name: str, **instances: str) -> folder.Wanted:
        """A setting that begins with + has a second server to take its requests."""
        files = {f"{key}/config": value for key, value in instances.items()}
        files |= {f"units/sglang-{key}.service": f"unit of {key}" for key in instances}
        plan = {"instances": {}}
        links = {f"{key}/env": str(self.base / "env") for key in instances}
        links |= {f"{key}/weights": str(self.base / "weights") for key in instances}
        for key in [key for key, value in instances.items() if value.startswith("+")]:
            files |= {
                f"standby/{key}-standby/config": instances[key],
                f"standby/sglang-{key}-standby.service": "unit",
            }
            links[f"standby/{key}-standby/env"] = str(self.base / "env")
        members = tuple(
            Member(
                key, f"sglang-{key}.service", PORT + number, key, 0,
                *((f"{key}-standby", PORT + 4000 + number) if instances[key].startswith("+") else ()),
            )
            for number, key in enumerate(sorted(instances))
        )  # fmt: skip
        return folder.Wanted(
            str(self.root / "releases" / name), {**files, "plan.json": json.dumps(plan)}, links, members
        )

    def serve(self, name: str, **instances: str) -> Any:
        """As the role does it: laid down, then switched to."""
        wanted = self.wanted(name, **instances)
        if folder.differs(wanted):
            self.host.prepare(wanted)
        found = self.host.found()
        return self.host.switch(found, decide(found, name))

    def says(self) -> dict[str, str]:
        return {name[7:-8]: said.rpartition(" ")[2] for name, said in self.systemd.processes.items()}

    def at_rest(self, name: str) -> bool:
        record = self.host.record()
        no_parts = not list(self.root.rglob("*.partial")) and not list(self.systemd.units.glob(".*"))
        return self.host.current() == name and record.unfinished is None and no_parts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    # No test can see what is on the disk and what is in memory only.
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    made = World(tmp_path)
    made.serve("A", same="1", other="1", dropped="1")
    made.systemd.begun = []
    return made


def test_the_first_and_again(world: World) -> None:
    assert world.says() == {"same": "1", "other": "1", "dropped": "1"}
    assert not world.serve("A", same="1", other="1", dropped="1").switch.changes


def test_an_upgrade_leaves_what_is_the_same(world: World) -> None:
    world.serve("B", same="1", other="2", more="1")
    assert world.says() == {"same": "1", "other": "2", "more": "1"}
    assert sorted(world.systemd.begun) == ["sglang-more.service", "sglang-other.service"]
    assert sorted(path.name for path in world.systemd.units.iterdir()) == sorted(
        f"sglang-{name}.service" for name in ("same", "other", "more")
    )
    assert world.at_rest("B")


def test_what_fails_is_taken_back(world: World) -> None:
    world.systemd.refuse = "bad"
    with pytest.raises(SwitchError) as error:
        world.serve("B", same="1", other="bad", more="1")
    said = str(error.value)
    assert "sglang-other.service: the server ended while it started" in said
    assert "the server's last words" in said
    assert "Back on release A" in said
    assert world.says() == {"same": "1", "other": "1", "dropped": "1"}
    assert "sglang-same.service" not in world.systemd.begun
    assert world.at_rest("A")
    assert world.host.record().failed["release"] == "B"


def test_neither_serves(world: World) -> None:
    world.systemd.refuse = "unit of other"
    with pytest.raises(
        SwitchError, match=r"(?s)does not serve: .*Release A was put back and does not serve either"
    ):
        world.serve("B", same="1", other="bad")
    world.systemd.refuse = ""
    world.serve("A", same="1", other="1", dropped="1")
    assert world.says() == {"same": "1", "other": "1", "dropped": "1"}
    assert world.at_rest("A")


def test_a_full_disk_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = folder.write

    def full(path: str, text: str, mode: int = 0o644) -> None:
        if path.startswith(str(world.systemd.units)):
            raise OSError(28, "No space left on device")
        real(path, text, mode)

    world.host.prepare(world.wanted("B", same="1", other="2", more="1"))
    monkeypatch.setattr(folder, "write", full)
    with pytest.raises(SwitchError, match=r"No space left on device.*Nothing was stopped or changed"):
        world.serve("B", same="1", other="2", more="1")
    assert world.says() == {"same": "1", "other": "1", "dropped": "1"}
    assert world.systemd.begun == []
    assert world.at_rest("A")


def test_what_serves_and_was_edited_is_put_right_and_restarts(world: World) -> None:
    (world.root / "releases/A/other/config").write_text("edited")
    world.serve("A", same="1", other="1", dropped="1")
    assert world.systemd.begun == ["sglang-other.service"]
    assert world.at_rest("A")


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch, systemd: Systemd) -> Callable[[], int]:
    """The power fails before the given change to the disk or to systemd."""
    count = 0

    def before(real: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*words: Any, **options: Any) -> Any:
            nonlocal count
            if count == step:
                raise PowerCutError
            count += 1
            return real(*words, **options)

        return changed

    for name in ("rename", "unlink", "symlink", "mkdir"):
        monkeypatch.setattr(os, name, before(getattr(os, name)))
    for name in ("stop", "start", "enable", "disable", "daemon_reload"):
        monkeypatch.setattr(systemd, name, before(getattr(systemd, name)))
    return lambda: count


STEPS = range(90)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("outcome", ["serves", "fails"])
def test_the_power_fails_at_every_step_and_the_next_run_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, step: int, outcome: str
) -> None:
    world.systemd.refuse = "" if outcome == "serves" else "bad"
    new = {"same": "1", "other": "2" if outcome == "serves" else "bad", "more": "1"}
    with monkeypatch.context() as patched:
        cut_at(step, patched, world.systemd)
        try:
            world.serve("B", **new)
        except (PowerCutError, SwitchError) as error:
            over = isinstance(error, SwitchError)
        else:
            over = True
    if step == STEPS[-1]:
        assert over, "more steps than the table has"
    world.systemd.boot()
    # Whatever boots is one of the two, never a mixture of unit and release.
    current = world.host.current()
    assert current in ("A", "B")
    expected = {"A": {"same": "1", "other": "1", "dropped": "1"}, "B": new}[current]
    assert set(world.says().items()) <= set(expected.items()) | {
        ("other", "unit of other failed"),
        ("other", "failed"),
    }
    if outcome == "serves":
        world.serve("B", **new)
        assert world.says() == new
        assert world.at_rest("B")
    else:
        with pytest.raises(SwitchError):
            world.serve("B", **new)
        assert world.says() == {"same": "1", "other": "1", "dropped": "1"}
        assert world.at_rest("A")


# --- with a second server that takes the requests meanwhile ---


def relieved(world: World) -> None:
    world.serve("A", same="1", other="+1", dropped="1")
    world.systemd.begun = []


def test_a_second_server_takes_the_requests_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    relieved(world)
    seen = []
    stop = world.systemd.stop

    def stopped(name: str) -> None:
        seen.append((name, sorted(world.says().items())))
        stop(name)

    monkeypatch.setattr(world.systemd, "stop", stopped)
    world.serve("B", same="1", other="+2", dropped="1")
    begun = [name for name in world.systemd.begun if "other" in name]
    assert begun == ["sglang-other-standby.service", "sglang-other.service"]
    # What is stopped first has a second one beside it that serves the new release already, and the other way round.
    (first, before), (second, after) = [entry for entry in seen if "other" in entry[0]]
    assert first == "sglang-other.service" and ("other-standby", "+2") in before and ("other", "+1") in before
    assert second == "sglang-other-standby.service" and ("other", "+2") in after
    assert world.says() == {"same": "1", "other": "+2", "dropped": "1"}
    assert list(world.systemd.passing.iterdir()) == [] and not (world.root / "standby").exists()
    assert world.at_rest("B")


def test_what_does_not_serve_beside_the_old_one_stops_nothing(world: World) -> None:
    relieved(world)
    world.systemd.refuse = "bad"
    with pytest.raises(SwitchError, match=r"(?s)does not serve beside what serves now.*Nothing was stopped"):
        world.serve("B", same="1", other="+bad", dropped="1")
    assert world.says() == {"same": "1", "other": "+1", "dropped": "1"}
    assert world.systemd.begun == ["sglang-other-standby.service"]
    assert world.host.record().failed["release"] == "B" and world.at_rest("A")
    assert list(world.systemd.passing.iterdir()) == [] and not (world.root / "standby").exists()


def test_where_neither_serves_the_second_server_goes_on_until_the_next_switch(world: World) -> None:
    relieved(world)
    world.systemd.refuse = "unit of other"
    with pytest.raises(SwitchError, match=r"sglang-other-standby\.service goes on answering in its place"):
        world.serve("B", same="1", other="+2", dropped="1")
    assert world.says()["other-standby"] == "+2"
    world.systemd.refuse = ""
    world.serve("B", same="1", other="+2", dropped="1")
    assert world.says() == {"same": "1", "other": "+2", "dropped": "1"}
    assert list(world.systemd.passing.iterdir()) == [] and not (world.root / "standby").exists()


@pytest.mark.parametrize("step", STEPS)
def test_a_switch_with_a_second_server_that_was_cut_off_is_ended_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    relieved(world)
    new = {"same": "1", "other": "+2", "dropped": "1"}
    with monkeypatch.context() as patched:
        cut_at(step, patched, world.systemd)
        with contextlib.suppress(PowerCutError):
            world.serve("B", **new)
    # The run alone was killed where the number is odd; else the host lost its power.
    if step % 2 == 0:
        world.systemd.boot()
    world.serve("B", **new)
    assert world.says() == new
    assert list(world.systemd.passing.iterdir()) == [] and not (world.root / "standby").exists()
    assert world.at_rest("B")


# --- together with other hosts ---


def begin(world: World, name: str, **instances: str) -> None:
    wanted = world.wanted(name, **instances)
    if folder.differs(wanted):
        world.host.prepare(wanted)
    found = world.host.found()
    world.host.begin(found, decide(found, name))


def test_a_switch_in_steps_ends_as_one_in_one_piece(world: World) -> None:
    world.serve("r1", a="1")
    begin(world, "r2", a="2")
    assert world.says() == {"a": "2"}
    assert world.host.record().unfinished is not None
    assert steps.verify(world.host)["report"] == ["sglang-a.service: serves"]
    assert steps.commit(world.host, 3, False)["changed"]
    assert world.at_rest("r2")
    assert world.host.record().served[-2:] == ("r1", "r2")
    # Nothing is under way: nothing happens.
    assert not steps.commit(world.host, 3, False)["changed"]
    assert steps.verify(world.host)["report"] == []
    assert steps.roll_back(world.host, "x")["changed"] is False


def test_a_host_that_serves_goes_back_because_another_does_not(world: World) -> None:
    world.serve("r1", a="1")
    begin(world, "r2", a="2")
    steps.verify(world.host)
    assert steps.roll_back(world.host, "b: no token")["report"] == ["back on release r1"]
    assert world.says() == {"a": "1"}
    steps.verify(world.host)
    steps.commit(world.host, 3, False)
    assert world.at_rest("r1")
    record = world.host.record()
    assert record.served[-1] == "r1"
    assert (record.failed["release"], record.failed["why"]) == ("r2", "b: no token")
    # The next good switch forgets it.
    begin(world, "r3", a="3")
    steps.verify(world.host)
    steps.commit(world.host, 3, False)
    assert world.host.record().failed == {}


def test_a_first_release_that_fails_stays_and_says_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    begin(world, "r1", a="1")
    assert steps.roll_back(world.host, "b: no token")["report"] == [steps.NOTHING_BEFORE]
    assert world.host.record().failed["why"] == "b: no token"
    assert world.host.record().unfinished is None


def test_a_switch_in_steps_that_was_cut_off_is_taken_up_by_the_next_one(world: World) -> None:
    world.serve("r1", a="1")
    begin(world, "r2", a="2")
    world.systemd.begun.clear()
    begin(world, "r2", a="2")
    assert world.systemd.begun == ["sglang-a.service"]
    assert world.host.record().unfinished.back == "r1"
    steps.roll_back(world.host, "b: no token")
    steps.commit(world.host, 3, False)
    assert world.at_rest("r1")


def test_a_stop_stops_what_runs(world: World) -> None:
    world.serve("r1", a="1", b="2")
    assert steps.stopped(world.host, ["sglang-a.service"], True)["changed"]
    assert steps.stopped(world.host, ["sglang-a.service"], False)["report"] == ["sglang-a.service stops"]
    assert world.says() == {"b": "2"}
    assert not steps.stopped(world.host, ["sglang-a.service"], False)["changed"]
