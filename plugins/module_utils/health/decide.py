# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a look at the GPUs means: findings, and which instances are drained or stopped. No clock, no files.

Runs on hosts too: Python 3.9, and of the collection only the reader of the kernel log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..facts.kernel_events import SXID, XID, KernelEvent, recovery_words

SCHEMA = 1
IGNORE, WARN, DRAIN, STOP = "ignore", "warn", "drain", "stop"
RECOVERED, BOOT, CLEARED = "recovered", "boot", "cleared"
RANK = {IGNORE: 0, WARN: 1, DRAIN: 2, STOP: 3}
RECOVERY_CHANGED = 154
THERMAL, POWER_BRAKE = 0x40, 0x80
MOST_FINDINGS = 200


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi told of it; None where the driver does not know the field."""

    index: int
    address: str
    recovery: str | None = None
    remap_pending: bool | None = None
    remap_failure: bool | None = None
    ecc_uncorrected: int | None = None
    clock_reasons: int | None = None


@dataclass(frozen=True)
class Reading:
    """One look at the host."""

    now: float
    boot: str
    gpus: tuple[Gpu, ...] = ()
    answered: bool = True
    """Whether nvidia-smi answered."""
    events: tuple[KernelEvent, ...] = ()
    """Kernel events since the look before."""
    first_look: bool = False
    """No look was before this one: what the log holds is older than the watch."""
    nvlink: Mapping[int, int] = field(default_factory=dict)
    """GPU -> sum of its NVLink error counters."""
    rdma: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Port -> counter -> value."""
    cleared_at: float = 0.0


