# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contracts of import-linter that know our names: `host.py` and `*_host.py` touch the machine, all other files are pure."""

from __future__ import annotations

from typing import Any

from importlinter import Contract, ContractCheck, fields, output


def touches_the_machine(module: str) -> bool:
    leaf = module.rsplit(".", 1)[-1]
    return leaf == "host" or leaf.endswith("_host")


class PureFiles(Contract):
    """No pure file imports a module that reads or changes the machine."""

    root = fields.StringField()
    machine_modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        forbidden = set(self.machine_modules)  # type: ignore[call-overload]
        found = [
            f"{module} imports {imported}"
            for module in sorted(graph.modules)
            if module.startswith(f"{self.root}.") and not touches_the_machine(module)
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            if imported.split(".")[0] in forbidden or imported in forbidden
        ]
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        _print(check, "move it to a file named host.py or *_host.py")


class PurePackages(Contract):
    """No file of a package that decides imports, directly or through others, a file that touches the machine."""

    root = fields.StringField()
    packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        hosts = sorted(m for m in graph.modules if m.startswith(f"{self.root}.") and touches_the_machine(m))
        found = []
        for package in self.packages:  # type: ignore[attr-defined]
            top = f"{self.root}.{package}"
            for host in hosts:
                if host == top or host.startswith(f"{top}."):
                    continue
                chain = graph.find_shortest_chain(importer=top, imported=host, as_packages=True)
                if chain:
                    found.append(" -> ".join(chain))
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        _print(check, "pass the values in, or import the pure file beside it")


class EnginePackages(Contract):
    """Nobody imports the package of an engine, but the engine itself; the registry finds it by its name."""

    root = fields.StringField()
    shared = fields.ListField(subfield=fields.StringField())

    def check(self, graph: Any, verbose: bool) -> ContractCheck:
        engines = f"{self.root}.engines"
        owners = {
            f"{engines}.{rest[0]}"
            for module in graph.modules
            if module.startswith(f"{engines}.") and len(rest := module[len(engines) + 1 :].split(".")) > 1
        } - {f"{engines}.{name}" for name in self.shared}  # type: ignore[attr-defined]
        found = [
            f"{module} imports {imported}"
            for module in sorted(graph.modules)
            for imported in sorted(graph.find_modules_directly_imported_by(module))
            for owner in owners
            if _within(imported, owner) and not _within(module, owner)
        ]
        return ContractCheck(kept=bool(owners) and not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        _print(check, "ask engines.registry for the engine, or read what it put into the plan")


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _print(check: ContractCheck, fix: str) -> None:
    for line in check.metadata["found"]:
        output.print_error(line)
    output.print_error(f"fix: {fix}")
