#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Prepare a release and switch a host to it
description:
  - A release is a folder with the plan, the unit files and the links to environment and weights of all instances of a host.
  - Instances that are the same in the old and the new release are not restarted. Those that the new one no longer has are stopped and
    their units removed.
  - A switch ends when every instance that was started gave a token. Where one does not, the release that served before is put back, and
    the task fails with the reason and the server's own last lines.
  - A switch that was cut off, by a power failure too, is finished or taken back by the next one.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  state:
    description:
      - V(prepared) lays down O(layout) beside what serves.
      - V(switched) makes O(layout), or O(id), what the host serves.
      - V(restarted) restarts O(instances) of the current release.
      - V(started), V(verified) and then V(committed) or V(rolled_back) are a switch in steps, for hosts that serve an
        instance together. Each is taken on all of them before the next one. V(started) does all but ask for tokens, and
        nothing on a host that serves alone. V(verified) asks for a token. V(committed) ends the switch. V(rolled_back)
        starts the previous release again; V(verified) and V(committed) then follow. A failure is returned as
        RV(problem), so that all hosts hear of it.
      - V(stopped) stops O(instances) after the requests that run, until the next boot or restart.
      - V(absent) takes away units, releases, state and caches.
    type: str
    choices: [prepared, switched, restarted, started, verified, committed, rolled_back, stopped, absent]
    required: true
  layout:
    description: What the filter P(baremetal.sglang.release_layout#filter) gives for the plan of the host.
    type: dict
  plan:
    description: The plan that the release is made from.
    type: dict
  id:
    description: Name of a release that is on the host already; V(previous) is the one that served before the current one.
    type: str
  restart:
    description: With O(state=started), restarts O(instances) of the current release.
    type: bool
    default: false
  why:
    description: With O(state=rolled_back), why the new release is given up; recorded for later runs.
    type: str
    default: ""
  instances:
    description: Which instances O(state=restarted), O(state=stopped) or O(restart) means; all, when empty.
    type: list
    elements: str
    default: []
  root:
    description: Folder of the collection on the host.
    type: path
    default: /opt/sglang
  paths:
    description: Further files and folders that go with O(state=absent).
    type: list
    elements: path
    default: []
  keep:
    description: How many releases stay. The current one and the one before it always do.
    type: int
    default: 3
  timeout:
    description:
      - Seconds until a server that is not healthy counts as failed, unless its unit says so earlier.
      - With V(0) a unit has the start timeout of its own file; one that is active at once gets half an hour.
    type: int
    default: 0
  token_timeout:
    description: Seconds until a healthy server that gives no token counts as failed.
    type: int
    default: 300
  prompt:
    description: What is asked.
    type: str
    default: Say hi in one short sentence.
  max_tokens:
    description: How many tokens the answer may have.
    type: int
    default: 48
attributes:
  check_mode:
    description: Says what would happen.
    support: full
  diff_mode:
    description: Says in words what differs between what serves and what would.
    support: full
"""

EXAMPLES = r"""
- name: Prepare the release
  baremetal.sglang.release:
    state: prepared
    plan: "{{ plan_of_host }}"
    layout: "{{ plan_of_host | baremetal.sglang.release_layout }}"

- name: Switch to the release
  baremetal.sglang.release:
    state: switched
    plan: "{{ plan_of_host }}"
    layout: "{{ plan_of_host | baremetal.sglang.release_layout }}"

- name: Roll back to the previous release
  baremetal.sglang.release:
    state: switched
    id: previous
"""

RETURN = r"""
release:
  description: Name of the release.
  returned: when a release was chosen
  type: str
alone:
  description: Whether the host serves nothing together with others.
  returned: when O(state=started)
  type: bool
peers:
  description: The hosts that will serve something together with this one, itself among them.
  returned: when O(state=started)
  type: list
  elements: str
former:
  description: The hosts that served something together with this one so far.
  returned: when O(state=started)
  type: list
  elements: str
problem:
  description: Why a step that hosts take together failed here; empty where it did not.
  returned: always
  type: str
report:
  description: What was done, a line each.
  returned: always
  type: list
  elements: str
seconds:
  description: From the first stop to the last token.
  returned: when O(state=switched) or O(state=restarted)
  type: float
pruned:
  description: Folders of releases that went.
  returned: when O(state=switched)
  type: list
  elements: str
removed:
  description: What went, or would go.
  returned: when O(state=absent)
  type: list
  elements: str
"""

import json
import os
import shutil
import signal
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.release import folder_host as folder
from ansible_collections.baremetal.sglang.plugins.module_utils.release import steps_host as steps
from ansible_collections.baremetal.sglang.plugins.module_utils.release import switching
from ansible_collections.baremetal.sglang.plugins.module_utils.release.host import Host, SwitchError
from ansible_collections.baremetal.sglang.plugins.module_utils.release.members import Member
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime import lock_host as lock
from ansible_collections.baremetal.sglang.plugins.module_utils.runtime.store_host import RefusedError

LOCK_SECONDS = 10.0


def wanted(given: dict[str, Any], place: str = "") -> folder.Wanted:
    layout = given["layout"]
    plan = json.dumps(given["plan"], indent=4, sort_keys=True) + "\n"
    members = tuple(Member(**entry) for entry in layout["members"])
    files = {**layout["files"], folder.PLAN: plan}
    return folder.Wanted(place or layout["folder"], files, layout["links"], members)


def prepared(module: AnsibleModule, host: Host) -> dict[str, Any]:
    release = wanted(module.params)
    paths = folder.differs(release)
    if paths and not module.check_mode:
        host.prepare(release)
    new = not os.path.isdir(release.folder)
    lines = [f"{release.folder}: {len(paths)} files and links"] if new else paths
    return {
        "changed": bool(paths),
        "release": module.params["layout"]["id"],
        "report": lines,
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in lines)},
    }


def target(module: AnsibleModule, found: switching.Found) -> str:
    given = module.params
    if given["state"] == "restarted" or given["restart"]:
        return found.current
    if given["layout"]:
        return str(given["layout"]["id"])
    name = switching.previous(found) if given["id"] == "previous" else given["id"]
    if name not in found.releases:
        there = ", ".join(sorted(found.releases)) or "none"
        what = f"release {name} is not on this host" if name else "no release served here before this one"
        raise RefusedError(
            f"{what}; there: {there}; current: {found.current or 'none'}. Nothing was changed."
        )
    return str(name)


def forced(module: AnsibleModule, found: switching.Found) -> list[str]:
    if module.params["state"] not in ("restarted", "stopped") and not module.params["restart"]:
        return []
    release = found.releases.get(found.current)
    if release is None:
        raise RefusedError("no release serves on this host: run site.yml first. Nothing was changed.")
    unknown = sorted(set(module.params["instances"]) - set(release.members))
    if unknown:
        raise RefusedError(
            f"no instance {', '.join(unknown)} on this host; there: {', '.join(sorted(release.members))}. "
            "Nothing was changed."
        )
    names = module.params["instances"] or release.members
    return [release.members[name].unit for name in names]


def imagined(module: AnsibleModule, found: switching.Found, name: str) -> switching.Found:
    """In check mode the release may not be there yet: read it from a folder that is not kept."""
    if name in found.releases and not folder.differs(wanted(module.params)):
        return found
    like = found.releases.get(name) or found.releases.get(found.current)
    place = tempfile.mkdtemp(dir=module.tmpdir)
    try:
        path = os.path.join(place, name)
        folder.lay_down(wanted(module.params, path))
        if like:
            # What other modules will add is not known yet; what they added before is the best guess.
            folder.add_strangers(like.folder, path)
        release = folder.read(path)
    finally:
        shutil.rmtree(place)
    return switching.Found(found.current, {**found.releases, name: release}, found.units, found.record)


def switched(module: AnsibleModule, host: Host) -> dict[str, Any]:
    found = host.found()
    units = forced(module, found)
    name = target(module, found)
    if module.check_mode and module.params["layout"]:
        found = imagined(module, found, name)
    decided = switching.decide(found, name, units)
    lines = host.words(found, decided) + switching.standby_words(found, decided)
    result = {
        "changed": decided.changes,
        "release": name,
        "report": lines,
        "diff": {"before": "", "after": "".join(f"{line}\n" for line in lines)} if decided.changes else {},
        "seconds": 0.0,
    }
    if not module.check_mode:
        gone = (
            host.lacking(found.releases[name], found.releases.get(found.current)) if decided.changes else []
        )
        if gone:
            told = "\n  ".join(gone)
            raise RefusedError(
                f"release {name} cannot serve:\n  {told}\n  "
                "site.yml brings what its plan needs. Nothing was changed."
            )
        done = host.switch(found, decided)
        result["seconds"] = done.seconds
        started = ", ".join(decided.start)
        result["report"] = [*lines, f"{started}: a token after {done.seconds} s"] if started else lines
    result["pruned"] = host.prune(module.params["keep"], module.check_mode)
    result["changed"] = bool(result["changed"] or result["pruned"])
    return result


def absent(module: AnsibleModule, host: Host) -> dict[str, Any]:
    paths = host.remains(module.params["paths"])
    if not module.check_mode:
        host.remove(paths)
    lines = "".join(f"{path}\n" for path in paths)
    return {"changed": bool(paths), "removed": paths, "report": paths, "diff": {"before": lines, "after": ""}}


def start_together(module: AnsibleModule, host: Host) -> dict[str, Any]:
    found = host.found()
    live = found.releases.get(found.current)
    try:
        units = forced(module, found)
        name = target(module, found)
    except RefusedError:
        # A host that serves alone is refused by the step that it takes alone.
        if not switching.together(live.plan if live else None):
            return steps.ALONE
        raise
    if module.check_mode and module.params["layout"]:
        found = imagined(module, found, name)
    return steps.start(host, found, switching.decide(found, name, units), module.check_mode)


STATES = {
    "prepared": prepared,
    "switched": switched,
    "restarted": switched,
    "started": start_together,
    "verified": lambda _module, host: steps.verify(host),
    "committed": lambda module, host: steps.commit(host, module.params["keep"], module.check_mode),
    "rolled_back": lambda module, host: steps.roll_back(host, module.params["why"]),
    "stopped": lambda module, host: steps.stopped(host, forced(module, host.found()), module.check_mode),
    "absent": absent,
}
TOGETHER = ("started", "verified", "committed", "rolled_back")


def say_failure(module: AnsibleModule, problem: str) -> None:
    """In a step that hosts take together a failure is an answer: the others must hear it before anything ends."""
    if module.params["state"] not in TOGETHER:
        module.fail_json(msg=problem)
    module.exit_json(changed=False, problem=problem, alone=False, peers=[], report=[problem])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "layout": {"type": "dict"},
            "plan": {"type": "dict"},
            "id": {"type": "str"},
            "restart": {"type": "bool", "default": False},
            "why": {"type": "str", "default": ""},
            "instances": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/opt/sglang"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "keep": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 0},
            "token_timeout": {"type": "int", "default": 300},
            "prompt": {"type": "str", "default": "Say hi in one short sentence."},
            "max_tokens": {"type": "int", "default": 48, "no_log": False},
        },
        required_if=[
            ("state", "prepared", ("layout", "plan")),
            ("state", "switched", ("layout", "id"), True),
            ("state", "started", ("layout", "id", "restart"), True),
        ],
        required_together=[("layout", "plan")],
        mutually_exclusive=[("layout", "id")],
        supports_check_mode=True,
    )
    given = module.params
    host = Host(
        module.run_command,
        given["root"],
        timeout=given["timeout"],
        token_timeout=given["token_timeout"],
        prompt=given["prompt"],
        max_tokens=given["max_tokens"],
    )
    work = STATES[given["state"]]
    # A controller that goes away in the middle must not leave the host between two releases.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if module.check_mode or not os.path.isdir(host.releases):
            result = work(module, host)
        else:
            with lock.held(host.lock, f"the release {given['state']}", LOCK_SECONDS):
                result = work(module, host)
    except RefusedError as error:
        say_failure(module, f"REFUSED  {error}")
    except SwitchError as error:
        say_failure(module, str(error))
    except OSError as error:
        say_failure(module, f"{given['state']}: {error}; run again to go on from there")
    result.setdefault("problem", "")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
