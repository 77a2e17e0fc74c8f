# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the collection on this machine's GPU and compares what the plan says with what happens.

Each stage is on its own: one that fails is in the report with its reason, and those that need it are skipped. The
report is written anew after each stage, so that a run that is cut off leaves all that it found.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import compare
import report
from machine import HERE, HOST, REPOSITORY, CommandError, Machine, listening, processes_of
from stand_in_init import IMITATED, OMITTED
from stand_in_init import ask as ask_init

NAME, UNIT, PORT = "mini", "sglang-mini.service", 30000
MODELS = Path("/opt/m")
FOLDERS = {"fp8": "glm-4.7-mini-fp8", "int8": "glm-4.7-mini-int8", "awq": "glm-4.7-mini-awq"}
WIDTHS = {"fp8": 384, "int8": 192, "awq": 384}
"""Of one GPU: tensor parallel 4, 8 and 4 of GLM-4.7's 1,536 columns."""
RELEASE = "0.5.17"
POLL = 0.5


class SkippedError(Exception):
    """Why a stage was not run."""


class Run:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.began = time.monotonic()
        self.machine = Machine(given.out, given.controller, given.python)
        self.machine.declared = given.declared
        self.document: dict[str, Any] = {"title": "baremetal.sglang on a GPU", "machine": {}, "stages": {}}
        self.plan: dict[str, Any] = {}
        self.cold: dict[str, Any] = {}

    # --- stages and report ---

    def left(self) -> float:
        return float(self.given.seconds - (time.monotonic() - self.began))

    def stage(
        self, name: str, needs: float, work: Callable[[], dict[str, Any]], after: tuple[str, ...] = ()
    ) -> None:
        if self.given.stages and name not in self.given.stages:
            return
        began, made = time.monotonic(), {}
        try:
            for other in after:
                state = self.document["stages"].get(other, {}).get("state", "done")
                if state != "done":
                    raise SkippedError(f"{other} {state}")
            if self.left() < needs:
                raise SkippedError(f"{self.left():.0f} s are left, it needs {needs:.0f}")
            made = {"state": "done", **work()}
        except SkippedError as why:
            made = {"state": "skipped", "said": str(why)}
        except Exception as error:
            said = str(error) if isinstance(error, CommandError) else traceback.format_exc()
            made = {"state": "failed", "said": said.strip().splitlines()[-1][:200], "error": said}
        made["seconds"] = round(time.monotonic() - began, 1)
        self.document["stages"][name] = made
        print(report.summary({"stages": {name: made}})[0], flush=True)
        self.write()

    def write(self) -> None:
        out = self.given.out
        (out / "report.json").write_text(json.dumps(self.document, indent=1, default=str), encoding="utf-8")
        (out / "report.html").write_text(report.page(self.document), encoding="utf-8")

    def close(self) -> None:
        for line in report.summary(self.document):
            print(line)
        for path in Path("/run/stand-in-init").glob("*.log"):
            shutil.copy(path, self.machine.logs / f"unit-{path.name}.txt")
        if self.machine.init is not None:
            for name, words in (("events", self.events()), ("state", self.machine.state(UNIT))):
                (self.machine.logs / f"unit-{name}.json").write_text(
                    json.dumps(words, indent=1), encoding="utf-8"
                )
            self.machine.run(["systemctl", "stop", UNIT], limit=100, check=False)
        packed = self.given.out / "logs.tar.xz"
        self.machine.run(["tar", "-cJf", str(packed), "-C", str(self.given.out), "logs"], check=False)
        shutil.rmtree(self.machine.logs, ignore_errors=True)
        self.machine.end_init()

    # --- preparation ---

    def look(self) -> dict[str, Any]:
        machine = self.document["machine"]
        query = "name,driver_version,memory.total,memory.used,compute_cap"
        machine["gpu"] = self.machine.run(
            ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
        ).strip()
        machine["kernel"] = platform.release()
        machine["cores"] = os.cpu_count()
        machine["python"] = sys.version.split()[0]
        if self.machine.systemd() and not self.given.stand_in:
            machine["init"] = "systemd"
        else:
            self.machine.start_init()
            machine["init"] = "stand-in"
            machine["confinement that was imitated"] = IMITATED
            machine["confinement that was not"] = OMITTED
        return {"said": machine["gpu"]}

    def weights(self, method: str) -> dict[str, Any]:
        folder = self.given.models / FOLDERS[method]
        if (folder / "model.safetensors.index.json").exists():
            return {"said": "there"}
        words = [folder, "--method", method, "--layers", self.given.layers, "--width", WIDTHS[method]]
        said = self.machine.run(
            [sys.executable, str(HERE / "make_model.py"), *words], f"weights-{method}", 200
        )
        made = json.loads(said.strip().splitlines()[-1])
        return {"said": f"{made['bytes']:,} bytes", "values": {"written": made}}

    def torch_python(self) -> str:
        """A Python that has torch: this one, the machine's, or the planned environment's."""
        places = [
            sys.executable,
            shutil.which("python3") or "",
            "/usr/bin/python3",
            *map(str, Path("/opt/sglang/envs").glob("*/bin/python")),
        ]
        for python in filter(None, places):
            done = self.machine.run(
                [python, "-c", "import torch; print('torch', torch.__version__)"], check=False
            )
            if done.startswith("torch "):
                return python
        raise CommandError(f"no torch for making weights in any of {', '.join(filter(None, places))}")

    def serve(self, method: str = "fp8", **changes: Any) -> dict[str, Any]:
        entry = {
            "model": str(self.given.models / FOLDERS[method]),
            "hosts": [HOST],
            "release": self.given.release,
        }
        return {NAME: {**entry, "speculative": False, **changes}}

    def facts(self) -> dict[str, Any]:
        self.machine.inventory(self.serve())
        if self.given.declared:
            self.machine.facts = []
            return {"said": "hardware as declared"}
        self.machine.playbook("facts.yml", "-e", f"facts_dir={self.machine.work / 'facts'}", limit=120)
        path = self.machine.work / "facts" / f"{HOST}.json"
        shutil.copy(path, self.given.out / "facts.json")
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {"said": ", ".join(fault["code"] for fault in facts["faults"]) or "no fault"}

    def planned(self) -> dict[str, Any]:
        self.machine.inventory(self.serve())
        self.plan = self.machine.plan()
        (self.given.out / "plan.json").write_text(json.dumps(self.plan, indent=1), encoding="utf-8")
        instance = self.instance
        return {"said": f"{instance['release']['key']}, {instance['context']['tokens']:,} tokens of cache"}

    @property
    def instance(self) -> dict[str, Any]:
        if not self.plan:
            self.machine.inventory(self.serve())
            self.plan = self.machine.plan()
        found: dict[str, Any] = self.plan["instances"][NAME]
        return found

    def environment(self) -> dict[str, Any]:
        self.machine.lay_host({**self.plan, "host_settings": self.plan["host_settings"]})
        said = self.machine.lay_environment(self.instance, self.given.site)
        self.document["machine"]["environment"] = said
        if self.given.caches and self.given.caches.exists():
            place = Path(self.cache())
            place.mkdir(parents=True, exist_ok=True)
            self.machine.run(["tar", "-xJf", str(self.given.caches), "-C", str(place)])
            user = self.plan["host_settings"]["user"]
            self.machine.run(["chown", "-R", f"{user}:{user}", str(place.parent.parent)])
            said["caches"] = "brought from another run"
        return {"said": str(said.get("CUDA_HOME", "")), "values": {"environment": said}}

    def cache(self) -> str:
        folders = [item["value"] for item in self.instance["environment_variables"] if item["name"] == "HOME"]
        return str(folders[0])

    # --- starts ---

    def apply(self, log: str = "apply", limit: float = 480) -> dict[str, Any]:
        began = time.monotonic()
        self.machine.playbook("apply.yml", *self.machine.facts, log=log, limit=limit)
        return {"play seconds": round(time.monotonic() - began, 1)}

    def started(self, name: str) -> dict[str, Any]:
        """What the last start showed, kept as a log of its own."""
        lines = self.machine.journal(UNIT)
        (self.machine.logs / f"journal-{name}.txt").write_text("\n".join(lines), encoding="utf-8")
        real = compare.read_log(lines)
        return {"real": real, "events": self.events()}

    def events(self) -> list[tuple[float, str]]:
        if self.machine.init is None:
            return []
        return [tuple(item) for item in json.loads(ask_init("events", [UNIT])["out"])["events"]]

    def times(self) -> dict[str, Any]:
        """Seconds from the exec of the last start to each status."""
        found: dict[str, Any] = {}
        begin = 0.0
        for when, words in self.events():
            if words == "exec":
                begin, found = when, {}
            elif words == "ready" or words.startswith("status "):
                key = words.removeprefix("status ").split(",")[0]
                found.setdefault(key[:60], round(when - begin, 1))
        return found

    def start(self, name: str) -> dict[str, Any]:
        play = self.apply(f"apply-{name}", min(420.0, max(60.0, self.left())))
        shown = self.started(name)
        times = self.times()
        rows = compare.sizes(self.instance, shown["real"])
        user = self.plan["host_settings"]["user"]
        running = processes_of(user)
        wrong = [item["what"] for item in rows if item["ok"] is False]
        return {
            "said": f"ready after {times.get('ready', '?')} s"
            + (f"; off: {', '.join(wrong)}" if wrong else ""),
            "comparisons": {
                "memory": rows,
                "kernels": compare.kernels(self.instance, shown["real"]),
                "ports": compare.ports(self.instance, listening(running)),
            },
            "values": {"times": times, "play": play, "engine": shown["real"], "processes": running},
        }

    def restart(self) -> dict[str, Any]:
        self.machine.run(["systemctl", "restart", "--no-block", UNIT])
        self.wait_ready(180)
        times = self.times()
        self.started("warm")
        return {"said": f"ready after {times.get('ready', '?')} s", "values": {"times": times}}

    def wait_ready(self, limit: float) -> float:
        began = time.monotonic()
        time.sleep(1)
        while time.monotonic() - began < limit:
            state = self.machine.state(UNIT)
            if state.get("ActiveState") == "active":
                return time.monotonic() - began
            if state.get("ActiveState") == "failed":
                raise CommandError(f"failed: {state.get('StatusText')}")
            time.sleep(POLL)
        raise CommandError(f"not ready within {limit:.0f} s: {self.machine.state(UNIT)}")

    def pack_caches(self) -> dict[str, Any]:
        place, target = self.cache(), self.given.out / "caches.tar.xz"
        self.machine.run(["tar", "-cJf", str(target), "-C", place, "."], limit=60)
        return {"said": f"{target.stat().st_size:,} bytes"}

    # --- checks ---

    def verify(self) -> dict[str, Any]:
        folder = self.machine.work / "verify"
        try:
            self.machine.playbook("verify.yml", "-e", f"report_dir={folder}", limit=180)
            said = "passed"
        finally:
            for path in sorted(folder.rglob("*.json")):
                shutil.copy(path, self.machine.logs / f"verify-{path.name}")
        return {"said": said}

    def load(self) -> dict[str, Any]:
        rows = []
        for streams, requests in ((1, 8), (16, 64), (64, 192)):
            row: dict[str, Any] = {"streams": streams}
            # ABBA: the second client, ours without and with samples, the second client again.
            row["second client"] = self.second(streams, requests, 1)["tokens_per_second"]
            for key, sample in (("ours", 0.0), ("ours, sampling", 1.0)):
                try:
                    row[key] = self.ours(streams, requests, sample)
                except CommandError as error:
                    row[key] = str(error)[-200:]
            row["second client again"] = self.second(streams, requests, 2)["tokens_per_second"]
            rows.append(row)
        return {
            "said": "; ".join(f"{row['streams']}: {row['second client']}" for row in rows),
            "tables": {"tokens/s": rows},
        }

    def second(self, streams: int, requests: int, seed: int) -> dict[str, Any]:
        words = ["--port", PORT, "--streams", streams, "--requests", requests, "--seed", seed]
        text = self.machine.run([sys.executable, str(HERE / "client.py"), *words], limit=120)
        found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return found

    def ours(self, streams: int, requests: int, sample: float) -> Any:
        import yaml

        data = yaml.safe_load((REPOSITORY / "files/bench.yml").read_text(encoding="utf-8"))
        point = {
            "kind": "load", "label": f"{streams} streams", "seed": 1, "input": 1024, "output": 128,
            "concurrency": streams, "requests": requests,
        }  # fmt: skip
        arguments = {
            "url": f"http://127.0.0.1:{PORT}", "model": NAME, "point": point, "thresholds": data["thresholds"],
            "sample_seconds": sample,
        }  # fmt: skip
        record = self.machine.module("baremetal.sglang.load_test", arguments)["record"]
        (self.machine.logs / f"load-{streams}-{sample}.json").write_text(json.dumps(record), encoding="utf-8")
        return _first(record, ("tokens_per_second", "output_tokens_per_second", "rate"))

    # --- faults ---

    def fault(self, name: str, number: int, limit: float = 150) -> dict[str, Any]:
        pids = [
            pid for pid, words in processes_of(self.plan["host_settings"]["user"]).items() if name in words
        ]
        if not pids:
            raise CommandError(f"no process is called {name}")
        before = int(self.machine.state(UNIT).get("NRestarts") or 0)
        began, wall = time.monotonic(), time.time()
        os.kill(pids[0], number)
        while int(self.machine.state(UNIT).get("NRestarts") or 0) == before:
            if time.monotonic() - began > limit:
                os.kill(pids[0], signal.SIGCONT)
                raise CommandError("the launcher did not notice")
            time.sleep(POLL / 2)
        noticed = time.monotonic() - began
        self.wait_ready(limit)
        again = time.monotonic() - began
        said = [words[7:] for when, words in self.events() if when >= wall and words.startswith("status ")]
        why = next((words for words in said), "")
        return {
            "said": f"noticed after {noticed:.1f} s, serving after {again:.0f} s: {why}",
            "values": {"statuses": {str(place): words for place, words in enumerate(said)}},
        }

    def drain(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def stream(seed: int) -> None:
            words = [
                "--port",
                PORT,
                "--streams",
                1,
                "--requests",
                1,
                "--prompt",
                64,
                "--output",
                2000,
                "--seed",
                seed,
                "--cut",
            ]
            found.append(
                json.loads(self.machine.run([sys.executable, str(HERE / "client.py"), *words], limit=120))
            )

        threads = [threading.Thread(target=stream, args=(seed,)) for seed in (1, 2, 3)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        began = time.monotonic()
        stop = threading.Thread(target=self.machine.run, args=(["systemctl", "stop", UNIT],))
        stop.start()
        time.sleep(0.7)
        import urllib.error
        import urllib.request

        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=3).read()
            entered = True
        except (OSError, urllib.error.URLError):
            entered = False
        stop.join()
        seconds = time.monotonic() - began
        for thread in threads:
            thread.join()
        whole = sum(item["whole"] for item in found)
        running = processes_of(self.plan["host_settings"]["user"])
        used = self.machine.run(
            ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        ).strip()
        rows = [
            compare.row("streams that ended whole", 3, whole, None),
            compare.row("a new connection during the drain", False, entered, None),
            compare.row("processes left", 0, len(running), None),
        ]
        return {
            "said": f"{seconds:.1f} s, {whole} of 3 streams whole, a new connection {'entered' if entered else 'was kept out'}",
            "comparisons": {"drain": rows},
            "values": {"after": {"GPU MiB used": used, "processes": running}},
        }

    # --- other configurations ---

    def variant(
        self, name: str, method: str, streams: tuple[int, ...] = (1, 16), **changes: Any
    ) -> dict[str, Any]:
        """Plans, starts, compares and loads another configuration."""
        if not (self.given.models / FOLDERS[method] / "config.json").exists():
            self.weights(method)
        self.machine.run(["systemctl", "stop", UNIT], limit=100, check=False)
        # A configuration that could not start must not make the next one wait.
        for record in Path("/var/lib/sglang").glob(f"{NAME}/starts.json"):
            record.unlink()
        self.machine.inventory(self.serve(method, **changes))
        self.plan = self.machine.plan(f"plan-{name}")
        (self.machine.logs / f"plan-{name}.json").write_text(json.dumps(self.plan), encoding="utf-8")
        made = self.start(name)
        rows = [self.second(count, count * 4, 1) for count in streams]
        made.setdefault("tables", {})["load"] = rows
        made["said"] += "; " + ", ".join(
            f"{row['streams']}: {row['tokens_per_second']} tokens/s" for row in rows
        )
        metrics = self.machine.run(["curl", "-s", f"http://127.0.0.1:{PORT}/metrics"], check=False)
        wanted = ("spec_accept", "cache_hit", "num_running", "token_usage")
        made["values"]["metrics"] = {
            line.split()[0][:120]: line.split()[-1]
            for line in metrics.splitlines()
            if any(word in line for word in wanted) and not line.startswith("#")
        }
        return made

    def all(self) -> None:
        apart: Mapping[str, Any] = {"attention-backend": "triton", "sampling-backend": "pytorch"}
        self.stage("machine", 0, self.look)
        self.stage("weights", 30, lambda: self.weights("fp8"))
        self.stage("facts", 10, self.facts, ("machine",))
        self.stage("plan", 5, self.planned, ("facts", "weights"))
        self.stage("environment", 10, self.environment, ("plan",))
        self.stage("start", 120, lambda: self.start("cold"), ("environment",))
        self.stage("caches", 10, self.pack_caches, ("start",))
        self.stage("restart", 60, self.restart, ("start",))
        self.stage("verify", 40, self.verify, ("start",))
        self.stage("load", 40, self.load, ("start",))
        self.stage("kill", 60, lambda: self.fault("sglang::scheduler", signal.SIGKILL), ("start",))
        self.stage("drain", 20, self.drain, ("start",))
        self.stage("freeze", 100, self.freeze, ("start",))
        self.stage("mtp", 110, lambda: self.variant("mtp", "fp8", speculative=True), ("plan",))
        self.stage("int8", 110, lambda: self.variant("int8", "int8", options=dict(apart)), ("plan",))
        self.stage(
            "context-32k", 70, lambda: self.variant("context-32k", "fp8", (), context_length=32768), ("plan",)
        )
        self.stage(
            "awq",
            110,
            lambda: self.variant("awq", "awq", options={"attention-backend": "flashinfer"}),
            ("plan",),
        )
        self.stage(
            "chunk-4096",
            70,
            lambda: self.variant("chunk-4096", "fp8", (), options={"chunked-prefill-size": 4096}),
            ("plan",),
        )

    def freeze(self) -> dict[str, Any]:
        self.machine.run(["systemctl", "start", UNIT], check=False)
        self.wait_ready(150)
        return self.fault("sglang::scheduler", signal.SIGSTOP)


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first of several keys, at whatever depth it stands."""
    for name in names:
        if name in record:
            return record[name]
    for value in record.values():
        if isinstance(value, Mapping):
            found = _first(value, names)
            if found is not None:
                return found
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("silicon-report"), help="folder of the report")
    parser.add_argument(
        "--site", type=Path, help="folder of Python packages for the environment; the machine's own fill gaps"
    )
    parser.add_argument("--controller", type=Path, help="folder of Python packages that holds ansible-core")
    parser.add_argument("--caches", type=Path, help="caches.tar.xz of another run")
    parser.add_argument("--python", default="/usr/bin/python3", help="what modules run with")
    parser.add_argument(
        "--declared", type=json.loads, default={}, help="hardware to plan for instead of facts, as JSON"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="where checkpoints are written or lie")
    parser.add_argument("--release", default=RELEASE)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=560, help="no stage begins that would end later")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=[], help="only these")
    parser.add_argument("--stand-in", action="store_true", help="the stand-in init although there is systemd")
    given = parser.parse_args()
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    run = Run(given)
    if given.controller:
        sys.path.insert(0, str(given.controller))
    try:
        run.all()
    finally:
        run.close()
    return 1 if any(stage["state"] == "failed" for stage in run.document["stages"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