@dataclass(frozen=True)
class Settings:
    mode: str
    gpus: tuple[int, ...]
    """Planned GPUs of the host."""
    instances: Mapping[str, tuple[int, ...]]
    """Instance -> its GPUs."""
    rules: Mapping[str, Any]
    """files/health.yml."""
    actions: Mapping[str, Mapping[str, str]]
    """Action -> {serving, returns, cure}, out of files/xids.yml."""
    xids: Mapping[str, tuple[str, str]]
    """Xid -> (name, action)."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        return cls(
            mode=str(data["mode"]),
            gpus=tuple(int(index) for index in data["gpus"]),
            instances={name: tuple(gpus) for name, gpus in data["instances"].items()},
            rules=data["rules"],
            actions=data["actions"],
            xids={code: (row[0], row[1]) for code, row in data["xids"].items()},
        )


@dataclass(frozen=True)
class Finding:
    code: str
    gpu: int | None
    """None: the host, or nobody knows which."""
    what: str
    cure: str
    decision: str
    returns: str
    since: float
    last: float
    boot: str

    @property
    def key(self) -> tuple[str, int | None]:
        return (self.code, self.gpu)

    @property
    def subject(self) -> str:
        return "GPUs" if self.gpu is None else f"GPU {self.gpu}"


@dataclass(frozen=True)
class State:
    """What is kept from look to look."""

    boot: str = ""
    findings: tuple[Finding, ...] = ()
    addresses: Mapping[str, int] = field(default_factory=dict)
    """PCI address -> index: a GPU that is lost is not listed any more."""
    ecc: Mapping[str, int] = field(default_factory=dict)
    nvlink: Mapping[str, int] = field(default_factory=dict)
    rdma: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    misses: Mapping[str, int] = field(default_factory=dict)
    """Index, or "silent" -> looks in a row without it."""

    @classmethod
    def from_dict(cls, data: Any) -> State:
        """A record of nonsense is no record."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            return cls()
        try:
            return cls(
                boot=str(data["boot"]),
                findings=tuple(Finding(**item) for item in data["findings"]),
                addresses={str(key): int(value) for key, value in data["addresses"].items()},
                ecc={str(key): int(value) for key, value in data["ecc"].items()},
                nvlink={str(key): int(value) for key, value in data["nvlink"].items()},
                rdma={str(key): dict(value) for key, value in data["rdma"].items()},
                misses={str(key): int(value) for key, value in data["misses"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def decide(state: State, reading: Reading, settings: Settings) -> tuple[State, dict[str, Any]]:
    """The state to keep, and the verdict that launchers, status, doctor and metrics read."""
    work = _Work(state, reading, settings)
    found = work.findings()
    kept = State(
        boot=reading.boot,
        findings=tuple(found),
        addresses={**state.addresses, **{gpu.address: gpu.index for gpu in reading.gpus if gpu.address}},
        ecc={str(gpu.index): gpu.ecc_uncorrected for gpu in reading.gpus if gpu.ecc_uncorrected is not None},
        nvlink={str(index): count for index, count in reading.nvlink.items()},
        rdma={port: dict(counters) for port, counters in reading.rdma.items()},
        misses=work.misses,
    )
    return kept, verdict(found, reading, settings)


def verdict(findings: Iterable[Finding], reading: Reading, settings: Settings) -> dict[str, Any]:
    found = list(findings)
    orders = {name: order for name, gpus in settings.instances.items() if (order := _order(found, gpus))}
    enforced = settings.mode == "enforce"
    return {
        "schema": SCHEMA,
        "mode": settings.mode,
        "boot": reading.boot,
        "at": reading.now,
        "answered": reading.answered,
        "findings": [
            {**asdict(item), "subject": item.subject}
            for item in sorted(found, key=lambda item: -RANK[item.decision])
        ],
        "instances": orders if enforced else {},
        "would": {} if enforced else orders,
    }


def _order(findings: list[Finding], gpus: tuple[int, ...]) -> dict[str, Any]:
    """What becomes of an instance on these GPUs: the hardest decision, and every reason for one."""
    mine = [
        item
        for item in findings
        if RANK[item.decision] >= RANK[DRAIN] and (item.gpu is None or item.gpu in gpus)
    ]
    if not mine or not gpus:
        return {}
    hardest = max(mine, key=lambda item: RANK[item.decision])
    return {
        "decision": hardest.decision,
        "why": _reasons(mine)[:500],
        # It is waited for only where every reason may go away by itself.
        "returns": all(item.returns == RECOVERED for item in mine),
    }


def _reasons(findings: Iterable[Finding]) -> str:
    """What the kernel said before what the driver says; each cure once."""
    told: dict[tuple[str, str], list[str]] = {}
    for item in sorted(findings, key=lambda item: item.code.startswith("reading:")):
        told.setdefault((item.subject, item.cure), []).append(item.what)
    return "; ".join(f"{subject}: {', '.join(what)} -> {cure}" for (subject, cure), what in told.items())


class _Work:
    def __init__(self, state: State, reading: Reading, settings: Settings) -> None:
        self.state, self.reading, self.settings = state, reading, settings
        self.rules = settings.rules
        self.rebooted = bool(state.boot) and state.boot != reading.boot
        self.misses: dict[str, int] = {}

    def findings(self) -> list[Finding]:
        new = [*self._events(), *self._listing(), *self._readings(), *self._growth()]
        merged = {item.key: item for item in self.state.findings if self._stays(item, new)}
        for item in new:
            before = merged.get(item.key)
            if before is None or RANK[before.decision] < RANK[item.decision]:
                merged[item.key] = item
            else:
                values = {**asdict(before), "last": item.last, "what": item.what}
                merged[item.key] = Finding(**values)
        hardest = sorted(merged.values(), key=lambda item: (-RANK[item.decision], -item.last))
        return hardest[:MOST_FINDINGS]

    def _stays(self, item: Finding, new: list[Finding]) -> bool:
        """Whether a finding of an earlier look still counts."""
        if item.last <= self.reading.cleared_at:
            return False
        if RANK[item.decision] < RANK[DRAIN]:
            return self.reading.now - item.last <= float(self.rules["shown_seconds"])
        if item.returns in (BOOT, RECOVERED) and item.boot != self.reading.boot:
            return False
        return item.returns != RECOVERED or not self._recovered(item, new)

    def _recovered(self, item: Finding, new: list[Finding]) -> bool:
        """The driver itself must say that nothing is left to do; a driver that does not know leaves it to the restart."""
        if item.gpu is None or not self.reading.answered or any(other.gpu == item.gpu for other in new):
            return False
        gpu = next((gpu for gpu in self.reading.gpus if gpu.index == item.gpu), None)
        quiet = self.reading.now - item.last >= float(self.rules["quiet_seconds"])
        return gpu is not None and gpu.recovery is not None and not recovery(gpu.recovery) and quiet

    def _finding(self, code: str, gpu: int | None, name: str, action: str, words: str = "") -> Finding:
        row = self.settings.actions[action]
        decision = row["serving"]
        unknown = gpu is None and code not in ("reading:silent",)
        if unknown and RANK[decision] > RANK[WARN]:
            if len(self.settings.gpus) == 1:
                gpu = self.settings.gpus[0]
            else:
                # Nobody knows which GPU: no instance is stopped for another's fault.
                decision = WARN
        now = self.reading.now
        what = f"{name} ({words})" if words else name
        cure = row["cure"].replace("{index}", "N" if gpu is None else str(gpu))
        return Finding(code, gpu, what, cure, decision, row.get("returns", ""), now, now, self.reading.boot)

    def _index(self, address: str) -> int | None:
        listed = {gpu.address: gpu.index for gpu in self.reading.gpus if gpu.address}
        return listed.get(address, self.state.addresses.get(address))

    # --- what the kernel said ---

    def _events(self) -> Iterator[Finding]:
        for event in self.reading.events:
            found = self._event(event)
            if found is None or found.decision == IGNORE:
                continue
            if self.reading.first_look and RANK[found.decision] > RANK[WARN]:
                # From before the watch began, and the plan was made since: said, not acted on.
                values = {**asdict(found), "decision": WARN, "what": f"{found.what}, before the watch began"}
                found = Finding(**values)
            yield found

    def _event(self, event: KernelEvent) -> Finding | None:
        gpu = self._index(event.address) if event.address else None
        if event.kind == XID and event.number == RECOVERY_CHANGED:
            action = recovery(recovery_words(event))
            return (
                self._finding("xid:154", gpu, "the recovery action changed", action, recovery_words(event))
                if action
                else None
            )
        if event.kind == XID:
            name, action = self.settings.xids.get(str(event.number), ("unlisted error", "support"))
            return self._finding(f"xid:{event.number}", gpu, f"Xid {event.number}, {name}", action)
        if event.kind == SXID and "non-fatal" not in event.words.lower() and "fatal" in event.words.lower():
            row = self.rules["fatal_sxid"]
            return self._finding(
                f"sxid:{event.number}", None, f"SXid {event.number}, {row['name']}", row["action"]
            )
        row = self.rules["sentences"].get(event.kind)
        return self._finding(f"log:{event.kind}", gpu, row["name"], row["action"]) if row else None

    # --- what the driver says ---

    def _reading(self, name: str, gpu: int | None, words: str = "") -> Finding:
        row = self.rules["readings"][name]
        return self._finding(f"reading:{name}", gpu, row["name"], row["action"], words)

    def _listing(self) -> Iterator[Finding]:
        limit = int(self.rules["misses"])
        if not self.reading.answered:
            self.misses["silent"] = self.state.misses.get("silent", 0) + 1
            if self.misses["silent"] >= limit:
                yield self._reading("silent", None)
            return
        listed = {gpu.index for gpu in self.reading.gpus}
        for index in self.settings.gpus:
            if index in listed:
                continue
            self.misses[str(index)] = self.state.misses.get(str(index), 0) + 1
            if self.misses[str(index)] >= limit:
                yield self._reading("lost", index)

    def _readings(self) -> Iterator[Finding]:
        for gpu in self.reading.gpus:
            action = recovery(gpu.recovery or "")
            if action:
                yield self._reading(f"recovery-{action}", gpu.index, gpu.recovery or "")
            if gpu.remap_failure:
                yield self._reading("remap-failure", gpu.index)
            elif gpu.remap_pending:
                yield self._reading("remap-pending", gpu.index)
            if (gpu.clock_reasons or 0) & THERMAL:
                yield self._reading("slowdown-thermal", gpu.index)
            if (gpu.clock_reasons or 0) & POWER_BRAKE:
                yield self._reading("slowdown-power", gpu.index)

    def _growth(self) -> Iterator[Finding]:
        if self.rebooted:
            return
        growth = self.rules["growth"]
        for gpu in self.reading.gpus:
            more = _more(gpu.ecc_uncorrected, self.state.ecc.get(str(gpu.index)))
            if more > 0:
                yield self._reading("ecc-uncorrected", gpu.index, f"{more} new")
        for index, count in self.reading.nvlink.items():
            more = _more(count, self.state.nvlink.get(str(index)))
            if more > int(growth["nvlink"]):
                yield self._reading("nvlink-errors", index, f"{more} new")
        for port, counters in self.reading.rdma.items():
            before = self.state.rdma.get(port, {})
            grown = [
                f"{name} {more} new"
                for name, value in sorted(counters.items())
                if (more := _more(value, before.get(name)))
                > int(growth["rdma_link_downed" if name == "link_downed" else "rdma"])
            ]
            if grown:
                row = self.rules["readings"]["rdma-errors"]
                found = self._finding(
                    f"rdma:{port}", None, row["name"], row["action"], f"{port}: {', '.join(grown)}"
                )
                yield found


def _more(value: int | None, before: int | None) -> int:
    """Counters that were reset have not grown."""
    return value - before if value is not None and before is not None and value > before else 0


def recovery(words: str) -> str:
    """The action of files/xids.yml that the driver's recovery action asks for; "" for none or an unknown one."""
    low = words.strip().lower()
    if low in ("", "none", "n/a", "[n/a]"):
        return ""
    if "reboot" in low or "restart" in low:
        return "reboot"
    return "reset" if "reset" in low or "drain" in low else ""
