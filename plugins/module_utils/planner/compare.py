# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The difference between two plans in words: release, flags, kernel file, never two hundred tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
LONGEST = 60
"""Characters of a value that are shown; of longer ones only that they changed."""
ENVIRONMENT_WORDS = {
    "id": "environment",
    "python": "Python",
    "interpreter": "interpreter",
    "backend": "backend",
}


def differences(before: Document | None, after: Document | None) -> list[str]:
    """What will change on a host, one line each; empty when the plans would do the same."""
    if not after:
        return (
            [] if not before else [f"instance {name} removed" for name in sorted(before.get("instances", {}))]
        )
    if not before:
        return [
            f"instance {name} new: {_headline(item)}" for name, item in sorted(after["instances"].items())
        ]
    lines = _change("collection", before.get("collection"), after.get("collection"))
    old, new = before.get("instances", {}), after.get("instances", {})
    lines += [f"instance {name} removed" for name in sorted(set(old) - set(new))]
    lines += [f"instance {name} new: {_headline(new[name])}" for name in sorted(set(new) - set(old))]
    for name in sorted(set(old) & set(new)):
        lines += [f"{name}: {line}" for line in _instance(old[name], new[name])]
    lines += _mapping("host", _settings(before), _settings(after))
    lines += _mapping("firewall port", _firewall(before), _firewall(after))
    lines += _mapping("fabric", _fabric(before), _fabric(after))
    return lines


def _headline(item: Document) -> str:
    return f"{item['model']} on {item['release']['key']} / {item['release']['cuda']}"


def _settings(document: Document) -> dict[str, Any]:
    settings = dict(document.get("host_settings", {}))
    folders = settings.pop("directories", ())
    return {**settings, **{f"folder {item['path']}": f"{item['owner']} {item['mode']}" for item in folders}}


def _fabric(document: Document) -> dict[str, Any]:
    fabric = document.get("fabric", {})
    ports = {port["netdev"]: f"{port['address']} MTU {port['mtu']}" for port in fabric.get("ports", ())}
    roce = fabric.get("roce", {})
    return {**ports, **({"lossless priority": roce["priority"]} if roce else {})}


def _firewall(document: Document) -> dict[str, Any]:
    rules = document.get("firewall", {}).get("rules", ())
    return {str(rule["port"]): f"from {_listed(rule['sources']) or 'the host alone'}" for rule in rules}


def _instance(old: Document, new: Document) -> list[str]:
    lines = []
    if (before := _release(old)) != (after := _release(new)):
        lines.append(f"release {before} -> {after}")
    for key, word in ENVIRONMENT_WORDS.items():
        lines += _change(word, old["environment"].get(key), new["environment"].get(key))
    lines += _change("weights", old["weights"].get("path"), new["weights"].get("path"))
    lines += _change("bytes of the weights", old["weights"].get("bytes"), new["weights"].get("bytes"))
    lines += _change("device", old.get("device"), new.get("device"))
    lines += _change("GPUs", _listed(old.get("gpus")), _listed(new.get("gpus")))
    lines += _mapping("hosts", {"": old["parallel"].get("hosts")}, {"": new["parallel"].get("hosts")})
    lines += _flags(_by_flag(old), _by_flag(new))
    lines += _mapping("variable", _variables(old), _variables(new))
    lines += _mapping("port", _ports(old), _ports(new))
    lines += _change(
        "addresses",
        _listed(old.get("network", {}).get("allow")),
        _listed(new.get("network", {}).get("allow")),
    )
    lines += _change("kernel file", _kernel(old), _kernel(new))
    lines += _mapping("compiler", _compiler(old), _compiler(new))
    lines += _leaves("service", old.get("service", {}), new.get("service", {}))
    lines += _leaves("api", old.get("api", {}), new.get("api", {}))
    return lines


def _release(item: Document) -> str:
    return f"{item['release']['key']} / {item['release']['cuda']}"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values or ()))


def _by_flag(item: Document) -> dict[str, Any]:
    return {argument["flag"]: argument["value"] for argument in item.get("arguments", ())}


def _variables(item: Document) -> dict[str, Any]:
    return {entry["name"]: entry["value"] for entry in item.get("environment_variables", ())}


def _ports(item: Document) -> dict[str, Any]:
    return {entry["purpose"]: f"{entry['address']}:{entry['port']}" for entry in item.get("ports", ())}


def _kernel(item: Document) -> str:
    kernels = item.get("kernels", {})
    words = " from ".join(str(kernels[key]) for key in ("moe_file", "source") if kernels.get(key))
    files = kernels.get("tree", {}).get("files", ())
    return " ".join([words, *(f"({item['sha256'][:8]})" for item in files[:1])])


def _compiler(item: Document) -> dict[str, Any]:
    return {key: item.get("compiles", {}).get(key) for key in ("cuda_home", "ptxas_path")}


def _flags(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"flag --{flag} {_shown(new[flag])} added" for flag in sorted(set(new) - set(old))]
    lines += [f"flag --{flag} {_shown(old[flag])} removed" for flag in sorted(set(old) - set(new))]
    for flag in sorted(set(old) & set(new)):
        if old[flag] != new[flag]:
            lines.append(f"flag --{flag} {_shown(old[flag])} -> {_shown(new[flag])}")
    return lines


def _shown(value: Any) -> str:
    return "" if value is True else str(value)


def _change(word: str, before: Any, after: Any) -> list[str]:
    return [] if before == after else [f"{word} {before or 'none'} -> {after or 'none'}"]


def _leaves(word: str, before: Any, after: Any) -> list[str]:
    """Differences at any depth, by their dotted keys: all of it is in the unit or in what the launcher reads."""
    if before == after:
        return []
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = sorted({*before, *after})
        dotted = ((f"{word}.{key}", before.get(key), after.get(key)) for key in keys)
        return [line for item in dotted for line in _leaves(*item)]
    shown = [str(value) for value in (before, after)]
    if max(map(len, shown)) > LONGEST:
        return [f"{word} changed"]
    return _change(word, *shown)


def _mapping(word: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    lines = []
    for key in sorted(set(before) | set(after)):
        lines += _change(f"{word} {key}".strip(), before.get(key), after.get(key))
    return lines
