# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of the three test tiers, the longest first: what each runs and in which tiers.

Within a step, pytest markers choose the tests of a tier: `slow` ones start with `make test`, `long` ones with
`make test-all`. A new test file belongs to a step; tests/unit/tools/test_tiers.py finds one that has none.
"""

from __future__ import annotations

from dataclasses import dataclass

TIERS = ("check", "test", "all")
MARKERS = {"check": "not slow and not long", "test": "not long", "all": ""}
SHELL_SCRIPTS = "$(grep --directories=skip --files-with-matches '^#!/usr/bin/env bash' tools/* .ci/run)"


@dataclass(frozen=True)
class Step:
    """`first` is the shortest tier that runs it; `pytest` holds paths, `command` anything else."""

    name: str
    about: str
    first: str
    command: tuple[str, ...] = ()
    pytest: tuple[str, ...] = ()
    workers: int = 0
    """pytest-xdist processes; the step counts as that many."""
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    """Not beside these: together they would fill the disk."""
    alone: bool = False
    """Keeps the whole machine busy: nothing runs beside it."""
    changed_files: tuple[str, ...] = ()
    """In `make check` the command gets only files below these that changed since it last passed."""

    def runs_in(self, tier: str) -> bool:
        return TIERS.index(self.first) <= TIERS.index(tier)


def lab(name: str, about: str, *modules: str, first: str = "test", **how: object) -> Step:
    """A step of booted hosts: modules of tests/lab."""
    return Step(name, about, first, pytest=tuple(f"tests/lab/test_{module}.py" for module in modules), **how)  # type: ignore[arg-type]


STEPS = (
    Step(
        "environment",
        "the engine's environment, installed once and shared read-only by the hosts of other steps",
        "all",
        command=(
            *("env", "PYTHONPATH={root}/collections:{root}", "ANSIBLE_COLLECTIONS_PATH={root}/collections"),
            *("python", "-m", "tests.lab.whole_environment", "{scratch}/engine"),
        ),
    ),
    Step(
        "demo",
        "`make demo` in a fresh clone: bundle, bare host, token with the real engine, second run, check mode, "
        "oldest ansible-core, `make demo-clean`",
        "test",
        pytest=(
            "tests/site/test_demo.py",
            "tests/site/test_demo_flags.py",
            "tests/site/test_demo_measured.py",
            "tests/site/test_demo_taken_away.py",
        ),
    ),
    Step(
        "unit",
        "unit and security tests",
        "check",
        pytest=("tests/unit", "tests/security"),
        workers=2,
    ),
    Step("types", "mypy, strict, over module_utils", "check", command=("mypy", "plugins/module_utils")),
    Step(
        "imports",
        "import contracts: pure packages import nothing that touches the machine",
        "check",
        command=("env", "PYTHONPATH=collections:tools", "lint-imports", "--no-logo", "--cache-dir", ".work/imports"),
    ),
    Step(
        "ansible-lint",
        "ansible-lint; in `make check` only over files that changed since they last passed",
        "check",
        command=("ansible-lint", "--offline", "--strict"),
        changed_files=("roles", "playbooks", "site.yml", "inventories", "molecule", "meta"),
    ),
    Step("yaml", "yamllint", "check", command=("yamllint", "--strict", ".")),
    Step("format", "ruff format", "check", command=("ruff", "format", "--check", ".")),
    Step("lint", "ruff check", "check", command=("ruff", "check", ".")),
    Step("shell", "shellcheck over all shell scripts", "check", command=(
        "bash", "-c", "shellcheck --external-sources --source-path=tools tools/lib.sh roles/bundle/files/setup "
        + SHELL_SCRIPTS,
    )),
    Step("changelog", "changelog fragments", "check", command=("antsibull-changelog", "lint")),
    lab("engine", "the unit with the real engine and with a stand-in: states, confinement, faults", "engine",
        needs=("environment",)),
    lab("second-engine", "an engine of the tests on a booted host: started, probed, drained, removed", "toy_engine",
        first="all"),
    lab("lightllm", "LightLLM with a stand-in on a booted host: started, drained, restarted, failed, removed", "lightllm",
        first="all"),
    lab("releases", "releases: upgrade, failing upgrade, rollback, doctor, removal", "releases"),
    lab("groups", "a group of two hosts with the stand-in engine: switch, kill, rollback", "groups"),
    lab("gateway", "the gateway with keys, and monitoring", "gateway"),
    Step(
        "collection",
        "the archive, an installed collection, the air-gapped controller, the tools' refusals",
        "test",
        pytest=(
            "tests/collection/test_bundle_offline.py",
            "tests/collection/test_engine_checksums.py",
            "tests/collection/test_installed.py",
            "tests/collection/test_kernel_lookup.py",
            "tests/collection/test_locks.py",
            "tests/collection/test_tools.py",
        ),
    ),
    Step(
        "documentation",
        "modules, filters, roles and playbooks have documentation that antsibull-docs accepts",
        "test",
        command=("antsibull-docs", "lint-collection-docs", "--plugin-docs", "."),
    ),
    Step("handbook", "the handbook is built without warnings", "all", command=("tools/docs",)),
    Step("galaxy", "the archive passes galaxy-importer, ansible-builder and sanity", "all", command=("tools/galaxy",)),
    Step("oldest", "the oldest ansible-core that is supported", "test", pytest=("tests/collection/test_oldest.py",)),
    Step("refusals", "site.yml refuses bad input on a bare host", "test", pytest=("tests/site/test_refusals.py",)),
    lab("health", "the health watch: observe says, enforce drains and stops, and lets serve again", "health", first="all"),
    lab("weights", "weights: published, repaired, replaced, pruned", "weights", first="all"),
    lab("runtime", "environments on hosts from wheels", "runtime", first="all"),
    lab("packages", "Debian packages from a bundle", "packages", first="all"),
    lab("fan-out", "weights between hosts", "fan_out", first="all"),
    Step("swarm", "swarm agents in network namespaces", "test", pytest=("tests/swarm",)),
    lab("rehearsal", "the inventory a800-580 applied whole on a host that looks like eight A800: bundle to removal",
        "rehearsal", first="all", after=("environment",)),
    lab("standby", "an upgrade behind the gateway without a lost request", "standby", first="all"),
    lab("hosts", "the lab: hosts, isolation, snapshots, power", "hosts", "labs", "refusals"),
    lab("firewall", "the firewall, conda packages", "firewall", "pixi", first="all"),
    lab("network", "fabric addresses through three network managers", "fabric_network", first="all"),
    lab("toolchain", "the compiler wheels on a real host", "toolchain", first="all", needs=("environment",)),
    Step(
        "molecule",
        "every molecule scenario, from destroy to destroy",
        "test",
        pytest=("tests/site/test_scenarios.py",),
        after=("demo",),
    ),
    Step("sanity", "ansible-test sanity, newest ansible-core", "test", command=("tools/sanity",)),
    Step(
        "sanity-oldest",
        "ansible-test sanity, oldest ansible-core",
        "all",
        command=("tools/sanity", "--venv", "{root}/.venv-oldest"),
    ),
    Step(
        "facts",
        "10,000 damaged captures of hosts: the truth or a named fault, never another host",
        "all",
        command=("python", "tests/benchmarks/bench_facts.py"),
    ),
    lab("group-engine", "two hosts with the real engine and the real torchrun", "group_engine", first="all",
        needs=("environment",), alone=True),
    lab("fabric", "two emulated guests with RDMA", "fabric", first="all", alone=True),
    lab("guest", "an emulated guest: clock jumps, memory that runs out, RDMA", "guest", first="all", alone=True),
)  # fmt: skip
