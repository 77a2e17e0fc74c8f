# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof of the compilers runs as the service user, and changes no owner inside what that user can write."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.baremetal.sglang.plugins.modules import toolchain

# In place of the environment's interpreter: says as whom and from what it runs, and rearranges all that it can.
PYTHON = r"""#!/bin/sh
proof="$2"
place=$(dirname "$proof")
mv "$proof" "$place/away" 2>/dev/null && ln -s "$VICTIM" "$proof"
mv "$HOME" "$place/moved" 2>/dev/null && ln -s "$VICTIM" "$HOME"
ln -s "$VICTIM" "$HOME/link"
groups=$(grep ^Groups: /proc/self/status | tr -d '\t')
locked=$(grep ^NoNewPrivs: /proc/self/status | tr -d '\t')
terminal=$(cut -d' ' -f7 /proc/self/stat)
echo "[{\"uid\": $(id -u), \"proof\": \"$(stat -c '%u %a' "$proof")\", \"place\": \"$(stat -c '%u %a' "$place")\","\
"\"groups\": \"$groups\", \"locked\": \"$locked\", \"terminal\": \"$terminal\"}]"
"""


@pytest.fixture
def proven(reachable: Path, service_user: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    account = pwd.struct_passwd(("engine", "x", service_user, service_user, "", "/", "/usr/sbin/nologin"))
    monkeypatch.setattr(toolchain.pwd, "getpwnam", lambda _name: account)
    monkeypatch.setattr(toolchain.os, "getgrouplist", lambda _name, group: [group])
    (reachable / "env/bin").mkdir(parents=True)
    (reachable / "env/bin/python").write_text(PYTHON)
    (reachable / "env/bin/python").chmod(0o755)
    victim = reachable / "victim"
    victim.mkdir(mode=0o700)
    (victim / "file").write_text("root's")
    params = {
        "environment": str(reachable / "env"),
        "capability": "9.0",
        "proofs": ["triton"],
        "cuda_home": "",
        "variables": {"VICTIM": str(victim)},
        "cache": str(reachable / "cache" / "it"),
        "user": "engine",
        "proof": "print()",
    }
    answers, _said = toolchain.prove(SimpleNamespace(params=params))
    assert os.listdir(reachable / "cache") == []
    assert [(path.lstat().st_uid, path.name) for path in victim.iterdir()] == [(0, "file")]
    assert victim.stat().st_uid == 0
    return dict(answers[0])


def test_the_proof_has_no_rights_and_its_program_is_roots(proven: dict[str, Any], service_user: int) -> None:
    assert (proven["uid"], proven["groups"]) == (service_user, f"Groups:{service_user} ")
    assert (proven["locked"], proven["terminal"]) == ("NoNewPrivs:1", "0")
    assert (proven["proof"], proven["place"]) == ("0 644", "0 755")
    json.dumps(proven)
