# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a plan to what the roles lay down: names, links and words of units. Decides nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..core.text_checks import one_line
from ..firewall.table import table_text
from ..planner.plan import InstancePlan, Plan, plain
from .launch import PROGRAM, api_port, confinement, launch

ID_LENGTH = 16
STANDBY = "standby"
"""Below the folder of a release: what takes the requests of its instances while those are exchanged."""


def release_id(plan: Plan, files: Mapping[str, str] | None = None) -> str:
    """One name for one served configuration: it changes exactly when something that is applied does."""
    applied = {"host_settings": plan.host_settings, "instances": plain(plan.instances)}
    text = json.dumps([applied, dict(files or {})], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def environments(plan: Plan) -> list[dict[str, Any]]:
    """Each environment once, with what a role needs to make it."""
    found: dict[str, dict[str, Any]] = {}
    for instance in plan.instances.values():
        entry = dict(instance.environment)
        bundled = entry["interpreter_from"] == "bundle"
        entry["python_home"] = entry["interpreter"].rsplit("/bin/", 1)[0] if bundled else ""
        entry["import_environment"] = {
            item.name: item.value
            for item in instance.environment_variables
            # These lead to folders of the service user, and to the environment's final place.
            if not item.value.startswith("/")
            and item.name != "PATH"
            # The packages are imported once as root: nothing may change what is loaded.
            and not item.name.startswith(("LD_", "PYTHON"))
        }
        # torch must see all that the host has; which of them an instance takes is another matter.
        entry["gpus"] = len(plan.facts["gpus"]) if instance.device == "cuda" else 0
        before = found.setdefault(entry["id"], entry)
        before["gpus"] = max(before["gpus"], entry["gpus"])
    return list(found.values())


def proofs(plan: Plan) -> list[dict[str, Any]]:
    """What each instance compiles at start, with all that compiling it on the host takes."""
    found = []
    for name, instance in sorted(plan.instances.items()):
        compiles = instance.compiles
        if compiles.get("proofs"):
            settings = plan.host_settings
            found.append(
                {
                    "environment": instance.environment["path"],
                    "capability": compiles["capability"],
                    "proofs": list(compiles["proofs"]),
                    "cuda_home": compiles["cuda_home"],
                    "variables": {item.name: item.value for item in instance.environment_variables},
                    "cache": f"{settings['paths']['cache']}/{name}",
                    "user": settings["user"],
                }
            )
    return found


def weights(plan: Plan) -> list[dict[str, Any]]:
    found = {instance.weights["path"]: dict(instance.weights) for instance in plan.instances.values()}
    return list(found.values())


def content(plan: Plan) -> list[dict[str, Any]]:
    """All that must lie on the host before the engine starts, each with the file that proves it is whole."""
    return [
        {"kind": kind, "name": f"{kind} {item['path']}", "stamp": f"{item['path']}/{stamp}", "item": item}
        for kind, stamp, items in (
            ("environment", ".environment.json", environments(plan)),
            ("weights", ".published.json", weights(plan)),
        )
        for item in items
    ]


def release_layout(plan: Plan, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """All that lies in the folder of the release; `files` are texts by their path below it."""
    paths = plan.host_settings["paths"]
    links = {}
    for name, instance in plan.instances.items():
        links[f"{name}/env"] = instance.environment["path"]
        links[f"{name}/weights"] = instance.weights["path"]
    for instance in plan.standbys.values():
        links[f"{STANDBY}/launcher"] = "../launcher"
        links[f"{STANDBY}/{instance.name}/env"] = instance.environment["path"]
        links[f"{STANDBY}/{instance.name}/weights"] = instance.weights["path"]
    name = release_id(plan, files)
    return {
        "id": name,
        "root": paths["root"],
        "folder": f"{paths['releases']}/{name}",
        "files": dict(files or {}),
        "links": links,
        "members": members(plan),
        "current": f"{paths['root']}/current",
    }


def members(plan: Plan) -> list[dict[str, Any]]:
    """What has to be known of an instance to start it and to ask it for a token."""
    standbys = plan.standbys
    return [
        {
            "name": name,
            "unit": instance.unit,
            "serves": instance.served_model_name,
            "rank": instance.parallel["node_rank"],
            "port": int(api_port(instance).port),
            "alive": instance.api.alive,
            "token": instance.api.token,
            "standby": standbys[name].name if name in standbys else "",
            "standby_port": int(api_port(standbys[name]).port) if name in standbys else 0,
        }
        for name, instance in sorted(plan.instances.items())
    ]


def _parts(plan: Plan) -> list[tuple[str, InstancePlan]]:
    """Each server of a release with its folder below it."""
    found = sorted(plan.instances.items())
    return found + [
        (f"{STANDBY}/{instance.name}", instance) for _name, instance in sorted(plan.standbys.items())
    ]


def kernel_trees(plan: Plan, files: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The kernel tuning files of each instance that brings some, as the module kernel_tree takes them."""
    folder = release_layout(plan, files)["folder"]
    return [
        {
            **instance.kernels["tree"],
            "path": f"{folder}/{name}/moe",
            "environment": instance.environment["path"],
        }
        for name, instance in _parts(plan)
        if instance.kernels.get("tree")
    ]


def checksums(plan: Plan, files: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """Files of hashes that an engine compares its weights with, made of the manifests beside the weights."""
    folder = release_layout(plan, files)["folder"]
    return [
        {
            "manifest": f"{instance.weights['path']}/.weights.json",
            "path": f"{folder}/{name}/{instance.weights['checksums']}",
        }
        for name, instance in _parts(plan)
        if instance.weights.get("checksums")
    ]


def firewall_table(plan: Plan, uids: Mapping[str, int] | None = None) -> str:
    """The nftables script of the host; empty where nothing of it must be closed."""
    wanted = plan.firewall
    return table_text(wanted.get("rules", ()), wanted.get("owners", ()), uids)


def firewall_users(plan: Plan) -> list[str]:
    """Users that the script knows by number."""
    return sorted({str(owner["user"]) for owner in plan.firewall.get("owners", ())})


def unit_word(text: Any) -> str:
    """One word of a unit file: systemd expands % and $, and splits at blanks."""
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = escaped.replace("\n", "\\n")
    return f'"{escaped}"' if escaped == "" or any(letter in escaped for letter in " \t\"'\\;#") else escaped


def unit_line(text: Any) -> str:
    """The rest of a line of a unit file: no specifier, no continuation, no second line."""
    return str(one_line(str(text))).replace("\\", "/").replace("%", "%%").strip()


def units(plan: Plan) -> list[dict[str, Any]]:
    """What the template of a unit prints, one entry an instance."""
    settings = plan.host_settings
    paths = settings["paths"]
    current = f"{paths['root']}/current"
    found = []
    for name, instance in sorted(plan.instances.items()):
        python = f"{current}/{name}/env/bin/python"
        # Isolated: neither the user's site folder nor a variable changes what the launcher is.
        launcher = ["-S", "-B", f"{current}/launcher"]
        if instance.parallel["nnodes"] > 1:
            # torchrun's agent; it starts the launcher on all hosts together.
            launcher = ["-B", f"{current}/launcher/agent.py"]
        words = [python, "-I", *launcher, f"{current}/{name}/launch.json"]
        found.append(
            {
                "name": name,
                "unit": instance.unit,
                "unit_path": f"units/{instance.unit}",
                "launch_path": f"{name}/launch.json",
                "programs": {f"{name}/{PROGRAM}": instance.program} if instance.program else {},
                "model": unit_line(instance.model),
                "engine": unit_line(instance.engine_title or instance.engine),
                "version": unit_line(instance.release["version"]),
                "serves": unit_line(instance.served_model_name),
                "environment_files": [unit_line(path) for path in instance.service["environment_files"]],
                "documentation": f"{current}/plan.json",
                "user": settings["user"],
                "group": settings["group"],
                "directory": f"{paths['state']}/{name}",
                "writable": [f"{paths['state']}/{name}", f"{paths['cache']}/{name}"],
                "limits": {f"Limit{key.upper()}": value for key, value in settings["limits"].items()},
                "shared_memory": settings["shared_memory"],
                "drop_page_cache": instance.weights.get("drop_page_cache", False),
                "command": " ".join(unit_word(word) for word in words),
                "port": api_port(instance).port,
                "python": python,
                "confinement": confinement(instance),
                "launch": launch(plan, name, python),
                # Two instances may have the same folder name; each has its own code.
                "jit_cache_archive": f"{name}-{instance.service['compiled'].rsplit('/', 1)[1]}.tar.gz",
                "kernels": instance.kernels.get("log", {}),
            }
        )
    return found


def moved(plan: Plan, unit: dict[str, Any], place: str) -> dict[str, Any]:
    """The same unit where it runs from another folder than the one that `current` leads to."""
    current = f"{plan.host_settings['paths']['root']}/current"
    found: dict[str, Any] = json.loads(json.dumps(unit).replace(current, place))
    return found


def standbys(plan: Plan) -> list[dict[str, Any]]:
    """The same of the servers that take requests meanwhile; they run from the release that is about to serve."""
    root = plan.host_settings["paths"]["root"]
    servers = {instance.name: instance for instance in plan.standbys.values()}
    found = []
    for unit in units(replace(plan, instances=servers)):
        found.append(
            {
                **moved(plan, unit, f"{root}/{STANDBY}"),
                "documentation": unit["documentation"],
                "unit_path": f"{STANDBY}/{unit['unit']}",
                "launch_path": f"{STANDBY}/{unit['launch_path']}",
                "programs": {f"{STANDBY}/{path}": text for path, text in unit["programs"].items()},
            }
        )
    return found


def _locked(plan: Plan, engines: str) -> list[tuple[InstancePlan, dict[str, Any], str]]:
    """Each environment once: an instance that has it, what a role needs of it, and where its lock lies."""
    users = {item.environment["id"]: item for item in plan.instances.values()}
    return [
        (users[entry["id"]], entry, f"{engines}/{users[entry['id']].engine}/locks/{entry['lock']}")
        for entry in environments(plan)
    ]


def bundle_environments(plans: Iterable[Plan], engines: str) -> list[dict[str, Any]]:
    """What a bundle carries so that every one of these plans can be applied; `engines` is as files/engines."""
    wanted = {}
    for plan in plans:
        for instance, entry, lock in _locked(plan, engines):
            wanted[lock, entry["arch"]] = {
                "lock": lock,
                "lock_sha256": entry["lock_sha256"],
                "python": entry["python"],
                "arch": entry["arch"],
                "glibc": entry["glibc"],
                "cuda": entry["cuda"],
                "index": entry["index"],
                "release": instance.release["version"],
                "wheel": instance.environment.get("wheel", {}),
            }
    return [wanted[key] for key in sorted(wanted)]


def bundle_conda(plans: Iterable[Plan], engines: str) -> list[dict[str, Any]]:
    """The conda half of what a bundle carries; empty where no plan asks for pixi."""
    wanted = {}
    for plan in plans:
        for _instance, entry, lock in _locked(plan, engines):
            if entry.get("conda"):
                wanted[entry["conda"]["environment"], entry["arch"]] = {
                    **entry["conda"],
                    "lock": lock,
                    "python": entry["python"],
                    "arch": entry["arch"],
                    "glibc": entry["glibc"],
                    "index": entry["index"],
                }
    return [wanted[key] for key in sorted(wanted)]


def bundle_report(
    plans: Iterable[Plan], sources: Mapping[str, str], folder: str, result: Mapping[str, Any]
) -> list[str]:
    """What a bundle holds, and the weights that the room will lack if nobody carries them beside it."""
    sizes = [
        f"{result.get(files, 0)} files, {result.get(amount, 0) / 1e9:.2f} GB"
        for files, amount in (("files", "bytes"), ("carried_files", "carried_bytes"))
    ]
    # Check mode makes nothing, so it has nothing to count.
    said = f"{folder}: {sizes[0]}; {sizes[1]} of them are in this folder"
    lines = [said if "files" in result else f"{folder}: would be filled; nothing was fetched or written"]
    plans = list(plans)
    planned = {
        library
        for plan in plans
        for instance in plan.instances.values()
        for library in instance.release.get("host_libraries", ())
    }
    lines += [
        f"warning: wheels need {library}, which the data of the release does not name: no package of the hosts is "
        "planned for it. Add it to host_libraries of the release, or install it on the hosts."
        for library in result.get("host_libraries", ())
        if library not in planned
    ]
    left_out = {
        (entry["model"], entry["revision"]): int(entry.get("bytes") or 0)
        for plan in plans
        for entry in weights(plan)
        if entry["model"] not in sources
    }
    for (model, revision), size in sorted(left_out.items()):
        amount = f"{size / 1e9:.1f} GB" if size else "size unknown"
        lines.append(
            f"warning: the bundle does not hold the weights of {model}, revision {revision} ({amount}). "
            "Fetch them with playbooks/weights.yml -e weights_dir=FOLDER; then carry FOLDER too and give site.yml "
            "-e weights_dir=FOLDER, or give this playbook -e @FOLDER/bundle_weights.json."
        )
    return lines


def bundle_weights(plans: Iterable[Plan], sources: Mapping[str, str]) -> list[dict[str, str]]:
    wanted = {}
    for plan in plans:
        for entry in weights(plan):
            if entry["model"] in sources:
                wanted[entry["model"], entry["revision"]] = sources[entry["model"]]
    return [
        {"model": model, "revision": revision, "source": source}
        for (model, revision), source in sorted(wanted.items())
    ]
