# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends files of the controller to a host over Ansible's own connection, as few long streams."""

from __future__ import annotations

import io
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.baremetal.sglang.plugins.module_utils.bundle import streams

PROGRESS_SECONDS = 10
# What arrived damaged is sent once more before anybody is asked.
ROUNDS = 2


class SendError(Exception):
    """Says which file did not get there, and why."""


def bring(
    action: Any, module: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    """The host says what it lacks, is sent that, verifies and publishes it."""
    source, host = (
        Path(str(arguments.get("source") or "")),
        str((task_vars or {}).get("inventory_hostname", "")),
    )
    first: dict[str, Any] = {}
    for attempt in range(ROUNDS):
        result = _half(action, module, arguments, "probe", task_vars)
        if result.get("failed") or not result.get("changed") or action._task.check_mode:
            return result
        first = first or result
        wanted = result.pop("transfer")
        absent = [name for name, *_unused in wanted["files"] if not (source / name).is_file()]
        if absent:
            return {"failed": True, "msg": f"{source} on the controller lacks: {', '.join(absent[:5])}"}
        try:
            send(action, wanted["python"], source, wanted["folder"], wanted["files"], host)
        except (OSError, SendError) as error:
            return {
                "failed": True,
                "msg": f"{host}: {error}. What arrived is kept: run again to go on from there.",
            }
        published = _half(action, module, arguments, "publish", task_vars)
        if not published.get("damaged") or attempt == ROUNDS - 1:
            break
        action._display.display(f"  {host}: sent again: {'; '.join(published['damaged'][:5])}")
    return (
        published
        if published.get("failed")
        else published | {key: first[key] for key in ("lacking", "bytes")}
    )


def _half(
    action: Any, module: str, arguments: dict[str, Any], step: str, task_vars: dict[str, Any] | None
) -> dict[str, Any]:
    return dict(
        action._execute_module(
            module_name=module, module_args=arguments | {"step": step}, task_vars=task_vars
        )
    )


def send(
    action: Any,
    python: str,
    source: Path,
    folder: str,
    lacking: Sequence[tuple[str, str, int, int]],
    host: str,
) -> None:
    """The host needs its Python and nothing else; whoever the task becomes writes the files."""
    total = sum(size - there for _unused, _unused, size, there in lacking)
    command = f"{shlex.quote(python)} -c {shlex.quote(streams.RECEIVER)}"
    started = told = time.monotonic()
    sent = 0
    for pieces in streams.streams(lacking):
        data = _read(source, streams.head(folder, pieces), pieces)
        problem = _problem(action._low_level_execute_command(command, in_data=data))
        if problem:
            raise SendError(problem)
        sent += sum(piece.length for piece in pieces)
        now = time.monotonic()
        if now - told >= PROGRESS_SECONDS or (sent == total and told > started):
            told = now
            action._display.display(f"  {host}: {streams.progress(sent, total, now - started)}")


def _read(source: Path, head: bytes, pieces: Sequence[streams.Piece]) -> bytes:
    data = io.BytesIO()
    data.write(head)
    for piece in pieces:
        with (source / piece.source).open("rb") as stream:
            stream.seek(piece.offset)
            if data.write(stream.read(piece.length)) != piece.length:
                raise SendError(
                    f"{source / piece.source} on the controller is shorter than the manifest says"
                )
    return data.getvalue()


def _problem(answer: dict[str, Any]) -> str:
    for line in reversed(answer["stdout"].splitlines()):
        if line.startswith('{"problem"'):
            return str(json.loads(line)["problem"])
    return (
        f"the host took no data (rc {answer['rc']}): {(answer['stderr'] or answer['stdout']).strip()[-500:]}"
    )
