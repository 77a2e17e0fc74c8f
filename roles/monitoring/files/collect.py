# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what the host knows of its instances as metrics for the node exporter; run by a timer.

    collect.py --root SETTINGS    as root: units, the plan, certificates, what only root may read
    collect.py SETTINGS           as a user of its own: what the service user can write, GPUs, disks, links

The first writes a snapshot beside the page, the second the page with both in it. Root reads nothing that the service
user can write. A part that cannot be read is left out and counted, so that the rest is still seen.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
from files_host import read_object

sys.path.remove(HERE)

Run = Callable[[list[str]], str]
PROPERTIES = "ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic,ExecMainStatus"
GPU_FIELDS = (
    "index,uuid,name,temperature.gpu,power.draw,utilization.gpu,memory.used,memory.total,"
    "ecc.errors.uncorrected.volatile.total"
)
GPU_METRICS = {
    3: ("temperature_celsius", 1),
    4: ("power_watts", 1),
    5: ("busy_ratio", 0.01),
    6: ("memory_used_bytes", 2**20),
    7: ("memory_size_bytes", 2**20),
    8: ("ecc_uncorrected_errors", 1),
}


class Page:
    def __init__(self) -> None:
        self.metrics: dict[str, list[str]] = {}
        self.errors = 0
        self.serves: dict[str, str] = {}
        """Instances of the plan with the name that they serve."""

    def put(self, metric: str, value: float, /, **labels: object) -> None:
        said = ",".join(f'{key}="{escaped(label)}"' for key, label in labels.items())
        line = f"{metric}{{{said}}} {value!r}" if said else f"{metric} {value!r}"
        self.metrics.setdefault(metric, []).append(line)

    def text(self) -> str:
        lines = []
        for name in sorted(self.metrics):
            lines += [f"# TYPE {name} gauge", *self.metrics[name]]
        return "\n".join(lines) + "\n"


def escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def run(words: list[str]) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=30, stdin=subprocess.DEVNULL
    )
    return done.stdout


def read(path: str) -> dict:
    with open(path, encoding="utf-8") as stream:
        return dict(json.load(stream))


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def instances(page: Page, settings: dict, ask: Run) -> None:
    root = settings["root"]
    if not os.path.exists(f"{root}/current/plan.json"):
        return
    plan = read(f"{root}/current/plan.json")
    release = os.path.basename(os.readlink(f"{root}/current"))
    for name, planned in sorted(plan["instances"].items()):
        labels = {"name": name, "serves": planned["served_model_name"]}
        said = properties(ask(["systemctl", "show", planned["unit"], f"--property={PROPERTIES}"]))
        page.put("sglang_instance_serving", float(said.get("ActiveState") == "active"), **labels)
        page.put("sglang_instance_restarts", float(said.get("NRestarts") or 0), **labels)
        entered = int(said.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        if entered and said.get("ActiveState") == "active":
            page.put(
                "sglang_instance_serving_seconds",
                time.clock_gettime(time.CLOCK_MONOTONIC) - entered,
                **labels,
            )
        page.put(
            "sglang_instance_info",
            1,
            **labels,
            release=release,
            engine=planned["release"]["version"],
            rank=planned["parallel"]["node_rank"],
            members=planned["parallel"]["nnodes"],
        )
        page.put("sglang_instance_members", float(planned["parallel"]["nnodes"]), **labels)
        page.serves[name] = planned["served_model_name"]
    if plan["facts"].get("driver"):
        loaded = re.search(
            r"^NVRM version:.*?\s(\d{3,}(?:\.\d+)+)\s", text(f"{settings['driver']}/version"), re.M
        )
        page.put(
            "sglang_driver_as_planned",
            float(loaded is not None and loaded[1] == plan["facts"]["driver"]),
            planned=plan["facts"]["driver"],
            loaded=loaded[1] if loaded else "",
        )
    page.put("sglang_gpus_planned", float(len(plan["facts"]["gpus"])))
    page.put("sglang_gpus_found", float(len(glob.glob(f"{settings['driver']}/gpus/*"))))
    switches(page, f"{root}/releases/.switches.json")


def records(page: Page, settings: dict, _ask: Run) -> None:
    """What the launchers and agents keep of themselves; one that cannot be read hides no other."""
    problems = []
    for name, serves in sorted(page.serves.items()):
        labels = {"name": name, "serves": serves}
        for part in (starts, group):
            try:
                part(page, f"{settings['state']}/{name}", labels)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))


