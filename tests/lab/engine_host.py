# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with two instances: `tiny` is the real engine, `toy` a stand-in for faults that would take it minutes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.case import Inputs
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.service.application import units
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import files_host as weights_files
from ansible_collections.baremetal.sglang.plugins.module_utils.weights import manifest as weights_manifest
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files
from ansible_collections.baremetal.sglang.tools.make_tiny_model import make_files

from .conftest import REPOSITORY, copy_readable
from .whole_environment import whole_environment

REAL, FAKE = "/opt/sglang/envs/real", "/opt/sglang/envs/fake"
STAND_IN = "/opt/sglang/stand-in"
# How long a state is waited for, in seconds: a busy machine is no failure.
PATIENCE = 900
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"name": role, "ansible.builtin.include_role": {"name": f"baremetal.sglang.{role}"},
             "when": f"'{role}' in roles"}
            for role in ("host", "engine", "verify", "health")
        ],
    }
]  # fmt: skip


def make_plan(host: str, **serve: Any) -> dict[str, Any]:
    data_files = load_data_files([])
    assert not data_files.refusals
    facts = HostFacts.from_dict(
        {"os": "debian-12", "arch": "x86_64", "memory_gib": 20},
        host,
        hardware=data_files.catalogues.hardware,
        systems=data_files.systems["operating_systems"],
        driver_cuda=data_files.systems["driver_cuda"],
    )
    result = plan_inventory(
        Inputs(
            facts={host: facts},
            catalogues=data_files.catalogues,
            policy=data_files.policy,
            risks=data_files.risks,
            engines=data_files.engines,
            systems=data_files.systems["operating_systems"],
        ),
        {
            name: {
                "model": "glm-4.7-tiny",
                "hosts": [host],
                "device": "cpu",
                "port": port,
                **serve.get(name, {}),
            }
            for name, port in (("tiny", 30000), ("toy", 30100))
        },
    )
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    plan: dict[str, Any] = result.plans[host].to_dict()
    for name, place in (("tiny", REAL), ("toy", FAKE)):
        instance = plan["instances"][name]
        before = instance["environment"]["path"]
        instance["environment"]["path"] = place
        for variable in instance["environment_variables"]:
            variable["value"] = variable["value"].replace(before, place)
    return json.loads(json.dumps(plan))  # type: ignore[no-any-return]


def without_stand_in(plan: dict[str, Any]) -> dict[str, Any]:
    return plan | {"instances": {"tiny": plan["instances"]["tiny"]}}


def real_environment(folder: Path) -> list[dict[str, Any]]:
    """Binds that together are the environment; its Python is the host's."""
    env = folder / "real"
    (env / "bin").mkdir(parents=True)
    (env / "lib").mkdir()
    (env / "bin/python").symlink_to("/usr/bin/python3.11")
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    lib = whole_environment(folder / "whole") / "lib"
    return [
        {"source": str(env), "target": REAL, "read_only": True},
        {"source": str(lib), "target": f"{REAL}/lib", "read_only": True},
    ]


def fake_environment(folder: Path) -> dict[str, Any]:
    env = folder / "fake"
    package = env / "lib/python3.11/site-packages/sglang"
    package.mkdir(parents=True)
    (env / "bin").mkdir()
    (env / "bin/python").symlink_to("/usr/bin/python3.11")
    (env / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11\n")
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).with_name("fake_engine.py"), package / "launch_server.py")
    return {"source": str(env), "target": FAKE, "read_only": True}


def publish_weights(folder: Path) -> None:
    folder.mkdir(parents=True)
    entries = []
    for name, data in make_files(0).items():
        (folder / name).write_bytes(data)
        digests = weights_files.digests_of(str(folder / name))
        entries.append({"path": name, "size": digests.size, "sha256": digests.sha256})
    manifest = weights_manifest.build("glm-4.7-tiny", "local", {}, entries, {})
    text = weights_manifest.to_text(manifest)
    (folder / ".weights.json").write_text(text)
    times = weights_files.times_of(str(folder), manifest)
    stamp = {"manifest": hashlib.sha256(text.encode()).hexdigest(), "times": times, "damaged": []}
    (folder / ".published.json").write_text(json.dumps(stamp))


