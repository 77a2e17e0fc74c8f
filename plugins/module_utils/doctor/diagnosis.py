# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What should be, what is, and what to do about the difference. Judges what doctor_look saw; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..health import report as health_report
from . import status as status_words

PROBLEM, NOTE = "problem", "note"
Seen = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    code: str
    """Stable, kebab-case, for machines."""
    host: str
    subject: str
    what: str
    fix: str
    severity: str = PROBLEM

    def line(self) -> str:
        mark = "PROBLEM" if self.severity == PROBLEM else "note   "
        return f"{mark}  {self.host}  {self.subject}: {self.what} -> {self.fix}"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Limits:
    free_gib: float = 5.0


def judge(host: str, seen: Seen, expected: Iterable[str], limits: Limits) -> list[Finding]:
    """Every difference on one host; `expected` are the instances that the inventory serves there."""
    found = [*_release(host, seen, sorted(expected))]
    if seen["plan"]:
        found += [
            *_files(host, seen),
            *_units(host, seen),
            *_content(host, seen),
            *_hardware(host, seen),
        ]
    found += [*_health(host, seen), *_strangers(host, seen), *_disks(host, seen, limits), *_run(host, seen)]
    return found


def site(host: str, tags: str = "engine") -> str:
    return f"ansible-playbook site.yml -i INVENTORY --limit {host} --tags {tags}"


def _release(host: str, seen: Seen, expected: list[str]) -> Iterable[Finding]:
    if not seen["plan"]:
        if seen["current"]:
            what = f"{seen['root']}/current leads to {seen['current']}, which is not there or not whole"
            yield Finding(
                "release-gone", host, "release", what, "ansible-playbook playbooks/rollback.yml, or site.yml"
            )
        elif expected:
            what = f"nothing is installed, and the inventory serves {', '.join(expected)} here"
            yield Finding(
                "release-none",
                host,
                "release",
                what,
                f"ansible-playbook site.yml -i INVENTORY --limit {host}",
            )
        return
    missing = sorted(set(expected) - set(seen["plan"]["instances"]))
    for name in missing:
        what = "the inventory serves it here, the release on the host does not know it"
        yield Finding("instance-absent", host, name, what, site(host))
    cut_off = seen["record"].get("unfinished")
    if cut_off:
        what = f"a switch to release {cut_off['to']} began at {cut_off['since']} and did not end"
        yield Finding("switch-unfinished", host, "release", what, f"{site(host)} finishes it or goes back")
    failed = seen["record"].get("failed") or {}
    if failed:
        first = failed["why"].splitlines()[0]
        what = f"release {failed['release']} was tried at {failed['when']} and gave no token: {first}"
        yield Finding(
            "switch-failed", host, "release", what, f"mend what it says, then {site(host)}", severity=NOTE
        )
    served = seen["record"].get("served") or []
    if served and served[-1] != seen["current"] and not cut_off:
        what = (
            f"{seen['root']}/current leads to {seen['current']}, the last that gave tokens was {served[-1]}"
        )
        yield Finding("current-changed", host, "release", what, site(host))


def _files(host: str, seen: Seen) -> Iterable[Finding]:
    for entry in seen["files"]:
        what = "is gone" if entry["state"] == "gone" else f"was {entry['state']} since it was laid down"
        yield Finding(f"file-{entry['state']}", host, entry["path"], what, site(host))


def _units(host: str, seen: Seen) -> Iterable[Finding]:
    for unit in seen["units"]:
        name = unit["unit"]
        if unit["file"] != "same":
            what = f"the unit file is {unit['file']}, the release has another"
            fix = f"{site(host)} puts the planned one back; keep own settings in a drop-in"
            yield Finding(f"unit-{unit['file']}", host, name, what, fix)
        elif unit["reload"]:
            what = "the file changed and systemd has not read it"
            yield Finding("unit-not-read", host, name, what, f"on {host}: systemctl daemon-reload")
        if unit["drop_ins"]:
            what = f"own settings apply: {', '.join(unit['drop_ins'])}"
            yield Finding("unit-drop-in", host, name, what, f"on {host}: systemctl cat {name}", severity=NOTE)
        if not unit["enabled"] and unit["file"] != "missing":
            yield Finding("unit-disabled", host, name, "does not start at boot", site(host))
        yield from _serving(host, unit)


