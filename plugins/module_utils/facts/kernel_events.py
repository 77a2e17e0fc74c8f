# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel log says of GPUs, with and without an Xid."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .values import pci_address, plain

OFF_BUS = 79
GSP = "gpu-gsp-timeout"
SEC2 = "gpu-sec2-timeout"
OPEN_MODULE = "gpu-needs-open-module"
CLOSED_MODULE = "gpu-needs-proprietary-module"
INIT_FAILED = "gpu-init-failed"
OTHER_VERSION = "module-version-mismatch"
MODULE_REJECTED = "module-rejected"
NO_MEMORY = "gpu-memory-frozen"
XID = "xid"
SXID = "nvswitch-sxid"

_ADDRESS = r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?"
_XID = re.compile(rf"\bXid \((?:PCI:)?({_ADDRESS})\): (\d{{1,4}})\b[, ]*(.{{0,200}})", re.IGNORECASE)
_SXID = re.compile(rf"\bSXid \((?:PCI:)?({_ADDRESS})\): (\d{{1,5}})\b[, ]*(.{{0,200}})", re.IGNORECASE)
_ANY_ADDRESS = re.compile(rf"(?:GPU at PCI:|GPU |PCI:|nvidia )({_ADDRESS})", re.IGNORECASE)
_SENTENCES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (OPEN_MODULE, re.compile(r"requires use of the NVIDIA open kernel modules", re.IGNORECASE)),
    (
        CLOSED_MODULE,
        re.compile(r"not supported by open|does not include the required GPU System", re.IGNORECASE),
    ),
    (
        SEC2,
        re.compile(
            r"sec2.{0,80}(?:time-?out|timed out|halt|fail)|(?:time-?out|timed out|halt|fail).{0,80}sec2",
            re.IGNORECASE,
        ),
    ),
    (
        GSP,
        re.compile(
            r"RPC from GSP|Cannot initialize GSP|BootGspRm|GSP.{0,80}(?:time-?out|timed out|heartbeat|fail)|GFW_?BOOT|WPR2 already up"
            r"|waiting for GSP",
            re.IGNORECASE,
        ),
    ),
    (OTHER_VERSION, re.compile(r"API mismatch", re.IGNORECASE)),
    (
        NO_MEMORY,
        re.compile(r"NV_ERR_NO_MEMORY.{0,200}_memdescAllocInternal|_memdescAllocInternal.{0,200}NO_MEMORY"),
    ),
    (INIT_FAILED, re.compile(r"RmInitAdapter failed|rm_init_adapter failed", re.IGNORECASE)),
)
_FALLEN = re.compile(r"fallen off the bus", re.IGNORECASE)
_REJECTED = re.compile(r"\bnvidia\b.{0,80}Key was rejected|"
                       r"Lockdown:.{0,80}unsigned module|nvidia: .{0,80}(?:version magic|Unknown symbol)")  # fmt: skip
_SAME_STORY = 4
"""So many lines apart, the address and the sentence that belongs to it may stand."""
_LONGEST_LINE = 2000


@dataclass(frozen=True)
class KernelEvent:
    kind: str
    """XID, SXID, or one of the codes above."""
    address: str
    """As sysfs writes it, "" where the line names no GPU."""
    number: int = 0
    words: str = ""
    """The end of the last line that said so."""
    count: int = 1


class _Events:
    def __init__(self) -> None:
        self.found: dict[tuple[str, str, int], KernelEvent] = {}

    def add(self, kind: str, address: str, number: int, words: str) -> None:
        before = self.found.get((kind, address, number))
        self.found[kind, address, number] = KernelEvent(
            kind, address, number, words.strip()[:200], before.count + 1 if before else 1
        )


def parse_kernel_log(text: str) -> list[KernelEvent]:
    """Each kind of event once a GPU, in the order of the log."""
    events = _Events()
    near, near_line = "", -_SAME_STORY  # the GPU that was named last
    for place, whole in enumerate(plain(text).splitlines()):
        line = whole[:_LONGEST_LINE]
        if "SXid" in line:
            for address, code, words in _SXID.findall(line):
                events.add(SXID, pci_address(address), int(code), words)
            continue
        told = place - near_line < _SAME_STORY
        if "NVRM" not in line:
            if told and _FALLEN.search(line):  # the rest of a message of several lines
                events.add(XID, near, OFF_BUS, line)
            elif "nvidia" in line.lower() and _REJECTED.search(line):
                events.add(MODULE_REJECTED, "", 0, line)
            continue
        xid = _XID.search(line)
        if xid:
            events.add(XID, pci_address(xid.group(1)), int(xid.group(2)), xid.group(3))
            near, near_line = pci_address(xid.group(1)), place
            continue
        named = _ANY_ADDRESS.search(line)
        if named:
            near, near_line, told = pci_address(named.group(1)), place, True
        address = near if told else ""
        if _FALLEN.search(line):
            events.add(XID, address, OFF_BUS, line.partition("NVRM:")[2])
            continue
        kind = next((kind for kind, pattern in _SENTENCES if pattern.search(line)), "")
        if kind:
            events.add(kind, address, 0, line.partition("NVRM:")[2])
    return _with_names(list(events.found.values()))


def _with_names(events: list[KernelEvent]) -> list[KernelEvent]:
    """A sentence without an address is of the only GPU that a line of its kind names."""
    named = {(event.kind, event.number) for event in events if event.address}
    return [event for event in events if event.address or (event.kind, event.number) not in named]


_LAST_ACTION = re.compile(r"\bto 0x[0-9a-f]+ \(([^)]{0,60})\)", re.IGNORECASE)


def recovery_words(event: KernelEvent) -> str:
    """What an Xid 154 says is needed now: `GPU Reset Required`, or "" for none."""
    found = _LAST_ACTION.search(event.words)
    said = found.group(1) if found else event.words
    return "" if said.strip().lower() == "none" else said.strip()
