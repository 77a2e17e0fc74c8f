# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory that users copy, applied whole on lab hosts that look like the real ones at their outermost edge."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .conftest import CONNECTION, REPOSITORY

HERE = Path(__file__).parent / "rehearsal"
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
STAND_IN = "usr/lib/lab-gpu/engine"
DROP_IN = "etc/systemd/system/sglang-.service.d/lab-engine.conf"
PRETENDED = (
    "operating system: the inventory's is replaced by the lab's, Debian 12",
    "weights: a model of the same architecture and quantization with few, narrow layers",
    "engine: a stand-in with its command line, log lines, process names and API, mounted over sglang/launch_server.py"
    " for the unit alone; imports and verification of the environment see the real one",
)


@dataclass
class Rehearsal:
    """One inventory of `inventories/`, with connection variables and what the lab needs to boot its hosts."""

    profile: str
    edge: str
    folder: Path
    lab_name: str
    transcript: list[str] = field(default_factory=list)
    lab: Any = None

    @property
    def inventory(self) -> Path:
        return self.folder / self.profile

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def write_inventory(self) -> None:
        shutil.copytree(REPOSITORY / "inventories" / self.profile, self.inventory)
        path = self.inventory / "hosts.yml"
        hosts = yaml.safe_load(path.read_text())
        for group in hosts["all"]["children"].values():
            group["vars"]["declared_hardware"]["os"] = "debian-12"
        path.write_text(yaml.safe_dump(hosts, width=1000))
        place = {"kind": "nspawn", "image": "debian-12", "pretend": self.edge}
        text = yaml.safe_dump({**CONNECTION, "lab_name": self.lab_name, "lab": place}, width=1000)
        (self.inventory / "group_vars/all/lab.yml").write_text(text)

    def make_weights(self, model: str) -> None:
        entry = HERE / "catalogue/models/glm-4.7.yml"
        tool = REPOSITORY / "tools/make_rehearsal_model.py"
        made = self.folder / "made" / model
        subprocess.run([sys.executable, tool, entry, model, made], check=True)
        said = {
            "catalogue_dirs": [str(HERE / "catalogue")],
            "weights_sources": {model: [{"type": "directory", "path": str(made)}]},
        }
        (self.inventory / "group_vars/all/weights_of_the_lab.yml").write_text(
            yaml.safe_dump(said, width=1000)
        )

    def play(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """What an operator types, and what is printed for it."""
        playbook = "site.yml" if name == "site" else f"playbooks/{name}.yml"
        done = subprocess.run(
            [PLAYBOOK, playbook, "-i", self.inventory, *words],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3600,
            check=False,
        )
        said = done.stdout.replace("\\n", "\n")
        typed = " ".join(["ansible-playbook", playbook, "-i", f"inventories/{self.profile}", *words])
        self.transcript.append(f"$ {typed}\n{said}")
        (self.folder / "transcript.txt").write_text("\n".join(self.transcript))
        return subprocess.CompletedProcess(done.args, done.returncode, said, "")

    def works(self, name: str, *words: str) -> str:
        done = self.play(name, *words)
        assert done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def fails(self, name: str, *words: str) -> str:
        done = self.play(name, *words)
        assert done.returncode != 0, done.stdout[-8000:]
        return done.stdout

    @property
    def room(self) -> tuple[str, str]:
        """Variables of a run in the room: all comes from the bundle."""
        return "-e", f"bundle_dir={self.bundle}"

    def put_engine(self, host: str, plan: dict[str, Any]) -> None:
        """The stand-in takes the place of the engine's main module for the unit, and for nothing else."""
        root = self.lab.host(host).mounted_root()
        (instance,) = plan["instances"].values()
        release, environment = instance["release"]["version"], instance["environment"]
        folder = root / STAND_IN
        folder.mkdir(parents=True, exist_ok=True)
        flags = REPOSITORY / f"files/engines/sglang/flags/{release}.json"
        for source in (HERE / "engine/launch_server.py", REPOSITORY / "tests/unit/fixtures/truth_server.py"):
            shutil.copy(source, folder / source.name)
        shutil.copy(flags, folder / "flags.json")
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
        target = (
            f"{environment['path']}/lib/python{environment['python']}/site-packages/sglang/launch_server.py"
        )
        drop_in = root / DROP_IN
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text(f"[Service]\nBindReadOnlyPaths=/{STAND_IN}/launch_server.py:{target}\n")

    def ssh(self, host: str, command: str, check: bool = True) -> str:
        return str(self.lab.host(host).ssh(command, check=check).stdout).strip()

    def state(self, host: str, **state: Any) -> None:
        """What nvidia-smi answers from now on."""
        self.lab.host(host).ssh("cat >/run/lab-gpu/state.json", text_input=json.dumps(state))

    def kernel_says(self, host: str, *lines: str) -> None:
        self.lab.host(host).ssh(
            "cat >/run/lab-gpu/kernel.log", text_input="".join(f"{line}\n" for line in lines)
        )


def changed(said: str, host: str) -> int:
    found = re.search(rf"^{host} .* changed=(\d+) ", said, re.MULTILINE)
    assert found, said[-3000:]
    return int(found[1])
