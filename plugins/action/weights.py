# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of weights: sends what the host lacks over Ansible's own connection."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.files_host import (
    Meter,
    amount,
    regular_size,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.weights.folder_host import PIECES, staging_of
from ansible_collections.baremetal.sglang.plugins.plugin_utils.plan_inputs import plain


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = plain(dict(self._task.args))
        lacking, piece = arguments.get("lacking") or [], int(arguments.pop("piece_bytes", 0) or 0)
        source = arguments.get("source")
        if source and lacking and not arguments.get("source_on_host") and not self._task.check_mode:
            absent = [
                item["path"] for item in lacking if regular_size(os.path.join(source, item["path"])) is None
            ]
            if absent:
                return {"failed": True, "msg": f"{source} on the controller lacks {', '.join(absent[:5])}"}
            host = (task_vars or {}).get("inventory_hostname", "")
            self._send(Path(source), staging_of(str(arguments["dest"])), lacking, piece, host)
        return self._execute_module(
            module_name="baremetal.sglang.weights", module_args=arguments, task_vars=task_vars
        )

    def _send(self, source: Path, staging: str, lacking: list[dict[str, Any]], piece: int, host: str) -> None:
        sizes = [item["size"] if item["pieces"] is None else piece * len(item["pieces"]) for item in lacking]
        meter = Meter(sum(sizes), lambda line: self._display.display(f"  {host}: {line}"))
        started = time.monotonic()
        for index, item in enumerate(lacking):
            path = source / item["path"]
            if item["pieces"] is None:
                self._connection.put_file(str(path), f"{staging}/{item['path']}")
                meter.add(item["size"])
                continue
            for number, file in _pieces(path, item["pieces"], piece):
                self._connection.put_file(file, f"{staging}/{PIECES}/{index}-{number}")
                meter.add(piece)
        seconds = time.monotonic() - started
        self._display.display(
            f"  {host}: {amount(meter.done)} in {seconds:.1f} s, {amount(meter.rate())}/s, from the controller"
        )


def _pieces(path: Path, numbers: list[int], size: int) -> Iterator[tuple[int, str]]:
    """Each piece as a file of its own, gone when the next one is asked for."""
    with path.open("rb") as stream:
        for number in numbers:
            stream.seek(number * size)
            with tempfile.NamedTemporaryFile() as file:
                file.write(stream.read(size))
                file.flush()
                yield number, file.name
