# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the scenarios of one host's instances and keeps every point; the documentation is the module's."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.measure import results, scenarios
from ansible_collections.baremetal.sglang.plugins.plugin_utils import bench_run
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain

ARGUMENTS = {
    "plan": {"type": "dict", "required": True},
    "data": {"type": "dict", "required": True},
    "cannot": {"type": "dict", "default": {}},
    "manifests": {"type": "dict", "default": {}},
    "report_dir": {"type": "path", "required": True},
    "profile": {"type": "str", "default": "standard"},
    "scenarios": {"type": "list", "elements": "str", "default": []},
    "parameters": {"type": "dict", "default": {}},
    "blocks": {"type": "int", "default": 0},
    "seed": {"type": "int", "default": 1},
    "sweep": {"type": "dict", "default": {}},
    "servers": {"type": "dict", "default": {}},
    "instead": {"type": "bool", "default": False},
    "sample_seconds": {"type": "float", "default": 1.0},
    "gateway": {"type": "dict", "default": {}},
    "again": {"type": "bool", "default": False},
    "baseline": {"type": "path", "default": ""},
    "dry": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        self._given = plain(given)
        try:
            return self._run()
        except (scenarios.AskedError, results.BaselineError) as error:
            raise AnsibleActionFail(
                "\n".join(f"REFUSED  {line}" for line in str(error).splitlines()) + "\nNothing was asked."
            ) from None
        except bench_run.StoppedError as error:
            raise AnsibleActionFail(str(error)) from None

    def _run(self) -> dict[str, Any]:
        given = self._given
        asked = scenarios.Asked(
            given["profile"], tuple(given["scenarios"]), given["parameters"], given["blocks"], given["seed"],
            bool(given["servers"]) or bool(given["dry"]), given["sweep"],
        )  # fmt: skip
        planned, skipped, about = {}, [], {}
        for name, instance in sorted(given["plan"]["instances"].items()):
            if instance["parallel"]["node_rank"]:
                continue
            cannot = given["cannot"].get(instance["model"], {})
            points, left = scenarios.points(given["data"], instance, asked, cannot)
            planned[name] = points
            skipped += [{"instance": name, **entry} for entry in left]
            about[name] = self._about(name, instance)
        if given["dry"]:
            wanted = [
                {"instance": name, **one}
                for name, points in planned.items()
                for one in scenarios.servers(points)
            ]
            return {"changed": False, "servers": wanted, "points": sum(map(len, planned.values()))}
        before, pairs = {}, {}
        if given["baseline"]:
            before, pairs = bench_run.read_baseline(given["baseline"], about, str(given["plan"]["host"]))
        store = bench_run.Store(
            Path(given["report_dir"]).expanduser(), int(given["data"]["thresholds"]["free_mib"])
        )
        if self._task.check_mode:
            return {"changed": False, "points": sum(map(len, planned.values()))}
        store.open()
        if given["again"]:
            (store.folder / bench_run.RECORDS).unlink(missing_ok=True)
        runs = []
        for name, points in planned.items():
            instance = given["plan"]["instances"][name]
            run = bench_run.Run(
                store,
                name,
                bench_run.fingerprint(about[name]["argv"], about[name]["environment_id"], given["gateway"]),
                self._measure(name, instance),
                self._switch(name, instance),
                self._display.display,
            )
            runs.append(run)
            run.go(points)
        return self._finish(store, runs, skipped, about, before, pairs, asked)

    def _about(self, name: str, instance: Mapping[str, Any]) -> dict[str, Any]:
        """What a later reader has to know of the server."""
        return {
            "host": self._given["plan"]["host"], "model": instance["model"], "serves": instance["served_model_name"],
            "release": f"{instance['release']['version']} {instance['release']['variant']}",
            "versions": ", ".join(f"{key} {value}" for key, value in instance["environment"]["versions"].items()),
            "environment_id": instance["environment"]["id"], "lock": instance["environment"].get("lock", ""),
            "weights_revision": instance["weights"]["revision"], "weights_manifest": self._given["manifests"].get(name, ""),
            "device": instance["device"], "gpus": len(instance["gpus"]), "hosts": len(instance["parallel"]["hosts"]),
            "driver": self._given["plan"]["facts"]["driver"], "os": self._given["plan"]["facts"]["os"],
            "argv": ["python", "-m", instance["module"], *instance["argv"]],
            "environment_variables": {item["name"]: item["value"] for item in instance["environment_variables"]},
            "plan": {key: instance[key] for key in ("arguments", "memory", "context", "kernels", "parallel", "compiles")},
        }  # fmt: skip

    def _module(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        found = self._execute_module(
            module_name=f"baremetal.sglang.{name}", module_args=arguments, task_vars=self._vars
        )
        if found.get("failed") or found.get("unreachable"):
            raise bench_run.StoppedError(
                f"{name}: {found.get('msg')}; what was measured is kept, run again to go on from there"
            )
        return dict(found)

    def _measure(self, name: str, instance: Mapping[str, Any]) -> bench_run.Measure:
        given, gateway = self._given, self._given["gateway"]
        port = next(item["port"] for item in instance["ports"] if item["purpose"] in ("api", "health"))
        url = gateway.get("url") or f"http://127.0.0.1:{port}"

        def measure(point: Mapping[str, Any], scale: dict[str, float] | None, server: str) -> dict[str, Any]:
            other = given["servers"].get(f"{name} {server}") if server else None
            return dict(
                self._module(
                    "load_test",
                    {
                        "url": f"http://127.0.0.1:{other['port']}" if other else url,
                        "model": instance["served_model_name"],
                        "point": dict(point),
                        "thresholds": given["data"]["thresholds"],
                        "questions": given["data"]["questions"] if point["kind"] != "load" else {},
                        "scale": scale,
                        "unit": other["unit"] if other else instance["unit"],
                        "key_file": "" if other else gateway.get("key_file", ""),
                        "ca_file": "" if other else gateway.get("ca_file", ""),
                        "sample_seconds": given["sample_seconds"],
                        "metrics": instance["api"]["metrics"],
                        "metric_names": dict(instance["metrics"]),
                    },
                )["record"]
            )

        return measure

    def _switch(self, name: str, instance: Mapping[str, Any]) -> Any:
        """Starts the other server, after the one before it is gone; with "" all is as it was."""
        running: list[dict[str, Any]] = []

        def switch(server: str) -> None:
            while running:
                gone = {key: running[-1][key] for key in ("name", "unit", "writable")}
                # What it compiled serves its next start.
                self._module(
                    "temporary_instance", {"state": "stopped", "keep_writable": bool(server), **gone}
                )
                running.pop()
            if not server:
                if self._given["instead"]:
                    self._display.display(f"{name}: {instance['unit']} starts again")
                    self._module("temporary_instance", {"state": "resumed", "unit": instance["unit"]})
                return
            other = self._given["servers"][f"{name} {server}"]
            self._display.display(f"{name}: starting a server with {server}")
            if self._given["instead"]:
                self._module("temporary_instance", {"state": "paused", "unit": instance["unit"]})
            # Before it is up: a start that fails leaves something to take away.
            running.append(other)
            self._module("temporary_instance", {"state": "started", **other})

        return switch

    def _finish(
        self,
        store: bench_run.Store,
        runs: list[bench_run.Run],
        skipped: list[dict[str, str]],
        about: dict[str, Any],
        before: dict[str, Any],
        pairs: dict[str, str],
        asked: scenarios.Asked,
    ) -> dict[str, Any]:
        given, records = self._given, [record for run in runs for record in run.records]
        parameters, blocks = scenarios.parameters(given["data"], asked)
        rows = results.rows(records, float(given["data"]["thresholds"]["noise_floor"]))
        verified = store.folder / "verify.json"
        result = {
            "schema": results.SCHEMA, "made": time.time(), "collection": given["plan"]["collection"],
            "profile": given["profile"], "blocks": blocks, "seed": given["seed"], "parameters": parameters,
            "command": bench_run.command(sys.argv), "titles": given["data"]["titles"], "instances": about,
            "records": records, "rows": rows, "settings": results.settings_compared(rows), "skipped": skipped,
            "failures": results.failures(records), "baseline": given["baseline"],
            "comparison": results.compare(rows, before, pairs) if before else [],
            "verified": json.loads(verified.read_text())["counts"] if verified.exists() else {},
            "best": [line for name in about for line in results.best_lines(rows, name, records)],
        }  # fmt: skip
        files = bench_run.write(store.folder, result)
        stopped = [f"{run.instance}: {run.stopped}" for run in runs if run.stopped]
        worse = sum(1 for row in result["comparison"] if row["verdict"] == results.WORSE)
        answer = {
            "changed": False, "files": files, "points": len(records), "kept": sum(run.kept for run in runs),
            "failures": result["failures"], "worse": worse, "best": result["best"],
            "lines": bench_run.closing(result, files),
        }  # fmt: skip
        if stopped:
            return {
                **answer,
                "failed": True,
                "msg": "; ".join(stopped)
                + f"\n{len(records)} points are kept in {store.folder}; run again to go on from there",
            }
        return answer
