# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of certificate: decides and signs; the documentation is the module's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.gateway.certificates import (
    Settings,
    Wanted,
    date,
)
from ansible_collections.baremetal.sglang.plugins.plugin_utils import certificate_signing as signing
from ansible_collections.baremetal.sglang.plugins.plugin_utils.certificate_authority import (
    Authority,
    AuthorityError,
    Seen,
    write,
)

MODULE = "baremetal.sglang.certificate_files"
ARGUMENTS: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "certificates": {"type": "list", "elements": "dict", "default": []},
    "state": {"type": "str", "choices": ["present", "trusted"], "default": "present"},
    "authority": {"type": "path", "default": ""},
    "settings": {"type": "dict", "default": {}},
    "replace_authority": {"type": "bool", "default": False},
    "on_controller": {"type": "bool", "default": False},
    "group": {"type": "str", "default": ""},
}


class HostError(Exception):
    """The result of the host's half that failed."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        super().__init__(str(result.get("msg")))


def authority_folder(given: str, variables: Mapping[str, Any]) -> Path:
    if given:
        return Path(given).expanduser()
    return default_folder(str(item) for item in variables.get("ansible_inventory_sources") or ())


def default_folder(sources: Iterable[str]) -> Path:
    """One authority for each inventory: below the user's own data, never beside an inventory that may lie in the clone."""
    found = [_source(item) for item in sources] or ["none"]
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    digest = hashlib.sha256("\n".join(found).encode()).hexdigest()[:8]
    readable = "".join(char if char.isalnum() or char in "-_." else "-" for char in Path(found[0]).name)
    return base / "baremetal.sglang/authorities" / f"{readable.strip('.')}-{digest}"


def _source(given: str) -> str:
    """A folder and the inventory file in it are one inventory."""
    path = Path(given).expanduser()
    if path.is_file() and path.stem in ("hosts", "inventory"):
        path = path.parent
    return str(path.resolve()) if path.exists() else given


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        variables = task_vars or {}
        wanted = [Wanted.from_dict(item) for item in json.loads(json.dumps(given["certificates"]))]
        settings = Settings.from_dict(given["settings"])
        authority = Authority(authority_folder(given["authority"], variables), settings)
        try:
            _refuse_injected_facts()
            authority.refuse_wanted(wanted)
            side = Controller(given) if given["on_controller"] else Host(self, given, variables)
            return self._bring(side, authority, wanted, given)
        except AuthorityError as error:
            return {"failed": True, "msg": str(error)}
        except HostError as error:
            # Nothing else of what a host returned, such as variables of its own.
            return {key: error.result[key] for key in ("failed", "unreachable", "msg") if key in error.result}

    def _bring(
        self, side: Controller | Host, authority: Authority, wanted: list[Wanted], given: dict[str, Any]
    ) -> dict[str, Any]:
        there = side.read([item.role for item in wanted])
        if given["state"] == "trusted" and (not there.get("there") or not authority.exists()):
            return {"changed": False, "issued": {}}
        with authority.open(create=not self._task.check_mode):
            _refuse_stranger(authority, there, given["replace_authority"])
            fitting, texts = there.get("fitting"), there.get("certificates")
            fitting = fitting if isinstance(fitting, list) else []
            texts = texts if isinstance(texts, dict) else {}
            blocked = [item for item in wanted if item.owner in authority.record.blocked]
            reasons = {
                item.role: authority.why_issue(
                    item, Seen(str(texts.get(item.role) or ""), item.role in fitting)
                )
                for item in wanted
                if item not in blocked
            }
            needed = {role: why for role, why in reasons.items() if why}
            lacking = [item for item in blocked if not texts.get(item.role)]
            if lacking:
                authority.refuse_blocked(lacking[0])
            trust, revocations = authority.texts()
            differs = bool(trust) and (there.get("trust"), there.get("revocations")) != (trust, revocations)
        answer: dict[str, Any] = {"changed": bool(needed or differs or not trust), "issued": needed}
        if blocked:
            when = date(authority.record.blocked[blocked[0].owner])
            answer["warnings"] = [
                f"{blocked[0].owner}: its certificates are revoked since {when} and were not replaced; "
                f"playbooks/certificates.yml -e renew={blocked[0].owner} gives it new ones"
            ]
        answer["diff"] = _diff(given["folder"], needed, differs)
        if self._task.check_mode or not answer["changed"]:
            return answer
        requests = side.request(sorted(needed)) if needed else {}
        with authority.open():
            made = {
                item.role: authority.issue(item, str(requests.get(item.role) or ""))
                for item in wanted
                if item.role in needed
            }
            trust, revocations = authority.texts()
        side.install(made, trust, revocations)
        return answer