def _serving(host: str, unit: Seen) -> Iterable[Finding]:
    name, log = unit["unit"], f"journalctl -u {unit['unit']} -n 100"
    if unit["serving"]:
        if unit["restarts"]:
            what = f"serves, after {unit['restarts']} restarts by itself"
            yield Finding("unit-restarted", host, name, what, f"on {host}: {log}", severity=NOTE)
        return
    last = f"; last line: {unit['last']}" if unit["last"] else ""
    if unit["active"] == "active":
        fix = f"ansible-playbook playbooks/restart.yml -i INVENTORY --limit {host} -e instance={unit['name']}"
        yield Finding("no-token", host, name, f"runs and gives no token: {unit['why']}{last}", fix)
    elif unit["active"] == "activating" and unit["sub"] != "auto-restart":
        what = f"is starting: {unit['status'] or 'not ready yet'}"
        yield Finding("unit-starting", host, name, what, f"wait, or on {host}: {log}")
    else:
        how = f"{unit['result']}, exit status {unit['exit_status']}"
        what = f"is {unit['active'] or 'not there'} ({unit['status'] or how}){last}"
        fix = f"on {host}: {log}, then ansible-playbook playbooks/restart.yml -i INVENTORY --limit {host}"
        yield Finding("unit-failed", host, name, what, fix)


def _content(host: str, seen: Seen) -> Iterable[Finding]:
    for entry in seen["environments"]:
        if entry["problem"]:
            yield Finding("environment", host, entry["path"], entry["problem"], site(host, "runtime,engine"))
    for entry in seen["weights"]:
        if entry["state"] in ("damaged", "absent"):
            damage = "; ".join(entry["damage"][:3]) or "not there"
            more = f" and {len(entry['damage']) - 3} more" if len(entry["damage"]) > 3 else ""
            fix = f"{site(host, 'weights')} -e weights_dir=FOLDER brings what is damaged"
            yield Finding("weights", host, entry["path"], f"{entry['state']}: {damage}{more}", fix)


def _hardware(host: str, seen: Seen) -> Iterable[Finding]:
    planned = seen["plan"].get("facts", {})
    if (planned.get("driver") or "") != seen["driver"]:
        what = f"{seen['driver'] or 'none'} is loaded, {planned.get('driver') or 'none'} was planned for"
        fix = f"ansible-playbook site.yml -i INVENTORY --limit {host}"
        # The launcher starts with a point release of the planned branch.
        branches = [
            str(version or "").partition(".")[0] for version in (planned.get("driver"), seen["driver"])
        ]
        severity = NOTE if branches[0] == branches[1] else PROBLEM
        yield Finding("driver-changed", host, "driver", what, fix, severity=severity)
    wanted = len(planned.get("gpus") or ())
    if wanted != seen["gpus"]:
        what = f"{seen['gpus']} are there, {wanted} were planned for"
        fix = "nvidia-smi -L and dmesg say which is lost: reseat or replace it; or plan again"
        yield Finding("gpus-changed", host, "GPUs", what, fix)


def _health(host: str, seen: Seen) -> Iterable[Finding]:
    """What the health watch found; the service user cannot write there."""
    for item in health_report.findings(seen.get("health") or {}, host):
        severity = PROBLEM if health_report.must_not_serve(item) else NOTE
        what = f"{item['what']} ({item['decision']})"
        yield Finding(f"health-{item['code']}", host, item["subject"], what, item["fix"], severity=severity)


def _strangers(host: str, seen: Seen) -> Iterable[Finding]:
    for unit in seen["strangers"]:
        fix = f"on {host}: systemctl disable --now {unit}, if nobody wants it"
        yield Finding("unit-unknown", host, unit, "no release brought this unit", fix, severity=NOTE)
    for unit in seen["failed"]:
        yield Finding(
            "host-unit-failed", host, unit, "failed", f"on {host}: systemctl status {unit}", severity=NOTE
        )