def starts(page: Page, folder: str, labels: dict) -> None:
    record = read_object(f"{folder}/starts.json")
    page.put("sglang_instance_failed_starts", float(_length(record.get("failures"))), **labels)


def group(page: Page, folder: str, labels: dict) -> None:
    record = read_object(f"{folder}/group.json")
    # Only the first host counts generations and knows who is missing.
    if "generation" in record:
        generation = record["generation"]
        if not isinstance(generation, (int, float)):
            raise ValueError(f"{folder}/group.json: generation must be a number")
        page.put("sglang_group_generation", float(generation), **labels)
        page.put("sglang_group_members_missing", float(_length(record.get("missing"))), **labels)


def _length(found: object) -> int:
    return len(found) if isinstance(found, (list, dict)) else 0


def switches(page: Page, path: str) -> None:
    if os.path.exists(path):
        record = read(path)
        page.put("sglang_switch_unfinished", float(bool(record.get("unfinished"))))
        page.put("sglang_switch_failed", float(bool(record.get("failed"))))


def verified(page: Page, settings: dict, _ask: Run) -> None:
    """What verify found last."""
    path = f"{settings['root']}/releases/.verified.json"
    for name, record in sorted((read(path) if os.path.exists(path) else {}).items()):
        page.put("sglang_verify_failed_checks", float(len(record["failed"])), name=name)
        page.put("sglang_verify_passed_checks", float(record["passed"]), name=name)
        page.put("sglang_verify_time_seconds", float(record["time"]), name=name)


def fabric(page: Page, settings: dict, _ask: Run) -> None:
    """What this host measured last with the others."""
    if not os.path.exists(settings["fabric"]):
        return
    record = read(settings["fabric"])
    page.put("sglang_fabric_measured_time_seconds", float(record["time"]))
    for row in record.get("rows", ()):
        values = [float(item["value"]) for item in row.get("devices", ()) if "value" in item]
        ends = {"sender": row["from"], "receiver": row["to"]}
        if row["kind"] == "latency" and values:
            page.put("sglang_fabric_latency_seconds", max(values) / 1e6, **ends)
        elif row["kind"]:
            page.put("sglang_fabric_gbps", sum(values), kind=row["kind"], **ends)


def weights(page: Page, settings: dict, _ask: Run) -> None:
    for path in sorted(glob.glob(f"{settings['weights']}/*/*/.published.json")):
        folder = os.path.dirname(path)
        page.put("sglang_weights_damaged_files", float(len(read(path).get("damaged") or ())), path=folder)


