# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters about the hosts of a play and the variables that each of them has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.serve_spec import instances_on

REQUIRED = object()


def values_by_host(
    hosts: Iterable[str], hostvars: Mapping[str, Any], name: str, default: Any = REQUIRED
) -> dict[str, Any]:
    """{host: its value}; `name` may have dots."""
    return {str(host): _value(str(host), hostvars[host], name, default) for host in hosts}


def _value(host: str, variables: Any, name: str, default: Any) -> Any:
    found = variables
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            if default is REQUIRED:
                raise AnsibleFilterError(f"host {host} has no variable {name}")
            return default
        found = found[part]
    return found


def expected_instances(serve: Any, host: str) -> list[str]:
    return instances_on(serve, host)


def report_names(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """What stands in a report in place of the names of hosts and of who logs in there."""
    found: dict[str, str] = {}
    for number, host in enumerate(map(str, hosts), 1):
        variables = hostvars[host]
        short = host.partition(".")[0]
        names = (host, short if not short.isdigit() else "", str(variables.get("ansible_host", "")))
        found |= {name: f"host-{number}" for name in names if name and not name.replace(".", "").isdigit()}
        user = str(variables.get("ansible_user", ""))
        if user and user != "root":
            found.setdefault(user, "user")
    return found


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "expected_instances": expected_instances,
            "report_names": report_names,
            "values_by_host": values_by_host,
        }
