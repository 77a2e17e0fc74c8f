# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that serve the tiny model together with the real engine, and a client that talks to them all the time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import HostFacts
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.case import Inputs
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.inventory import plan_inventory
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files

from .conftest import REPOSITORY, write_inventory
from .engine_host import PATIENCE, REAL, publish_weights, real_environment

WEIGHTS = "opt/sglang/weights/glm-4.7-tiny/local"
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "any_errors_fatal": True,
        "vars": {"plan_of_host": "{{ plans[inventory_hostname] }}"},
        "tasks": [
            {"name": role, "ansible.builtin.include_role": {"name": f"baremetal.sglang.{role}"}}
            for role in ("host", "firewall", "engine")
        ],
    }
]
# Runs on the first host with the library that people use; one line an answer: when it began and ended, and what came.
CLIENT = r"""
import json, sys, time
import openai
client = openai.OpenAI(base_url="http://127.0.0.1:30000/v1", api_key="none", timeout=300)
while True:
    begun = time.time()
    try:
        said = client.chat.completions.create(
            model="it", messages=[{"role": "user", "content": "Tell me about racks."}],
            temperature=0, max_tokens=12, extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
        word = {"text": (said.choices[0].message.content or "") + (getattr(said.choices[0].message, "reasoning_content", None) or "")}
    except openai.OpenAIError as error:
        word = {"error": type(error).__name__}
    except BaseException as error:
        word = {"unclean": repr(error)}
    print(json.dumps({"begun": begun, "seconds": time.time() - begun, **word}), flush=True)
    time.sleep(0.3)
"""


def plans_of(addresses: dict[str, str]) -> dict[str, Any]:
    data_files = load_data_files([])
    assert not data_files.refusals
    facts = {
        host: HostFacts.from_dict(
            {
                "os": "debian-12",
                "arch": "x86_64",
                "memory_gib": 20,
                "interfaces": [{"name": "eth0", "state": "up", "addresses": [f"{address}/24"]}],
            },
            host,
            hardware=data_files.catalogues.hardware,
            systems=data_files.systems["operating_systems"],
            driver_cuda=data_files.systems["driver_cuda"],
        )
        for host, address in addresses.items()
    }
    inputs = Inputs(
        facts=facts,
        catalogues=data_files.catalogues,
        policy=data_files.policy,
        risks=data_files.risks,
        engines=data_files.engines,
        systems=data_files.systems["operating_systems"],
    )
    cores = [str(number % (os.cpu_count() or 1)) for number in range(len(addresses))]
    wanted = {
        "it": {
            "model": "glm-4.7-tiny",
            "hosts": list(addresses),
            "device": "cpu",
            # Which core each rank takes, over all hosts: they share one machine here.
            "environment": {"SGLANG_CPU_OMP_THREADS_BIND": "|".join(cores), "OMP_NUM_THREADS": "1"},
        }
    }
    result = plan_inventory(inputs, wanted)
    assert not result.refusals, [refusal.lines() for refusal in result.refusals]
    plans = {}
    for host, plan in result.plans.items():
        text = json.dumps(plan.to_dict())
        plans[host] = json.loads(text.replace(plan.instances["it"].environment["path"], REAL))
    return plans