@dataclass
class EngineHost:
    lab: Any
    inventory: Path
    plan: dict[str, Any]
    launch: str = ""

    def ssh(self, command: str, check: bool = True, timeout: float = 3600) -> str:
        return str(self.lab.host("e1").ssh(command, check=check, timeout=timeout).stdout).strip()

    def root(self) -> Path:
        return Path(self.lab.paths.host("e1").root)

    def play(self, roles: str, *words: str, plan: dict[str, Any] | None = None, **said: Any) -> Any:
        playbook, variables = self.inventory.with_name("play.yml"), self.inventory.with_name("said.json")
        playbook.write_text(yaml.safe_dump(PLAY), encoding="utf-8")
        given = {"plan_of_host": without_stand_in(plan or self.plan), "roles": roles.split(), **said}
        variables.write_text(json.dumps(given), encoding="utf-8")
        return subprocess.run(
            [Path(sys.prefix) / "bin/ansible-playbook", "-i", self.inventory, playbook, "-e", f"@{variables}", *words],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_FAILED_STDERR": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )  # fmt: skip

    def tasks(self, tasks: list[dict[str, Any]]) -> str:
        playbook = self.inventory.with_name("tasks.yml")
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        done = subprocess.run(
            [Path(sys.prefix) / "bin/ansible-playbook", "-i", self.inventory, playbook],
            cwd=REPOSITORY, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, timeout=3600, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def show(self, name: str, *properties: str) -> dict[str, str]:
        text = self.ssh(f"systemctl show sglang-{name} --property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def status(self, name: str) -> str:
        return self.show(name, "StatusText")["StatusText"]

    def until(self, name: str, state: str, seconds: float = PATIENCE, main_not: str = "") -> float:
        """Seconds until the unit is in that state, with another main process than that one."""
        begun = time.monotonic()
        while True:
            found = self.show(name, "ActiveState", "MainPID")
            if found["ActiveState"] == state and found["MainPID"] != (main_not or "none"):
                return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, (
                f"sglang-{name} is not {state} but {found}\n"
                + self.ssh(f"systemctl status -n 40 sglang-{name}", False)
            )
            time.sleep(0.3)

    def until_status(self, name: str, part: str, seconds: float = PATIENCE) -> str:
        end = time.monotonic() + seconds
        while part not in (said := self.status(name)):
            assert time.monotonic() < end, f"the status is not {part!r} but {said!r}\n" + self.ssh(
                f"journalctl -u sglang-{name} -n 40", False
            )
            time.sleep(0.2)
        return said

    def install_stand_in(self) -> None:
        """Unit, launcher and launch.json as the role lays them down, in a place of its own: it speaks no OpenAI API."""
        (unit,) = [unit for unit in units(Plan.from_dict(self.plan)) if unit["name"] == "toy"]
        unit = json.loads(json.dumps(unit).replace("/opt/sglang/current", STAND_IN))
        place = self.root() / STAND_IN.lstrip("/")
        (place / "toy").mkdir(parents=True)
        (place / "toy/env").symlink_to(FAKE)
        self.launch = json.dumps(unit["launch"])
        role = REPOSITORY / "roles/engine"
        copy_readable(role / "files/launcher", place / "launcher")
        template = (role / "templates/sglang.service.j2").read_text()
        text = jinja2.Environment(trim_blocks=True).from_string(template).render(engine_unit=unit)
        (self.root() / "etc/systemd/system/sglang-toy.service").write_text(text + "\n")
        self.ssh("systemctl daemon-reload")

    def amend(self, **sections: Any) -> None:
        """Changes what the stand-in's launch.json says."""
        launch = json.loads(self.launch)
        for key, value in sections.items():
            launch[key].update(value)
        (self.root() / STAND_IN.lstrip("/") / "toy/launch.json").write_text(json.dumps(launch))

    def behave(self, **how: Any) -> None:
        path = "/var/lib/sglang/toy/behave.json"
        self.ssh(f"cat >{path} <<'END'\n{json.dumps(how)}\nEND\nchmod 644 {path}")

    def fresh(self, **how: Any) -> None:
        """The stand-in serves, with no failures remembered."""
        self.ssh(
            "systemctl stop sglang-toy; rm -f /var/lib/sglang/toy/starts.json; systemctl reset-failed sglang-toy || true"
        )
        self.amend()
        self.behave(**how)

    def processes(self, name: str) -> dict[int, str]:
        """All that the unit's control group holds."""
        group = self.show(name, "ControlGroup")["ControlGroup"]
        text = self.ssh(
            f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs 2>/dev/null"
            " | sort -u | xargs -r ps -o pid=,args= -p",
            check=False,
        )
        return {int(line.split()[0]): line.split(maxsplit=1)[1] for line in text.splitlines()}

    def process(self, name: str, part: str) -> int:
        found = [pid for pid, words in self.processes(name).items() if part in words]
        assert found, self.processes(name)
        return found[0]
