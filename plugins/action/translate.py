# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Translates launch commands on the controller; the documentation is the module's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.core.refusals import Refusal, text_lines
from ansible_collections.baremetal.sglang.plugins.module_utils.planner.translate import translate
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import load_data_files, plain
from ansible_collections.baremetal.sglang.plugins.plugin_utils.translation import judged, shown

ARGUMENTS = {
    "command": {"type": "str", "default": ""},
    "command_file": {"type": "path", "default": ""},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "hardware": {"type": "raw"},
    "catalogue_dirs": {"type": "list", "elements": "path", "default": []},
}
LARGEST_BYTES = 1 << 20


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _unused, given = self.validate_argument_spec(ARGUMENTS)
        asked = plain(given)
        asked["command"] = whole_command(asked["command"], context.CLIARGS.get("extra_vars") or ())
        text, refusal = _text(asked)
        if refusal is not None:
            return self._answer([], {}, [refusal])
        data_files = load_data_files(asked["catalogue_dirs"])
        found = translate(data_files.engines, data_files.catalogues.models, text, asked["hosts"])
        verdicts = {entry.name: judged(entry, asked) for entry in found.entries} if asked["hardware"] else {}
        refusals = [*data_files.refusals, *found.refusals]
        lines = shown(found, verdicts)
        told = [*refusals, *(item for verdict in verdicts.values() for item in verdict.refusals)]
        return self._answer(lines, {entry.name: entry.values for entry in found.entries}, told)

    def _answer(self, lines: list[str], serve: Mapping[str, Any], refusals: list[Refusal]) -> dict[str, Any]:
        """Fails where nothing could be translated; what a plan would refuse is an answer."""
        lines = lines or text_lines(refusals)
        self._display.display("\n".join(lines))
        answer = {
            "changed": False,
            "lines": lines,
            "serve": dict(serve),
            "refusals": [refusal.to_dict() for refusal in refusals],
        }
        if not serve:
            answer.update(failed=True, msg="no command was translated")
        return answer


def whole_command(command: str, extra_vars: Iterable[Any]) -> str:
    """`-e command=...` is split at blanks unless quotes stand within; what was typed is taken as a whole."""
    typed = [str(item)[len("command=") :] for item in extra_vars if str(item).startswith("command=")]
    if not command or not typed or typed[-1][:1] in ("'", '"'):
        return command
    return typed[-1]


def _text(asked: Mapping[str, Any]) -> tuple[str, Refusal | None]:
    if bool(asked["command"]) == bool(asked["command_file"]):
        what = "both are given" if asked["command"] else "neither is given"
        return "", Refusal(
            "translate-input",
            "",
            "command, command_file",
            f"{what}, and exactly one is needed",
            "give -e command_file=notes.txt, or -e \"command='python3 -m sglang.launch_server ...'\"",
        )
    if asked["command"]:
        return str(asked["command"]), None
    path = Path(asked["command_file"]).expanduser()
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        return "", Refusal(
            "translate-input",
            "",
            f"command_file = {path}",
            f"it cannot be read: {error.strerror}",
            "correct the path",
        )
    if len(content) > LARGEST_BYTES:
        return "", Refusal(
            "translate-input",
            "",
            f"command_file = {path}",
            f"it has more than {LARGEST_BYTES} bytes",
            "copy the part with the commands into a file of its own",
        )
    return content.decode("utf-8", errors="replace"), None
