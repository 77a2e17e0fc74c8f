# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands of a run on a GPU machine: commands, Ansible, the planned environment, the stand-in init."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SHIMS = Path("/run/stand-in-init/bin")
HOST = "gpu-1"
APPLY = """\
- hosts: all
  gather_facts: false
  any_errors_fatal: true
  roles:
    - role: baremetal.sglang.plan
      vars: {plan_gather: false}
    - role: baremetal.sglang.engine
"""


class CommandError(Exception):
    """A command that failed, with the end of what it printed."""


class Machine:
    """One run's folder, inventory and environment variables."""

    def __init__(self, out: Path, controller: Path | None, python: str) -> None:
        self.out, self.python = out, python
        self.work = Path("/var/tmp/silicon-run")
        self.work.mkdir(parents=True, exist_ok=True)
        self.logs = out / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.variables = dict(os.environ)
        self.variables.pop("ANSIBLE_CONFIG", None)
        places = [str(controller)] if controller else []
        self.variables.update(
            PYTHONPATH=os.pathsep.join(places),
            ANSIBLE_COLLECTIONS_PATH=str(REPOSITORY / "collections"),
            ANSIBLE_CONFIG=str(REPOSITORY / "ansible.cfg"),
            ANSIBLE_LOCAL_TEMP=str(self.work / "ansible"),
            ANSIBLE_HOME=str(self.work / "ansible-home"),
            ANSIBLE_NOCOLOR="1",
            LC_ALL="C.UTF-8",
            PYTHONUNBUFFERED="1",
        )
        self.init: subprocess.Popen[bytes] | None = None
        self.declared: dict[str, Any] = {}
        self.facts: list[str] = ["-e", f"facts_dir={self.work / 'facts'}"]

    def run(self, words: Iterable[Any], name: str = "", limit: float = 600, check: bool = True) -> str:
        """The output; also kept as logs/NAME.txt."""
        command = list(map(str, words))
        try:
            done = subprocess.run(
                command,
                env=self.variables,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit,
                check=False,
            )
            text, status = done.stdout.decode("utf-8", "replace"), done.returncode
        except subprocess.TimeoutExpired as late:
            text, status = (late.stdout or b"").decode("utf-8", "replace"), -1
        if name:
            (self.logs / f"{name}.txt").write_text(text, encoding="utf-8")
        if check and status:
            why = "did not end in time" if status == -1 else f"exit status {status}"
            raise CommandError(f"{' '.join(command)[:300]}: {why}\n{text[-3000:]}")
        return text

    # --- Ansible ---

    def inventory(self, serve: Mapping[str, Any]) -> None:
        host: dict[str, Any] = {"ansible_connection": "local", "ansible_python_interpreter": self.python}
        if self.declared:
            host["declared_hardware"] = self.declared
        text = json.dumps({"all": {"hosts": {HOST: host}, "vars": {"serve": serve}}})
        (self.work / "inventory.yml").write_text(text, encoding="utf-8")
        (self.work / "apply.yml").write_text(APPLY, encoding="utf-8")

    def playbook(self, name: str, *words: str, log: str = "", limit: float = 600) -> str:
        path = self.work / name if name == "apply.yml" else REPOSITORY / "playbooks" / name
        program = "import sys; from ansible.cli.playbook import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "-i", str(self.work / "inventory.yml"), str(path), *words]
        return self.run(command, log or name.partition(".")[0], limit)

    def module(self, name: str, arguments: Mapping[str, Any], limit: float = 300) -> dict[str, Any]:
        program = "import sys; from ansible.cli.adhoc import main; sys.exit(main())"
        words = ["-i", str(self.work / "inventory.yml"), HOST, "-m", name, "-a", json.dumps(dict(arguments))]
        self.variables["ANSIBLE_LOAD_CALLBACK_PLUGINS"] = "1"
        self.variables["ANSIBLE_STDOUT_CALLBACK"] = "minimal"
        try:
            text = self.run(
                [sys.executable, "-c", program, *words], name.rpartition(".")[2], limit, check=False
            )
        finally:
            del self.variables["ANSIBLE_STDOUT_CALLBACK"]
        begin = text.find("{")
        if begin < 0:
            raise CommandError(text[-2000:])
        found: dict[str, Any] = json.JSONDecoder().raw_decode(text[begin:])[0]
        if found.get("failed"):
            raise CommandError(str(found.get("msg"))[-2000:])
        return found

    def plan(self, name: str = "plan") -> dict[str, Any]:
        """The plan of this machine for the inventory as it is."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        self.playbook("plan.yml", *self.facts, "-e", f"plan_dir={folder}", log=name, limit=120)
        for path in sorted(folder.rglob("*.json")):
            document = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(document, dict) and document.get("instances"):
                return document
        raise CommandError(f"no plan was written to {folder}")

    # --- init ---

    def systemd(self) -> bool:
        return Path("/run/systemd/system").is_dir() and self.init is None

    def start_init(self) -> None:
        shutil.rmtree(SHIMS.parent, ignore_errors=True)
        SHIMS.mkdir(parents=True)
        for name in ("systemctl", "journalctl"):
            (SHIMS / name).write_text(
                f"#!{sys.executable} -IB\nimport sys\nsys.path.insert(0, {str(HERE)!r})\n"
                f"import stand_in_init\nsys.exit(stand_in_init.asked({name!r}, sys.argv[1:]))\n",
                encoding="utf-8",
            )
            (SHIMS / name).chmod(0o755)
        Path("/etc/systemd/system").mkdir(parents=True, exist_ok=True)
        Path("/run/systemd/system").mkdir(parents=True, exist_ok=True)
        self.variables["PATH"] = f"{SHIMS}:{self.variables['PATH']}"
        log = (self.logs / "init.txt").open("wb")
        self.init = subprocess.Popen(
            [sys.executable, "-B", str(HERE / "stand_in_init.py"), "serve"],
            stdout=log,
            stderr=log,
            env=self.variables,
        )
        for _turn in range(100):
            if (SHIMS.parent / "socket").exists():
                return
            time.sleep(0.1)
        raise CommandError("the stand-in init did not start")

    def end_init(self) -> None:
        if self.init is not None:
            self.init.terminate()
            self.init.wait()
            shutil.rmtree("/run/systemd", ignore_errors=True)
            self.init = None

    def journal(self, unit: str) -> list[str]:
        """What the current start of a unit said."""
        shown = self.run(["systemctl", "show", unit, "--property=InvocationID"], check=False)
        invocation = shown.strip().partition("=")[2]
        words = ["journalctl", f"_SYSTEMD_INVOCATION_ID={invocation}", "--output=cat", "--no-pager"]
        return self.run(words, check=False).splitlines()

    def state(self, unit: str) -> dict[str, str]:
        names = "ActiveState,SubState,NRestarts,StatusText,MainPID,ExecMainStatus"
        text = self.run(["systemctl", "show", unit, f"--property={names}"], check=False)
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    # --- what the plan asks for ---

    def lay_host(self, plan: Mapping[str, Any]) -> None:
        settings = plan["host_settings"]
        try:
            pwd.getpwnam(settings["user"])
        except KeyError:
            words = [
                "useradd",
                "--system",
                "--home-dir",
                settings["paths"]["state"],
                "--shell",
                "/usr/sbin/nologin",
            ]
            self.run([*words, settings["user"]])
        for group in settings.get("supplementary_groups", []):
            self.run(["usermod", "-aG", group, settings["user"]], check=False)
        for folder in settings["directories"]:
            path = Path(folder["path"])
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(int(folder["mode"], 8))
            shutil.chown(path, folder["owner"], folder["owner"] if folder["owner"] != "root" else "root")

    def lay_environment(self, instance: Mapping[str, Any], site: Path | None) -> dict[str, Any]:
        """The planned environment out of a folder of packages and the machine's own; says what is whose."""
        place = Path(instance["environment"]["path"])
        said: dict[str, Any] = {"path": str(place)}
        if (place / "bin/python").exists():
            return {**said, "there": True}
        base = os.path.realpath(self.python)
        version = self.run([base, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
        own = place / f"lib/python{version}/site-packages"
        own.mkdir(parents=True)
        (place / "bin").mkdir()
        for name in ("python", "python3", f"python{version}"):
            (place / "bin" / name).symlink_to(base)
        (place / "pyvenv.cfg").write_text(
            f"home = {os.path.dirname(base)}\ninclude-system-site-packages = false\nversion = {version}\n",
            encoding="utf-8",
        )
        theirs = [path for path in sys.path if path.endswith("site-packages") and Path(path).is_dir()]
        if site is not None:
            for entry in list(site.iterdir()):
                if entry.name.endswith(".data"):
                    for script in entry.glob("scripts/*"):
                        target = place / "bin" / script.name
                        shutil.copy2(script, target)
                        target.chmod(0o755)
                else:
                    shutil.move(str(entry), str(own / entry.name))
        (own / "machine.pth").write_text("\n".join(theirs) + "\n", encoding="utf-8")
        said["packages of the machine"] = ", ".join(theirs)
        self.run(["chmod", "-R", "go+rX", str(place)])
        began = time.monotonic()
        self.run(
            [str(place / "bin/python"), "-m", "compileall", "-q", "-j", "0", str(own)], check=False, limit=120
        )
        said["seconds of compiling bytecode"] = round(time.monotonic() - began, 1)
        self._lay_toolkit(instance, own, said)
        return said

    def _lay_toolkit(self, instance: Mapping[str, Any], own: Path, said: dict[str, Any]) -> None:
        home = str(instance["compiles"].get("cuda_home") or "")
        if not home or Path(home).exists():
            said["CUDA_HOME"] = home or "not planned"
            return
        wheels = own / "nvidia/cu13"
        source = wheels if (wheels / "bin/nvcc").exists() else Path("/usr/local/cuda")
        Path(home).mkdir(parents=True)
        for name in ("bin", "include", "nvvm"):
            (Path(home) / name).symlink_to(source / name)
        for name in ("lib64", "lib"):
            there = next((source / part for part in ("lib64", "lib") if (source / part).is_dir()), source)
            (Path(home) / name).symlink_to(there)
        said["CUDA_HOME"] = f"{home} of links to {source}"


def listening(pids: Iterable[int]) -> list[str]:
    """address:port that these processes listen on, from /proc."""
    import socket

    inodes = set()
    for pid in pids:
        folder = Path(f"/proc/{pid}/fd")
        try:
            names = list(folder.iterdir())
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(name)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table, family, size in (("tcp", socket.AF_INET, 8), ("tcp6", socket.AF_INET6, 32)):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                address, port = parts[1].split(":")
                raw = b"".join(bytes.fromhex(address[n : n + 8])[::-1] for n in range(0, size, 8))
                shown = socket.inet_ntop(family, raw)
                found.add(
                    f"[{shown}]:{int(port, 16)}" if family == socket.AF_INET6 else f"{shown}:{int(port, 16)}"
                )
    return sorted(found)


def processes_of(user: str) -> dict[int, str]:
    number = pwd.getpwnam(user).pw_uid
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == number:
                    words = (
                        (entry / "cmdline")
                        .read_bytes()
                        .replace(b"\0", b" ")
                        .decode("utf-8", "replace")
                        .strip()
                    )
                    if words:
                        found[int(entry.name)] = words
            except OSError:
                continue
    return found
