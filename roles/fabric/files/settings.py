# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets what a card forgets at every boot: trust in DSCP, PFC on one priority, ECN, the type of service of RDMA.

    python3 settings.py [--check] settings.json

Exit status 3 with --check: something is not as wanted, and the lines say what.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any

ROOT = os.environ.get("FABRIC_ROOT", "/")
PRIORITIES = 8
ECN_SIDES = ("roce_np", "roce_rp")


class SettingError(Exception):
    """What could not be set, and how it may be."""


def at(path: str) -> str:
    return os.path.join(ROOT, path.lstrip("/"))


def run(*words: str) -> str:
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
    )
    if done.returncode:
        raise SettingError(f"{' '.join(words)}: {done.stdout.strip()}")
    return done.stdout


def read(path: str) -> str:
    try:
        with open(at(path), encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def pfc_of(priority: int) -> list[str]:
    return ["1" if number == priority else "0" for number in range(PRIORITIES)]


def parse_mlnx_qos(text: str) -> tuple[str, list[str]]:
    """(trust, enabled per priority) out of what `mlnx_qos -i NETDEV` prints."""
    trust = re.search(r"trust state:\s*(\w+)", text)
    enabled = re.search(r"^\s*enabled\s+([01](?:\s+[01]){7})", text, re.MULTILINE)
    return trust.group(1) if trust else "", enabled.group(1).split() if enabled else []


class MlnxQos:
    """The tool of the vendor's driver."""

    name = "mlnx_qos"

    def wrong(self, netdev: str, wanted: dict[str, Any]) -> list[str]:
        trust, enabled = parse_mlnx_qos(run("mlnx_qos", "-i", netdev))
        found = [] if trust == "dscp" else [f"{netdev} trusts {trust or 'nothing known'}, not dscp"]
        if enabled != pfc_of(wanted["priority"]):
            found.append(
                f"{netdev} has PFC {','.join(enabled) or 'unknown'}, not on priority {wanted['priority']} alone"
            )
        return found

    def set(self, netdev: str, wanted: dict[str, Any]) -> None:
        run("mlnx_qos", "-i", netdev, "--trust", "dscp", "--pfc", ",".join(pfc_of(wanted["priority"])))


class Dcb:
    """iproute2's tool, for drivers of the kernel; a DSCP entry makes them trust DSCP."""

    name = "dcb"

    def wrong(self, netdev: str, wanted: dict[str, Any]) -> list[str]:
        pfc = run("dcb", "pfc", "show", "dev", netdev, "prio-pfc")
        app = run("dcb", "app", "show", "dev", netdev, "dscp-prio")
        enabled = re.findall(r"(\d):(on|off)", pfc)
        found = []
        if [number for number, state in enabled if state == "on"] != [str(wanted["priority"])]:
            found.append(f"{netdev} has PFC not on priority {wanted['priority']} alone")
        # dcb names the code points that have a name: 26 is AF31.
        if not re.search(rf"\b(?:{wanted['dscp']}|AF31):{wanted['priority']}\b", app):
            found.append(f"{netdev} does not put DSCP {wanted['dscp']} on priority {wanted['priority']}")
        return found

    def set(self, netdev: str, wanted: dict[str, Any]) -> None:
        run("dcb", "pfc", "set", "dev", netdev, "prio-pfc", "all:off", f"{wanted['priority']}:on")
        run("dcb", "app", "replace", "dev", netdev, "dscp-prio", f"{wanted['dscp']}:{wanted['priority']}")


def tool() -> Any:
    for kind in (MlnxQos, Dcb):
        if shutil.which(kind.name):
            return kind()
    raise SettingError("there is neither mlnx_qos nor dcb: install the card's tools, or iproute2")


def ecn_files(netdev: str, priority: int) -> list[str]:
    """The switches of the vendor's driver; without them the driver has ECN on for every priority."""
    found = (f"/sys/class/net/{netdev}/ecn/{side}/enable/{priority}" for side in ECN_SIDES)
    return [path for path in found if os.path.exists(at(path))]


def tos_file(port: dict[str, Any]) -> str:
    return f"/sys/kernel/config/rdma_cm/{port['name']}/ports/{port['port']}/default_roce_tos"


def wrong(wanted: dict[str, Any]) -> list[str]:
    found = []
    for port in wanted["ports"]:
        found += tool().wrong(port["netdev"], wanted)
        for path in ecn_files(port["netdev"], wanted["priority"]):
            if read(path) != "1":
                found.append(f"{path} is {read(path) or 'unreadable'}, not 1")
        make_folder(port)
        if read(tos_file(port)) != str(wanted["tos"]):
            found.append(
                f"{port['name']} has type of service {read(tos_file(port)) or 'unknown'}, not {wanted['tos']}"
            )
    return found


def make_folder(port: dict[str, Any]) -> None:
    """configfs shows a device's values once its folder was asked for; this changes none of them."""
    folder = at(f"/sys/kernel/config/rdma_cm/{port['name']}")
    if os.path.isdir(os.path.dirname(folder)) and not os.path.isdir(folder):
        os.mkdir(folder)


def write(path: str, value: str) -> None:
    try:
        with open(at(path), "w", encoding="utf-8") as stream:
            stream.write(value)
    except OSError as error:
        raise SettingError(
            f"{path} cannot be written ({error.strerror}): modprobe rdma_cm makes configfs's"
        ) from None


def apply(wanted: dict[str, Any]) -> None:
    problems = []
    for port in wanted["ports"]:
        steps = [lambda port=port: tool().set(port["netdev"], wanted)]
        steps += [
            lambda path=path: write(path, "1") for path in ecn_files(port["netdev"], wanted["priority"])
        ]
        steps.append(lambda port=port: (make_folder(port), write(tos_file(port), str(wanted["tos"]))))
        for step in steps:
            try:
                step()
            except SettingError as error:
                problems.append(f"{port['netdev']}: {error}")
    if problems:
        raise SettingError("; ".join(problems))


def main(words: list[str]) -> int:
    with open(words[-1], encoding="utf-8") as stream:
        wanted = json.load(stream)
    if not wanted:
        return 0
    try:
        if "--check" not in words:
            apply(wanted)
        found = wrong(wanted)
    except SettingError as error:
        found = [str(error)]
    for line in found:
        print(line)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
