# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's nvidia-smi: prints a capture in the forms that the product asks for, changed by what a test put into STATE.

STATE is {"lost": [index, ...], "processes": [{"gpu": index, "pid": number, "mib": number}, ...]}. It lies below /run,
so a reboot forgets it, as it does the errors of a real GPU.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

DATA = Path("/usr/lib/lab-gpu")
STATE = Path("/run/lab-gpu/state.json")
DRIVER = Path("/proc/driver/nvidia/version")
CONTROL = Path("/dev/nvidiactl")
LOST, NO_DRIVER, BAD_QUERY = 15, 9, 2
# Field of --query-gpu -> element of a GPU in the XML.
FIELDS = {
    "name": "product_name",
    "uuid": "uuid",
    "pci.bus_id": "pci/pci_bus_id",
    "persistence_mode": "persistence_mode",
    "memory.total": "fb_memory_usage/total",
    "memory.used": "fb_memory_usage/used",
    "memory.free": "fb_memory_usage/free",
    "utilization.gpu": "utilization/gpu_util",
    "utilization.memory": "utilization/memory_util",
    "temperature.gpu": "temperature/gpu_temp",
    "power.draw": "gpu_power_readings/instant_power_draw",
    "clocks.sm": "clocks/sm_clock",
    "clocks.mem": "clocks/mem_clock",
    "mig.mode.current": "mig_mode/current_mig",
    "mig.mode.pending": "mig_mode/pending_mig",
    "ecc.mode.current": "ecc_mode/current_ecc",
    "ecc.mode.pending": "ecc_mode/pending_ecc",
    "ecc.errors.uncorrected.volatile.total": "ecc_errors/volatile/dram_uncorrectable",
    "remapped_rows.pending": "remapped_rows/remapped_row_pending",
    "remapped_rows.failure": "remapped_rows/remapped_row_failure",
    "gpu_recovery_action": "gpu_recovery_action",
    "fabric.state": "fabric/state",
    "fabric.status": "fabric/status",
    "clocks_throttle_reasons.active": "",
    "retired_pages.pending": "",
    "count": "",
    "index": "",
    "compute_cap": "",
    "driver_version": "",
}


class Gpus:
    """What is listed now."""

    def __init__(self) -> None:
        self.facts = json.loads((DATA / "facts.json").read_text())
        self.root = ElementTree.fromstring((DATA / "gpus.xml").read_text())
        state = json.loads(STATE.read_text()) if STATE.exists() else {}
        self.lost, self.processes = state.get("lost", []), state.get("processes", [])
        found = re.search(r"\s(\d{3,}\.\d[\d.]*)\s", DRIVER.read_text())
        self.driver = found[1] if found else "unknown"
        all_gpus = self.root.findall("gpu")
        self.listed = [(index, gpu) for index, gpu in enumerate(all_gpus) if index not in self.lost]
        self.gone = [
            gpu.findtext("pci/pci_bus_id", "") for index, gpu in enumerate(all_gpus) if index in self.lost
        ]
        for index, gpu in self.listed:
            self._use(gpu, sum(int(item["mib"]) for item in self.processes if item["gpu"] == index))

    def _use(self, gpu: ElementTree.Element, mib: int) -> None:
        used, free = gpu.find("fb_memory_usage/used"), gpu.find("fb_memory_usage/free")
        if mib and used is not None and free is not None:
            used.text = f"{int((used.text or '0').split()[0]) + mib} MiB"
            free.text = f"{int((free.text or '0').split()[0]) - mib} MiB"

    def complain(self) -> int:
        """A GPU that fell off the bus: the others are listed, and the status says that one is lost."""
        for address in self.gone:
            print(f"Unable to determine the device handle for GPU{address}: Unknown Error")
        return LOST if self.gone else 0

    def xml(self) -> int:
        status = self.complain()
        root = copy.deepcopy(self.root)
        for gpu in root.findall("gpu"):
            root.remove(gpu)
        root.extend([gpu for _index, gpu in self.listed])
        for name, value in (("driver_version", self.driver), ("attached_gpus", str(len(self.listed)))):
            element = root.find(name)
            if element is not None:
                element.text = value
        print(f'<?xml version="1.0" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM "{self.facts["dtd"]}">')
        print(ElementTree.tostring(root, encoding="unicode"))
        return status

    def query(self, fields: list[str], form: list[str]) -> int:
        for name in fields:
            known = name in FIELDS and (not FIELDS[name] or self.root.find(f"gpu/{FIELDS[name]}") is not None)
            if not known:
                print(f'Field "{name}" is not a valid field to query.')
                return BAD_QUERY
        status = self.complain()
        if "noheader" not in form:
            print(", ".join(fields))
        for index, gpu in self.listed:
            print(", ".join(self._cell(name, index, gpu, "nounits" in form) for name in fields))
        return status

    def _cell(self, name: str, index: int, gpu: ElementTree.Element, bare: bool) -> str:
        own = {
            "index": str(index),
            "count": str(len(self.listed)),
            "compute_cap": self.facts["compute_capability"],
            "driver_version": self.driver,
            "clocks_throttle_reasons.active": "0x0000000000000001",
            "retired_pages.pending": "[N/A]",
        }
        value = own.get(name) or gpu.findtext(FIELDS[name], "[N/A]")
        unit = re.fullmatch(r"(-?[\d.]+) (MiB|MHz|W|C|%)", value) if bare else None
        return unit[1] if unit else "[N/A]" if value == "N/A" else value

    def apps(self, fields: list[str], form: list[str]) -> int:
        if "noheader" not in form:
            print(", ".join(fields))
        for item in self.processes:
            uuid = next((gpu.findtext("uuid", "") for index, gpu in self.listed if index == item["gpu"]), "")
            row = {"gpu_uuid": uuid, "pid": str(item["pid"]), "used_memory": str(item["mib"])}
            print(", ".join(row.get(name, "[N/A]") for name in fields))
        return self.complain()

    def names(self) -> int:
        for index, gpu in self.listed:
            print(f"GPU {index}: {gpu.findtext('product_name')} (UUID: {gpu.findtext('uuid')})")
        return self.complain()

    def links(self) -> int:
        for index, gpu in self.listed:
            print(f"GPU {index}: {gpu.findtext('product_name')} (UUID: {gpu.findtext('uuid')})")
            for link in range(self.facts["nvlinks"]):
                print(f"\t Link {link}: 25 GB/s")
        return self.complain()

    def text(self, name: str) -> int:
        print((DATA / name).read_text(), end="")
        return self.complain()


def option(words: list[str], name: str, otherwise: str = "") -> list[str]:
    values = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
    return (values or [otherwise])[0].split(",")


def main(words: list[str]) -> int:
    if not (CONTROL.exists() and DRIVER.exists()):
        print("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
        return NO_DRIVER
    gpus, form = Gpus(), option(words, "format", "csv")
    if words == ["-q", "-x"]:
        return gpus.xml()
    if words == ["-L"]:
        return gpus.names()
    if words == ["topo", "-m"]:
        return gpus.text("topology.txt")
    if words == ["nvlink", "-s"]:
        return gpus.links()
    if option(words, "query-gpu") != [""]:
        return gpus.query(option(words, "query-gpu"), form)
    if option(words, "query-compute-apps") != [""]:
        return gpus.apps(option(words, "query-compute-apps"), form)
    print(f"the lab's nvidia-smi has no answer to {words}", file=sys.stderr)
    return BAD_QUERY


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
