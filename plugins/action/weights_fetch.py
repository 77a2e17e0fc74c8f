# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches on the controller the weights that plans need; the documentation is the module's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import RefusedError, text_lines
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.policy import effective
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.plan import (
    read_sources,
    wanted_of_plans,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.bundle_signature import (
    POLICY_ARGUMENTS,
    SignaturePolicy,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import (
    load_data_files,
    local_models,
    plain,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_fetch import FetchFailed
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_run import FetchJob, fetch_all
from ansible_collections.baremetal.sglang.plugins.plugin_utils.weights_sources.common import Settings

ARGUMENTS: dict[str, Any] = {
    "dest": {"type": "path", "required": True},
    "plans": {"type": "dict", "required": True},
    "sources": {"type": "raw", "default": {}},
    "catalogue_dirs": {"type": "list", "elements": "path", "default": []},
    "settings": {"type": "dict", "default": {}},
    **POLICY_ARGUMENTS,
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        given = plain(given)
        data_files = load_data_files(given["catalogue_dirs"])
        variables = (task_vars or {})["hostvars"][(task_vars or {})["inventory_hostname"]]
        chosen = effective(data_files.policy, plain(variables.get("policy")))
        if chosen.refusals:
            return _failed("\n".join(text_lines(chosen.refusals)))
        policy = chosen.values["weights"]
        unknown = sorted(set(given["settings"]) - set(policy["fetch"]))
        if unknown:
            return _failed(
                f"REFUSED  weights_fetch: unknown setting {', '.join(unknown)}; known: {', '.join(policy['fetch'])}"
            )
        planned = {
            instance["weights"]["model"]
            for plan in given["plans"].values()
            for instance in plan["instances"].values()
        }
        models = {
            **data_files.catalogues.models,
            **local_models({name: {"model": name} for name in planned}, []),
        }
        sources, refusals = read_sources(given["sources"], models)
        try:
            wanted = wanted_of_plans(
                given["plans"],
                sources,
                {key: model.files for key, model in models.items()},
                [key for key, model in models.items() if model.trust_remote_code],
                policy,
            )
        except RefusedError as error:
            # A slip in a model's sources is told once, not as their absence too.
            told = " ".join(refusal.where for refusal in refusals)
            wanted, refusals = [], [*refusals, *(item for item in error.refusals if item.where not in told)]
        if refusals:
            lines = text_lines(refusals)
            return _failed("\n".join([*lines, f"{len(refusals)} refusals, nothing was fetched"]))
        job = FetchJob(
            root=Path(given["dest"]).expanduser(),
            settings=Settings(**{**policy["fetch"], **given["settings"]}),
            say=self._display.display,
            models=models,
            reserve_bytes=policy["reserve_bytes"],
            piece_bytes=policy["piece_mib"] << 20,
            dry=self._task.check_mode,
            policy=SignaturePolicy.from_arguments(given),
        )
        try:
            return fetch_all(wanted, job)
        except FetchFailed as error:
            return _failed(f"REFUSED  {error}")
        except OSError as error:
            return _failed(
                f"weights_dir = {job.root}: {error.strerror}: {error.filename or ''}\n"
                "  what was fetched is kept; run again when that is mended"
            )


def _failed(words: str) -> dict[str, Any]:
    return {"failed": True, "msg": words}
