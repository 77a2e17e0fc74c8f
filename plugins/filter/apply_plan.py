# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that hand a plan, or a bundle's manifest, to the roles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.baremetal.sglang.plugins.module_utils.acceptance import report as acceptance
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import debs as bundle_debs
from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import manifest as bundle_manifest
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import text_lines
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor import diagnosis as doctor
from ansible_collections.baremetal.sglang.plugins.module_utils.fabric import gates as fabric_gates
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway import config as gateway_config
from ansible_collections.baremetal.sglang.plugins.module_utils.health import settings as health
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring import (
    dashboard as grafana_dashboard,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.monitoring import scrape_config, series
from ansible_collections.baremetal.sglang.plugins.module_utils.planner import policy
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.plan import Plan
from ansible_collections.baremetal.sglang.plugins.module_utils.release import together
from ansible_collections.baremetal.sglang.plugins.module_utils.service import application as plan_application
from ansible_collections.baremetal.sglang.plugins.module_utils.service import group_secret
from ansible_collections.baremetal.sglang.plugins.module_utils.service import members_host as members
from ansible_collections.baremetal.sglang.plugins.module_utils.service import temporary_instance as scratch
from ansible_collections.baremetal.sglang.plugins.module_utils.swarm import transfer_batches
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import derive
from ansible_collections.baremetal.sglang.plugins.module_utils.verification import report as verification


def plain(value: Any) -> Any:
    """Out of Ansible's lazy containers and tagged strings, into plain ones."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return json.loads(json.dumps(value))


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def shim(*values: Any) -> Any:
        try:
            return function(*(plain(value) for value in values))
        except (KeyError, TypeError) as error:
            raise AnsibleFilterError(
                f"{function.__name__}: this is not a plan of this version: {error}"
            ) from error
        except (bundle_manifest.BundleError, ValueError) as error:
            raise AnsibleFilterError(f"REFUSED  {error}") from error

    return shim


def _of_plan(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def typed(plan: Mapping[str, Any], *values: Any) -> Any:
        return function(Plan.from_dict(plan), *values)

    return _filter(typed)


def _of_plans(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def typed(plans: Iterable[Mapping[str, Any]], *values: Any) -> Any:
        return function([Plan.from_dict(plan) for plan in plans], *values)

    return _filter(typed)


def doctor_report(looked: Mapping[str, Any], planned: Mapping[str, Any]) -> dict[str, Any]:
    return doctor.report(
        {host: item.get("seen", {}) for host, item in looked.items()},
        {host: item.get("findings", []) for host, item in looked.items()},
        planned.get("changes", {}),
        planned.get("refusals", []),
    )


def fabric_verdict(reports: Mapping[str, Any], plans: Mapping[str, Any]) -> dict[str, Any]:
    return fabric_gates.judge(reports, plans).to_dict()


def effective_policy(defaults: Mapping[str, Any], given: Any = None) -> dict[str, Any]:
    """files/policy.yml with what the inventory says in its place."""
    found = policy.effective(defaults, given)
    if found.refusals:
        lines = text_lines(found.refusals)
        raise ValueError("\n".join(lines).removeprefix("REFUSED  "))
    return found.values


def policy_refusals(defaults: Mapping[str, Any], given: Any = None) -> list[str]:
    return [line for refusal in policy.effective(defaults, given).refusals for line in refusal.lines()]


def acceptance_report(
    measured: Mapping[str, Any],
    data: Mapping[str, Any],
    hardware: list[Any],
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    partial = [host for host, known in (facts or {}).items() if known.get("nvlink") == "partial"]
    return acceptance.report(measured, data, hardware, partial)


def group_step_errors(
    started: Mapping[str, Any], host: str, verified: Mapping[str, Any] | None = None
) -> str:
    """`started` and `verified`: what each host registered of the steps that all of them take."""
    steps = {name: [step, (verified or {}).get(name) or {}] for name, step in started.items()}
    return together.errors(steps, host)


def verify_report(checked: Mapping[str, Any]) -> dict[str, Any]:
    """Out of what each host registered from a loop over its instances."""
    return verification.report(
        {
            host: [one for one in (item or {}).get("results", []) if "results" in one]
            for host, item in checked.items()
        }
    )


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "acceptance_report": _filter(acceptance_report),
            "bundle_debs": _filter(bundle_debs.wanted),
            "bundle_conda": _of_plans(plan_application.bundle_conda),
            "bundle_environments": _of_plans(plan_application.bundle_environments),
            "bundle_report": _of_plans(plan_application.bundle_report),
            "bundle_weights": _of_plans(plan_application.bundle_weights),
            "bundle_files": _filter(bundle_manifest.bundled),
            "bundle_paths": _filter(bundle_manifest.listed_paths),
            "transfer_files": _filter(transfer_batches.asked),
            "transfer_batches": _filter(transfer_batches.rounds),
            "doctor_report": _filter(doctor_report),
            "effective_policy": _filter(effective_policy),
            "policy_refusals": _filter(policy_refusals),
            "fabric_collective": _filter(fabric_gates.collective),
            "fabric_gate": _filter(fabric_gates.specification),
            "fabric_verdict": _filter(fabric_verdict),
            "gateway_config": _filter(gateway_config.config_text),
            "grafana_dashboard": _filter(grafana_dashboard.dashboard),
            "prometheus_rules": _filter(series.rules),
            "prometheus_config": _filter(scrape_config.prometheus),
            "prometheus_fragment": _filter(scrape_config.fragment),
            "firewall_table": _of_plan(plan_application.firewall_table),
            "firewall_users": _of_plan(plan_application.firewall_users),
            "group_secrets": _filter(group_secret.given),
            "group_secrets_kept": _filter(group_secret.kept_by),
            "group_preflight_errors": _filter(members.errors),
            "health_settings": _filter(health.health_settings),
            "planned_checks": _filter(derive.checks),
            "planned_checksums": _of_plan(plan_application.checksums),
            "planned_content": _of_plan(plan_application.content),
            "planned_kernel_trees": _of_plan(plan_application.kernel_trees),
            "planned_peers": _filter(members.peers),
            "toolchain_tests": _of_plan(plan_application.proofs),
            "standby_units": _of_plan(plan_application.standbys),
            "planned_units": _of_plan(plan_application.units),
            "release_layout": _of_plan(plan_application.release_layout),
            "group_step_errors": _filter(group_step_errors),
            "temporary_instance_definition": _of_plan(scratch.definition),
            "temporary_instance_serve": _filter(scratch.serve),
            "temporary_instance_unit": _of_plan(scratch.unit_of),
            "verify_report": _filter(verify_report),
        }