def _disks(host: str, seen: Seen, limits: Limits) -> Iterable[Finding]:
    for disk in seen["disks"]:
        if disk["free_gib"] < limits.free_gib:
            what = f"{disk['free_gib']:.1f} GiB free of {disk['total_gib']:.0f}"
            fix = (
                f"ansible-playbook playbooks/weights_prune.yml -i INVENTORY --limit {host}, or a larger disk"
            )
            yield Finding("disk-full", host, disk["path"], what, fix)


def _run(host: str, seen: Seen) -> Iterable[Finding]:
    if seen["lock"]:
        holder = seen["lock"]
        what = f"{holder.get('what')} of {holder.get('owner')} works here since {holder.get('since')}"
        yield Finding("run-live", host, "run", what, "look again when it has ended", severity=NOTE)


def drift(host: str, changes: Iterable[str], refusals: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What the inventory says today against the plan on the host."""
    lines = list(changes)
    found = [
        Finding(
            "plan-refused", item.get("host") or host, str(item.get("where", "inventory")), str(item.get("what", "")),
            str(item.get("fix", "")),
        )
        for item in refusals
        if item.get("host") in ("", host)
    ]  # fmt: skip
    if lines:
        what = "the inventory would serve something else: " + "; ".join(lines)
        fix = f"ansible-playbook site.yml -i INVENTORY --limit {host} --check --diff, then without --check"
        found.append(Finding("plan-changed", host, "plan", what, fix, severity=NOTE))
    return found


def parity(hosts: Mapping[str, Seen]) -> list[Finding]:
    """Hosts that serve the same instance should be the same in all that its tokens come from."""
    groups: dict[str, list[str]] = {}
    for host, seen in sorted(hosts.items()):
        for name in seen["plan"].get("instances", {}):
            groups.setdefault(name, []).append(host)
    found = []
    for instance, names in sorted(groups.items()):
        for subject, answers in _compared(instance, {name: hosts[name] for name in names}).items():
            found += _odd(instance, subject, answers)
    return found


def _compared(instance: str, hosts: Mapping[str, Seen]) -> dict[str, dict[str, str]]:
    plans = {host: seen["plan"]["instances"][instance] for host, seen in hosts.items()}
    alone = all(plan["parallel"].get("nnodes", 1) == 1 for plan in plans.values())
    manifests = {
        host: {entry["path"]: entry["manifest"] for entry in seen["weights"]} for host, seen in hosts.items()
    }
    compared = {
        "engine": {
            host: f"{plan.get('engine', '')} {plan['release']['version']}".strip()
            for host, plan in plans.items()
        },
        "environment": {host: str(plan["environment"]["id"]) for host, plan in plans.items()},
        "weights": {
            host: manifests[host].get(plan["weights"]["path"], "")[:16] for host, plan in plans.items()
        },
        "driver": {host: str(seen["driver"]) for host, seen in hosts.items()},
        "kernel": {host: str(seen["kernel"]) for host, seen in hosts.items()},
        "collection": {host: str(seen["plan"].get("collection", "")) for host, seen in hosts.items()},
    }
    # Members of one group differ by their rank; replicas do not.
    return (
        {**compared, "release": {host: str(seen["current"]) for host, seen in hosts.items()}}
        if alone
        else compared
    )


def _odd(instance: str, subject: str, answers: Mapping[str, str]) -> list[Finding]:
    if len(set(answers.values())) < 2:
        return []
    counts = list(answers.values())
    common = max(sorted(set(counts)), key=counts.count)
    # Another kernel or release beside equal replicas still serves; the rest changes what the tokens are.
    severity = NOTE if subject in ("kernel", "collection") else PROBLEM
    fix = {
        "driver": "install the same driver",
        "kernel": "install and boot the same kernel",
    }
    return [
        Finding(
            f"parity-{subject.lower()}", host, f"{instance} {subject}",
            f"{answer or 'none'} here, {common or 'none'} on {_others(answers, common)}",
            fix.get(subject, site(host, "weights" if subject == "weights" else "runtime,weights,engine")),
            severity,
        )
        for host, answer in sorted(answers.items())
        if answer != common
    ]  # fmt: skip


def _others(answers: Mapping[str, str], common: str) -> str:
    return ", ".join(host for host, answer in sorted(answers.items()) if answer == common)


def report(
    hosts: Mapping[str, Seen],
    findings: Mapping[str, Iterable[Mapping[str, Any]]],
    changes: Mapping[str, Iterable[str]],
    refusals: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything about all hosts: lines for people, the same for machines, and how many problems there are."""
    said = [dict(item) for item in refusals]
    found = [Finding(**item) for host in sorted(findings) for item in findings[host]]
    seen = {host: item for host, item in hosts.items() if item}
    for host in sorted(hosts):
        if not hosts[host]:
            fix = f"ssh {host}: power, network, sshd"
            found.append(Finding("unreachable", host, "host", "could not be asked", fix))
    for host in sorted(seen):
        found += drift(host, changes.get(host, ()), said if host == min(seen) else _of_host(said, host))
    found += parity(seen)
    return {
        "lines": table(found, seen),
        "problems": sum(item.severity == PROBLEM for item in found),
        "findings": [item.to_dict() for item in found],
        "hosts": {host: _told(item) for host, item in sorted(seen.items())},
    }


def _of_host(refusals: Iterable[Mapping[str, Any]], host: str) -> list[Mapping[str, Any]]:
    return [item for item in refusals if item.get("host") == host]


def _told(seen: Seen) -> dict[str, Any]:
    """What a machine wants to know beside the findings; the whole plan is on the host."""
    kept = ("current", "units", "environments", "weights", "disks", "driver", "gpus", "kernel", "record")
    return {key: seen[key] for key in kept}


def table(findings: Iterable[Finding], hosts: Mapping[str, Seen]) -> list[str]:
    """What people read: what each host should serve, then what differs."""
    lines = []
    for host, seen in sorted(hosts.items()):
        served = [
            f"{unit['name']} {'serving' if unit['serving'] else unit['active'] or 'absent'}"
            for unit in seen["units"]
        ]
        lines.append(f"{host}  release {seen['current'] or 'none'}  {', '.join(served) or 'nothing served'}")
    found = sorted(findings, key=lambda item: (item.severity != PROBLEM, item.host))
    problems = sum(item.severity == PROBLEM for item in found)
    summary = f"{problems} problem{'' if problems == 1 else 's'}, {len(found) - problems} notes"
    return [*lines, *(item.line() for item in found), summary]


def status_line(host: str, release: str, unit: Seen) -> str:
    """One line an instance."""
    state = "serving" if unit["serving"] else "NOT SERVING"
    if unit["serving"]:
        line = f"{unit['name']}  {host}  {state}  {unit['address']}  release {release}  since {unit['since']}"
        # A member of a group says which generation it is of, and how the one before ended.
        grouped = unit["status"] if unit["status"].startswith("generation ") else ""
        return "  ".join(filter(None, (line, grouped, status_words.instance_words(unit))))
    said = unit["status"] or unit["why"] or f"{unit['result']}, exit status {unit['exit_status']}"
    return f"{unit['name']}  {host}  {state}  {unit['active'] or 'absent'}: {said}  (journalctl -u {unit['unit']})"


def status(host: str, seen: Seen, expected: Iterable[str]) -> list[tuple[bool, str]]:
    """(serving, line) of what is on the host and of what the inventory expects there."""
    lines = [(bool(unit["serving"]), status_line(host, seen["current"], unit)) for unit in seen["units"]]
    known = {unit["name"] for unit in seen["units"]}
    absent = [
        (False, f"{name}  {host}  NOT SERVING  not installed: {site(host)}")
        for name in sorted({*expected} - known)
    ]
    return lines + absent
