#!/usr/bin/env python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests of a tier: tools/tiers.py check|test|all [--only STEP,STEP] [--list]

The steps stand in tools/steps.py. Every step writes a log; a failed run ends with the first failure, the journal of
its host and the last Ansible task.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from leftovers import begin_scratch, remove_leftovers
from steps import MARKERS, STEPS, TIERS, Step
from tiers_report import GIB, REPORT_LINES, Peaks, existing, failed_tests, last_line, report_failure, slowest

ROOT = Path(__file__).resolve().parents[1]
# What a run needs at its peak, beside the download cache, and what the cache grows to.
DISK_GIB = {"check": 0, "test": 26, "all": 40}
CACHE_GIB = 7
# A step that runs for this long hangs.
HANGS_AFTER_SECONDS = 5400
NOTHING_COLLECTED = 5


def say(words: str) -> None:
    print(f"\033[1m== {words}\033[0m" if sys.stdout.isatty() else f"== {words}", flush=True)


def stop(words: str) -> None:
    print(f"STOPPED  {words}", file=sys.stderr)
    sys.exit(1)


# --- before the first step ---


def scratch_parent() -> Path:
    """On a disk: /tmp may be memory."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


def cache_folder() -> Path:
    named = os.environ.get("BAREMETAL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "baremetal-sglang"


def size_of(folder: Path) -> int:
    done = subprocess.run(["du", "-sB1", str(folder)], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0


def require_disk(tier: str) -> None:
    """Refuse a disk that is too small before anything is fetched or made."""
    cache = cache_folder()
    wanted: dict[int, int] = {}
    places: dict[int, Path] = {}
    needs = {scratch_parent(): DISK_GIB[tier] * GIB, cache: max(0, CACHE_GIB * GIB - size_of(cache))}
    for folder, size in needs.items():
        device = existing(folder).stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        places.setdefault(device, folder)
    for device, size in wanted.items():
        free = shutil.disk_usage(existing(places[device])).free
        if free < size:
            stop(
                f"the tests need {size / GIB:.0f} GiB on the disk of {places[device]}, which has "
                f"{free / GIB:.0f} GiB free: free {(size - free) / GIB:.0f} GiB, or set TMPDIR (test hosts) and "
                "BAREMETAL_CACHE (downloads) to folders on a larger disk."
            )


def prepare(tier: str) -> None:
    """Debian packages and both controller environments."""
    for profile in ("lab", "gateway", "guests", "browser"):
        if profile != "guests" or tier == "all":
            shell(f". tools/lib.sh; need_packages {profile}")
    shell("tools/controller; tools/controller requirements/oldest.txt .venv-oldest")


def shell(script: str) -> None:
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


# --- steps ---


def listed(*words: str) -> list[Path]:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in paths if path.suffix in (".yml", ".yaml") and path.is_file()]


def hashes(paths: list[Path]) -> dict[str, str]:
    return {str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def changed_files(folders: tuple[str, ...], before: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Those that differ from what passed, or from the last commit where nothing is known; and all, with hashes."""
    others = listed("ls-files", "--others", "--exclude-standard", "-z", "--", *folders)
    now = hashes([*listed("ls-files", "--cached", "-z", "--", *folders), *others])
    if before:
        return sorted(name for name, digest in now.items() if before.get(name) != digest), now
    edited = listed("diff", "--name-only", "-z", "HEAD", "--", *folders)
    return sorted(hashes([*edited, *others])), now


