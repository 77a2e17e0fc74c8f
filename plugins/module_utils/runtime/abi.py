# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a kernel package can be loaded beside the torch of its lock, told from their symbol tables.

Follows the rules of the dynamic loader: an object may use what its needed libraries export, and theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SHOWN = 3


class Symbol(NamedTuple):
    """One symbol that an object uses and does not define."""

    name: str
    version: str = ""
    library: str = ""
    """The library that the version is asked of; empty without a version."""
    weak: bool = False
    """The object can do without."""


@dataclass(frozen=True)
class SharedObject:
    name: str
    """Its path in the wheel."""
    needed: tuple[str, ...] = ()
    undefined: tuple[Symbol, ...] = ()
    exported: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names by version; those without a version are under the empty one."""

    def gives(self, symbol: Symbol) -> bool:
        # A library without versions satisfies every version, as it does for the loader.
        if symbol.version and any(self.exported):
            return symbol.name in self.exported.get(symbol.version, ())
        return any(symbol.name in names for names in self.exported.values())

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "needed": list(self.needed),
            "undefined": [list(symbol) for symbol in self.undefined],
            "exported": {version: sorted(names) for version, names in self.exported.items()},
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> SharedObject:
        return cls(
            entry["name"],
            tuple(entry["needed"]),
            tuple(Symbol(*symbol) for symbol in entry["undefined"]),
            {version: frozenset(names) for version, names in entry["exported"].items()},
        )


@dataclass(frozen=True)
class Rules:
    """What `files/abi.yml` says, and the engines of their kernel packages."""

    kernel_packages: tuple[str, ...]
    torch_package: str
    host_libraries: frozenset[str]
    packaged_libraries: frozenset[str]
    driver_libraries: Mapping[str, str]
    interpreter: str
    cuda_runtime: str

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Rules:
        return cls(
            tuple(entry["kernel_packages"]),
            entry["torch_package"],
            frozenset(entry["host_libraries"]),
            frozenset(entry["packaged_libraries"]),
            dict(entry["driver_libraries"]),
            entry["interpreter"],
            entry["cuda_runtime"],
        )

    def of_the_host(self, library: str) -> bool:
        return library in self.host_libraries | self.packaged_libraries or library in self.driver_libraries


@dataclass(frozen=True)
class Pairing:
    """What is to be proven, in the words of the lock."""

    kernel: str
    """The package with its version, as sentences name it."""
    torch: str
    python: str
    glibc: str
    """The oldest that the lock is for."""
    cuda: str = ""
    """The tag of the release's variant, such as cu130; empty where none is known."""


@dataclass
class _Findings:
    missing: set[tuple[str, str]] = field(default_factory=set)
    libraries_missing: set[tuple[str, str]] = field(default_factory=set)
    of_driver: set[str] = field(default_factory=set)
    of_packages: set[str] = field(default_factory=set)
    runtimes: set[str] = field(default_factory=set)
    """CUDA runtimes that the kernels or what they stand on ask for."""
    read: dict[str, SharedObject] = field(default_factory=dict)


def prove(
    kernels: Iterable[SharedObject], libraries: Mapping[str, SharedObject], rules: Rules, pairing: Pairing
) -> dict[str, Any]:
    """The record for the manifest. `libraries` are all that the wheels hold, by the name that is needed.

    Libraries are read in the order of the mapping, and only while a symbol is still open.
    """
    every = sorted(kernels, key=lambda item: item.name)
    checked = [item for item in every if _loadable(item, pairing.python)]
    findings = _Findings()
    for item in checked:
        _resolve(item, libraries, rules, findings)
    host = _host_versions(checked, rules)
    cuda = _cuda_problems(checked, findings, rules, pairing)
    problems = [
        *([] if checked else [_no_objects(pairing)]),
        *cuda,
        *_library_problems(findings, pairing),
        *_symbol_problems(findings, pairing),
        *_glibc_problems(host, pairing),
    ]
    symbols = {symbol for item in checked for symbol in item.undefined if not symbol.weak}
    good = (
        f"{pairing.kernel} finds all {len(symbols)} symbols that its {len(checked)} objects need "
        f"in {pairing.torch} and the other wheels of the lock"
    )
    return {
        "proven": not problems,
        "kernel": pairing.kernel,
        "torch": pairing.torch,
        "objects": [item.name for item in checked],
        "objects_of_other_pythons": [item.name for item in every if item not in checked],
        "symbols": len(symbols),
        "missing": [{"symbol": name, "object": where} for name, where in sorted(findings.missing)],
        "libraries_missing": [
            {"library": name, "object": where} for name, where in sorted(findings.libraries_missing)
        ],
        "host": host,
        "host_packages": sorted(findings.of_packages),
        "driver_symbols": sorted(findings.of_driver),
        "what": "; ".join(what for what, _unused in problems) or good,
        # Of two CUDA releases, everything else follows.
        "fix": "; ".join(dict.fromkeys(fix for _unused, fix in (cuda or problems))),
    }


def _loadable(item: SharedObject, python: str) -> bool:
    """Whether this Python would import it: the name of an extension may say another."""
    tag = re.search(r"\.cpython-(\d)(\d+)-", item.name)
    return tag is None or f"{tag[1]}.{tag[2]}" == python