@dataclass
class Group:
    """Hosts of a lab that serve `it` together."""

    folder: Path
    name: str
    addresses: dict[str, str]
    changes: dict[str, Any] = field(default_factory=dict)
    """What the launcher is told otherwise than the plan says."""
    lab: Any = None
    inventory: Path = Path()

    def up(self) -> None:
        from lab import Lab

        driver = self.folder / "driver/usr/lib/x86_64-linux-gnu"
        build = REPOSITORY / "molecule/lab/stub_driver/build.py"
        subprocess.run(["/usr/bin/python3", build, driver], check=True)
        binds = real_environment(self.folder)
        self.inventory = write_inventory(
            self.folder,
            self.name,
            {
                host: {"ansible_host": address,
                       "lab": {"kind": "nspawn", "image": "debian-12", "layers": [str(self.folder / "driver")], "binds": binds}}
                for host, address in self.addresses.items()
            },
        )  # fmt: skip
        self.lab = Lab.from_inventory(self.inventory)
        self.lab.up()
        for host in self.addresses:
            publish_weights(Path(self.lab.paths.host(host).root) / WEIGHTS)

    def down(self) -> None:
        if self.lab is not None:
            self.lab.down()

    @property
    def first(self) -> str:
        return next(iter(self.addresses))

    def apply(self) -> str:
        plans = plans_of(self.addresses)
        for plan in plans.values():
            for section, said in self.changes.items():
                plan["instances"]["it"]["service"][section].update(said)
        playbook, variables = self.inventory.with_name("play.yml"), self.inventory.with_name("said.json")
        playbook.write_text(yaml.safe_dump(PLAY), encoding="utf-8")
        variables.write_text(json.dumps({"plans": plans}), encoding="utf-8")
        done = subprocess.run(
            [
                Path(sys.prefix) / "bin/ansible-playbook",
                "-i",
                self.inventory,
                playbook,
                "-e",
                f"@{variables}",
            ],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:].replace("\\n", "\n")
        return done.stdout

    def ssh(self, host: str, command: str, check: bool = False) -> str:
        return str(self.lab.host(host).ssh(command, check=check, timeout=900).stdout).strip()

    def status(self, host: str) -> tuple[str, str]:
        text = self.ssh(host, "systemctl show sglang-it -p ActiveState -p StatusText")
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return found.get("ActiveState", ""), found.get("StatusText", "")

    def generation(self) -> int:
        return int(json.loads(self.ssh(self.first, "cat /var/lib/sglang/it/group.json"))["generation"])

    def until(self, host: str, pattern: str, seconds: float = PATIENCE, state: str = "") -> float:
        begun = time.monotonic()
        while True:
            found = self.status(host)
            if re.search(pattern, found[1]) and (not state or found[0] == state):
                return time.monotonic() - begun
            assert time.monotonic() - begun < seconds, (
                f"{host} is not {pattern!r} but {found}\n{self.story()}"
            )
            time.sleep(0.3)

    def serving(self, generation: int, seconds: float = PATIENCE) -> float:
        begun = time.monotonic()
        for host in self.addresses:
            pattern = rf"generation {generation}, {len(self.addresses)} of {len(self.addresses)} members"
            self.until(host, pattern, seconds, "active")
        return time.monotonic() - begun

    def story(self) -> str:
        return "\n".join(
            f"== {host}\n" + self.ssh(host, "journalctl -u sglang-it -n 40 -o cat") for host in self.addresses
        )

    def process(self, host: str, words: str) -> int:
        return int(self.ssh(host, f"pgrep -o -u sglang -f '{words}'", check=True))

    def stop(self) -> None:
        for host in reversed(self.addresses):
            self.ssh(host, "systemctl stop sglang-it")

    def left_over(self) -> dict[str, str]:
        """What is there of the engine while its units are down: processes, ports, segments, mounts."""
        look = (
            "pgrep -l -u sglang; ss -Htln '( sport = :30000 or sport = :31000 or sport = :32000 or sport = :33000 )';"
            "find /dev/shm /tmp -user sglang -not -path '*systemd-private*'; mount | grep sglang-it; "
            "ipcs -m | grep sglang"
        )
        found = {host: self.ssh(host, look) for host in self.addresses}
        return {host: text for host, text in found.items() if text}

    # --- a client ---

    def talk(self) -> None:
        # mounted_root is what the host sees.
        (self.lab.host(self.first).mounted_root() / "srv/client.py").write_text(CLIENT)
        self.ssh(
            self.first,
            f"systemd-run --quiet --unit client --setenv PYTHONDONTWRITEBYTECODE=1 "
            f"--property StandardOutput=file:/var/tmp/client.log {REAL}/bin/python /srv/client.py",
            check=True,
        )

    def heard(self) -> list[dict[str, Any]]:
        text = self.ssh(self.first, "cat /var/tmp/client.log")
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]