def certificates(page: Page, settings: dict, ask: Run) -> None:
    for path in sorted(glob.glob(f"{settings['gateway']}/tls/*.crt")):
        said = ask(["openssl", "x509", "-in", path, "-noout", "-enddate"])
        end = (
            time.mktime(time.strptime(said.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z")) - time.timezone
        )
        page.put("sglang_certificate_days_left", (end - time.time()) / 86400, file=os.path.basename(path))


def disks(page: Page, settings: dict, _ask: Run) -> None:
    seen: set[int] = set()
    for path in settings["disks"]:
        if not os.path.isdir(path) or os.stat(path).st_dev in seen:
            continue
        seen.add(os.stat(path).st_dev)
        disk = os.statvfs(path)
        page.put("sglang_disk_free_bytes", float(disk.f_bavail * disk.f_frsize), path=path)
        page.put("sglang_disk_size_bytes", float(disk.f_blocks * disk.f_frsize), path=path)


def gpus(page: Page, settings: dict, ask: Run) -> None:
    if settings["gpu"] != "nvidia-smi":
        return
    said = ask(["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"])
    for line in said.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(GPU_FIELDS.split(",")):
            raise ValueError(f"nvidia-smi: {line}")
        for place, (name, factor) in GPU_METRICS.items():
            # What a part does not have reads [N/A] or [Not Supported].
            if re.fullmatch(r"-?\d+(\.\d+)?", fields[place]):
                page.put(
                    f"sglang_gpu_{name}", float(fields[place]) * factor, gpu=fields[0], product=fields[2]
                )


HEALTH = "/var/lib/sglang-health"


def health(page: Page, _settings: dict, _ask: Run, folder: str = HEALTH) -> None:
    """What the health watch of this host found last."""
    try:
        verdict = read_object(f"{folder}/verdict.json")
    except FileNotFoundError:
        return
    page.put("sglang_health_time_seconds", float(verdict["at"]))
    page.put("sglang_health_enforced", float(verdict["mode"] == "enforce"))
    for item in verdict["findings"]:
        labels = {"gpu": "" if item["gpu"] is None else item["gpu"], "code": item["code"]}
        page.put("sglang_health_finding", 1, decision=item["decision"], **labels)
    for done, key in ((1.0, "instances"), (0.0, "would")):
        for name, order in verdict[key].items():
            page.put("sglang_health_order", 1, name=name, decision=order["decision"], enforced=int(done))


def links(page: Page, settings: dict, _ask: Run) -> None:
    """Of every RDMA port: whether it is up, its rate, and the counters that tell of a bad cable."""
    for port in sorted(glob.glob(f"{settings['sys']}/class/infiniband/*/ports/*")):
        labels = {"device": port.split("/")[-3], "port": port.split("/")[-1]}
        page.put("sglang_rdma_port_active", float("ACTIVE" in text(f"{port}/state")), **labels)
        rate = text(f"{port}/rate").split(" ")[0]
        if rate:
            page.put("sglang_rdma_port_gbps", float(rate), **labels)
        for counter in ("symbol_error", "link_downed", "port_rcv_errors"):
            value = text(f"{port}/counters/{counter}").strip()
            if value.isdigit():
                page.put(f"sglang_rdma_port_{counter}", float(value), **labels)


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


ROOT_PARTS: tuple[Callable[[Page, dict, Run], None], ...] = (
    instances,
    verified,
    fabric,
    weights,
    certificates,
)
OWN_PARTS: tuple[Callable[[Page, dict, Run], None], ...] = (records, disks, gpus, health, links)


def collected(
    settings: dict,
    ask: Run = run,
    parts: Iterable[Callable[[Page, dict, Run], None]] = (*ROOT_PARTS, *OWN_PARTS),
    page: Page | None = None,
) -> Page:
    page = page or Page()
    for part in parts:
        ok = 1.0
        try:
            part(page, settings, ask)
        except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError) as error:
            ok, page.errors = 0.0, page.errors + 1
            print(f"{part.__name__}: {error}", file=sys.stderr)
        page.put("sglang_collector_ok", ok, part=part.__name__)
    return page


def snapshot(page: Page) -> str:
    return json.dumps({"metrics": page.metrics, "serves": page.serves})


def restored(path: str) -> Page:
    """What root saw; root has written it in this run, or nothing runs."""
    page, said = Page(), read(path)
    page.metrics, page.serves = said["metrics"], said["serves"]
    return page


def write(folder: str, said: str, name: str = "sglang.prom") -> None:
    """In one step: the exporter never reads half a page. On a full disk the old page stays, and grows old."""
    handle, made = tempfile.mkstemp(prefix=".sglang-", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(said)
        os.chmod(made, 0o644)
        os.rename(made, os.path.join(folder, name))
    except OSError:
        os.unlink(made)
        raise


def main() -> None:
    settings = read(sys.argv[-1])
    folder, name = os.path.split(settings["snapshot"])
    if "--root" in sys.argv:
        write(folder, snapshot(collected(settings, parts=ROOT_PARTS)), name)
        return
    page = collected(settings, parts=OWN_PARTS, page=restored(settings["snapshot"]))
    page.put("sglang_collected_time_seconds", time.time())
    write(settings["page"], page.text())


if __name__ == "__main__":
    main()