class Run:
    """The steps of one run, side by side as far as the machine allows."""

    def __init__(self, tier: str, steps: list[Step], logs: Path, scratch: Path | None) -> None:
        self.tier, self.logs, self.scratch = tier, logs, scratch
        self.waiting, self.running = list(steps), {}  # type: ignore[var-annotated]
        self.results: dict[str, tuple[str, float]] = {}
        self.order_of_failures: list[str] = []
        self.linted: dict[str, dict[str, str]] = {}
        cores = os.cpu_count() or 1
        # Steps wait for processes and hosts half of their time.
        self.slots = 64 if tier == "check" else 2 * cores
        self.environment = {
            **os.environ,
            "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        }
        # Hundreds of Python processes would compile the same modules again; what make was told is not for others.
        for name in ("PYTHONDONTWRITEBYTECODE", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "ONLY", "LIST"):
            self.environment.pop(name, None)
        if scratch:
            self.environment["TMPDIR"] = str(scratch / "tmp")
            (scratch / "tmp").mkdir()
            if "SGLANG_ENVIRONMENT" in os.environ:
                self.waiting = [step for step in self.waiting if step.name != "environment"]
            elif any(step.name == "environment" for step in self.waiting):
                self.environment["SGLANG_ENVIRONMENT"] = str(scratch / "engine")

    def command_of(self, step: Step) -> list[str] | None:
        """None where nothing changed since the step passed."""
        if step.pytest:
            return self.pytest_of(step)
        words = [word.format(root=ROOT, scratch=self.scratch) for word in step.command]
        if step.changed_files and self.tier == "check":
            changed, now = changed_files(step.changed_files, read_json(self.record(step)))
            self.linted[step.name] = now
            return [*words, *changed] if changed else None
        return words

    def record(self, step: Step) -> Path:
        return ROOT / ".work" / f"passed-{step.name}.json"

    def pytest_of(self, step: Step) -> list[str]:
        words = ["pytest", "-ra", "--durations=10", f"--junitxml={self.logs / step.name}.xml"]
        words += ["-p", "no:cacheprovider"]
        if self.scratch:
            words.append(f"--basetemp={self.scratch / step.name}")
        if MARKERS[self.tier]:
            words += ["-m", MARKERS[self.tier]]
        if step.workers:
            words += ["-n", str(step.workers), "--dist", "worksteal"]
        return [*words, *(path for path in step.pytest if (ROOT / path).exists())]

    def may_start(self, step: Step) -> bool:
        known = {item.name for item in self.waiting} | set(self.running)
        if any(name in known for name in (*step.needs, *step.after)):
            return False
        busy = sum(max(1, item[0].workers) for item in self.running.values())
        if step.alone or any(item[0].alone for item in self.running.values()):
            return busy == 0
        return busy + max(1, step.workers) <= self.slots or busy == 0

    def start(self, step: Step) -> None:
        self.waiting.remove(step)
        failed = [name for name in step.needs if self.results.get(name, ("ok", 0))[0] == "FAILED"]
        command = self.command_of(step)
        if failed:
            self.finish(step, "FAILED", 0, f"not run: {', '.join(failed)} failed")
        elif command is None:
            self.finish(step, "ok", 0, "no file changed since it passed")
        else:
            environment = {
                **self.environment,
                "BAREMETAL_TEST_EVIDENCE": str(self.logs / step.name),
                "ANSIBLE_LOG_PATH": str(self.logs / f"{step.name}.ansible.log"),
            }
            with (self.logs / f"{step.name}.log").open("w") as log:
                # Ended with the driver, however that ends: pytest then takes its hosts away.
                words = ["setpriv", "--pdeathsig", "INT", "--", *command]
                process = subprocess.Popen(
                    words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            self.running[step.name] = (step, process, time.monotonic())

    def finish(self, step: Step, result: str, seconds: float, note: str) -> None:
        self.results[step.name] = (result, seconds)
        print(f"  {result:7} {step.name:14} {seconds:5.0f} s  {note}", flush=True)
        if result == "FAILED":
            self.order_of_failures.append(step.name)
        elif step.name in self.linted:
            self.record(step).parent.mkdir(exist_ok=True)
            self.record(step).write_text(json.dumps(self.linted[step.name]))

    def collect(self) -> None:
        for step, process, begun in list(self.running.values()):
            seconds = time.monotonic() - begun
            before = processor_seconds()
            status = process.poll()
            if status is None and seconds < HANGS_AFTER_SECONDS:
                continue
            if status is None:
                end_group(process)
            del self.running[step.name]
            good = status == 0 or (bool(step.pytest) and status == NOTHING_COLLECTED)
            note = f"{processor_seconds() - before:4.0f} s of processor; {last_line(self.logs / f'{step.name}.log')}"
            self.finish(step, "ok" if good else "FAILED", seconds, note)
            if self.scratch:
                remove_leftovers(ROOT, self.scratch / step.name)

    def all_steps(self) -> None:
        while self.waiting or self.running:
            for step in list(self.waiting):
                if self.may_start(step):
                    self.start(step)
            self.collect()
            time.sleep(0.2)

    def interrupt(self) -> None:
        """As one step at a time would end: pytest takes its hosts away."""
        for _step, process, _begun in self.running.values():
            end_group(process)


def processor_seconds() -> float:
    """Of all processes below this one that have ended; hosts of the lab are no part of it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def end_group(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, 240), (signal.SIGKILL, 30)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


# --- after the last step ---


def report(run: Run, peaks: Peaks, seconds: float) -> int:
    if run.tier != "check":
        say("slowest tests")
        print("\n".join(slowest(run.logs)))
        memory, disk = peaks.most
        print(f"peaks above the start: {memory:.1f} GiB of memory, {disk:.1f} GiB of disk")
    failed = run.order_of_failures
    if failed:
        first = report_failure(run.logs, failed[0])
        others = failed_tests(run.logs, failed)
        print("\n".join([*first[:1], *first[1:][-(REPORT_LINES - len(others) - 4) :]]))
        print("\n".join(["FAILED TESTS", *others]))
        print(f"STOPPED  failed: {', '.join(failed)}; after {seconds:.0f} s. Everything else: {run.logs}")
        return 1
    say(f"all good after {seconds:.0f} s; logs: {run.logs}")
    return 0


def listing() -> str:
    lines = [f"{'step':14} {'first tier':10} what"]
    lines += [f"{step.name:14} {step.first:10} {step.about}" for step in STEPS]
    return "\n".join(lines)


def chosen(tier: str, only: str) -> list[Step]:
    names = [name for name in only.replace(",", " ").split() if name]
    known = {step.name: step for step in STEPS}
    unknown = sorted(set(names) - set(known))
    if unknown:
        stop(f"unknown step {', '.join(unknown)}; the steps are: {', '.join(known)}")
    later = sorted(name for name in names if not known[name].runs_in(tier))
    if later:
        stop(f"step {', '.join(later)} belongs to a longer tier: sudo make test-all ONLY={','.join(names)}")
    wanted = set(names) | {need for name in names for need in known[name].needs}
    return [step for step in STEPS if step.runs_in(tier) and (not names or step.name in wanted)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tier", choices=TIERS)
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--list", action="store_true", help="show the steps")
    given = parser.parse_args()
    if given.list:
        print(listing())
        return 0
    steps = chosen(given.tier, given.only)
    target = {"check": "check", "test": "test", "all": "test-all"}[given.tier]
    scratch = None
    if given.tier != "check":
        if os.geteuid() != 0:
            stop(f"the tests boot real hosts and need root: sudo make {target} (make check needs no root)")
        require_disk(given.tier)
        prepare(given.tier)
        remove_leftovers(ROOT)
        scratch = begin_scratch(scratch_parent())
    logs = ROOT / ".work" / "tests" / given.tier
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    say(f"make {target}: {len(steps)} steps; logs: {logs}")
    begun = time.monotonic()
    peaks = Peaks(scratch or ROOT)
    peaks.start()
    run = Run(given.tier, steps, logs, scratch)
    # Also where a shell that ran us in the background had it ignored: the steps inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        run.all_steps()
    except KeyboardInterrupt:
        say("interrupted: ending the steps that run")
        run.interrupt()
        return 130
    finally:
        peaks.over.set()
        if scratch:
            remove_leftovers(ROOT, scratch)
    return report(run, peaks, time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main())