def _refuse_injected_facts() -> None:
    """With it, facts that a host returns replace variables of the inventory, such as `gateway`."""
    if getattr(constants, "INJECT_FACTS_AS_VARS", False):
        raise AuthorityError(
            "ansible.cfg: inject_facts_as_vars = true",
            "a host could replace variables of the inventory, and so choose its own certificates",
            "set inject_facts_as_vars = false below [defaults], or ANSIBLE_INJECT_FACT_VARS=false",
        )


def _refuse_stranger(authority: Authority, there: Mapping[str, Any], accepted: bool) -> None:
    """Another controller's authority is not replaced by a new one that nobody asked for."""
    keys = signing.keys_of(str(there.get("trust") or ""))
    if accepted or not keys or keys & authority.trusted_keys():
        return
    raise AuthorityError(
        f"certificates_dir = {authority.folder}",
        "this host trusts another authority, whose key is not in this folder on the controller",
        "copy the folder from the controller that set the hosts up, or give up the old authority on every host and "
        "client: -e replace_authority=true",
    )


def _diff(folder: str, needed: Mapping[str, str], differs: bool) -> dict[str, str]:
    lines = [f"{role}: new certificate, because {why}" for role, why in sorted(needed.items())]
    lines += ["ca.crt, crl.pem: as the authority has them now"] if differs else []
    after = "".join(f"{line}\n" for line in lines)
    return {"before_header": folder, "after_header": folder, "before": "", "after": after}


class Host:
    """Files on a host, through the module."""

    def __init__(self, action: ActionBase, given: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
        self.action, self.given, self.variables = action, given, variables

    def _run(self, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.action._execute_module(
            module_name=MODULE,
            module_args={"folder": self.given["folder"], "group": self.given["group"], **arguments},
            task_vars=self.variables,
        )
        if result.get("failed") or result.get("unreachable"):
            raise HostError(result)
        return result

    def read(self, names: list[str]) -> dict[str, Any]:
        return self._run(state="read", names=names)

    def request(self, names: list[str]) -> dict[str, Any]:
        found = self._run(state="requested", names=names).get("requests")
        return found if isinstance(found, dict) else {}

    def install(self, certificates: dict[str, str], trust: str, revocations: str) -> None:
        self._run(state="installed", certificates=certificates, trust=trust, revocations=revocations)


class Controller:
    """Files on the controller itself, for a Prometheus of somebody else."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.folder = Path(given["folder"]).expanduser()
        self.keys: dict[str, str] = {}

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def read(self, names: list[str]) -> dict[str, Any]:
        return {
            "there": self.folder.is_dir(),
            "certificates": {name: self._text(f"{name}.crt") for name in names},
            "fitting": [
                name for name in names if signing.belong(self._text(f"{name}.crt"), self._text(f"{name}.key"))
            ],
            "trust": self._text("ca.crt"),
            "revocations": self._text("crl.pem"),
        }

    def request(self, names: list[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            self.keys[name], found[name] = signing.new_request()
        return found

    def install(self, certificates: dict[str, str], trust: str, revocations: str) -> None:
        for name, text in certificates.items():
            write(self.folder / f"{name}.key", self.keys[name])
            write(self.folder / f"{name}.crt", text)
        write(self.folder / "ca.crt", trust)
        write(self.folder / "crl.pem", revocations)