def _resolve(
    item: SharedObject, libraries: Mapping[str, SharedObject], rules: Rules, findings: _Findings
) -> None:
    wanted = {
        symbol
        for symbol in item.undefined
        if not symbol.weak
        and symbol.library not in rules.host_libraries | rules.packaged_libraries
        and not re.match(rules.interpreter, symbol.name)
    }
    findings.runtimes |= _runtimes(item, rules)
    seen: set[str] = set()
    absent: set[str] = set()
    level = [(library, item.name) for library in item.needed]
    while level:
        users = {library: user for library, user in reversed(level) if library not in seen}
        seen |= set(users)
        for driver, pattern in rules.driver_libraries.items():
            if driver in users:
                taken = {symbol for symbol in wanted if re.match(pattern, symbol.name)}
                findings.of_driver |= {symbol.name for symbol in taken}
                wanted -= taken
        findings.of_packages |= rules.packaged_libraries & set(users) - set(libraries)
        absent |= {name for name in users if name not in libraries and not rules.of_the_host(name)}
        findings.libraries_missing |= {(name, users[name]) for name in users if name in absent}
        level = []
        for name in (name for name in libraries if name in users):
            if not wanted:
                return
            library = findings.read.setdefault(name, libraries[name])
            findings.runtimes |= _runtimes(library, rules)
            # A version is asked of one library alone.
            wanted = {
                symbol for symbol in wanted if symbol.library not in ("", name) or not library.gives(symbol)
            }
            level += [(below, library.name) for below in library.needed]
    # What an absent library would have given is told by its name already.
    findings.missing |= {(symbol.name, item.name) for symbol in wanted if symbol.library not in absent}


def _runtimes(item: SharedObject, rules: Rules) -> set[str]:
    return {library for library in item.needed if library.startswith(rules.cuda_runtime)}


def _host_versions(items: Iterable[SharedObject], rules: Rules) -> dict[str, str]:
    """The highest version of each kind that is asked of the host: GLIBC, GLIBCXX, CXXABI, GCC."""
    highest: dict[str, tuple[int, ...]] = {}
    for item in items:
        for symbol in item.undefined:
            kind, _unused, number = symbol.version.partition("_")
            if symbol.library in rules.host_libraries and re.fullmatch(r"[0-9.]+", number):
                highest[kind] = max(highest.get(kind, ()), _numbers(number))
    return {kind: ".".join(str(part) for part in highest[kind]) for kind in sorted(highest)}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


Problem = tuple[str, str]


def _no_objects(pairing: Pairing) -> Problem:
    return (
        f"the wheel of {pairing.kernel} holds no compiled kernel that Python {pairing.python} could load",
        "take a wheel of it for this Python and machine, and resolve the lock again",
    )


def _cuda_problems(
    kernels: Iterable[SharedObject], findings: _Findings, rules: Rules, pairing: Pairing
) -> list[Problem]:
    own = {name for item in kernels for name in _runtimes(item, rules)}
    release = f"{rules.cuda_runtime}{pairing.cuda[2:-1]}" if re.fullmatch(r"cu\d{3,}", pairing.cuda) else ""
    majors = " and ".join(sorted(name[len(rules.cuda_runtime) :] for name in own))
    built = f"{pairing.kernel} is built for CUDA {majors} (it needs {', '.join(sorted(own))})"
    others = sorted(findings.runtimes - own)
    if own and others:
        conflict = f" and {pairing.torch} needs {', '.join(others)}"
    elif own and release and release not in own:
        conflict = f" and the release is for {pairing.cuda}"
    elif len(own) > 1:
        conflict = ": one process would hold both"
    else:
        return []
    wanted = pairing.cuda or f"the CUDA of {pairing.torch}"
    fix = f"take the {pairing.kernel.split()[0]} that is built for {wanted}, and resolve the lock again"
    return [(built + conflict, fix)]


def _library_problems(findings: _Findings, pairing: Pairing) -> list[Problem]:
    if not findings.libraries_missing:
        return []
    users: dict[str, str] = dict(sorted(findings.libraries_missing, reverse=True))
    named = [f"{library} (needed by {users[library]})" for library in sorted(users)]
    return [
        (
            f"no wheel of the lock holds {_some(named)}",
            f"add the package that holds it, or take a {pairing.kernel.split()[0]} and a "
            f"{pairing.torch.split()[0]} of one CUDA release, and resolve the lock again",
        )
    ]


def _symbol_problems(findings: _Findings, pairing: Pairing) -> list[Problem]:
    if not findings.missing:
        return []
    names = sorted({name for name, _unused in findings.missing})
    objects = {where for _unused, where in findings.missing}
    return [
        (
            f"{pairing.kernel} needs {len(names)} symbols in {len(objects)} of its objects that neither "
            f"{pairing.torch} nor another wheel of the lock has: {_some(names)}",
            f"take the {pairing.torch.split()[0]} that {pairing.kernel} was built with, or another version of "
            f"{pairing.kernel.split()[0]}, and resolve the lock again",
        )
    ]


def _glibc_problems(host: Mapping[str, str], pairing: Pairing) -> list[Problem]:
    needed = host.get("GLIBC", "")
    if not needed or _numbers(needed) <= _numbers(pairing.glibc):
        return []
    return [
        (
            f"{pairing.kernel} needs glibc {needed} and the lock is for hosts with {pairing.glibc}",
            f"say glibc {needed} in the release's variant, so that hosts with an older one are refused",
        )
    ]


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
