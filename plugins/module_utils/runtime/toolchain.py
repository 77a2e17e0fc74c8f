# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a compiler has to be proven again, with which variables, and how its words are told. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_LINES = 30
# The service's own Python settings stay; what points at folders of the service leads into the proof's folder.
SCRATCH = ("HOME", "TMPDIR", "XDG_CACHE_HOME")


def asked(capability: str, proofs: Sequence[str], cuda_home: str, compiler: str) -> dict[str, Any]:
    """What a kept result was for: any other compiler, chip or list is proven anew."""
    return {
        "capability": capability,
        "proofs": list(proofs),
        "cuda_home": cuda_home,
        "compiler": compiler,
    }


def is_proven(kept: str, wanted: Mapping[str, Any]) -> bool:
    """Whether the text of a kept result says that just this was compiled."""
    try:
        results = json.loads(kept)["results"]
        return any(result.get("asked") == dict(wanted) for result in results)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def with_result(kept: str, wanted: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> str:
    """The kept text with one result more; one environment may serve GPUs of several kinds."""
    try:
        results = list(json.loads(kept)["results"])
    except (ValueError, KeyError, TypeError):
        results = []
    results.append({"asked": dict(wanted), "answers": list(answers)})
    return json.dumps({"results": results}, indent=1, sort_keys=True) + "\n"


def proof_environment(variables: Mapping[str, str], cache: str, scratch: str) -> dict[str, str]:
    """The variables of the service, with its caches in a folder that goes away."""
    found = {
        name: scratch + value[len(cache) :] if value == cache or value.startswith(f"{cache}/") else value
        for name, value in variables.items()
    }
    return {**found, **dict.fromkeys(SCRATCH, scratch)}


def answers_of(output: str) -> list[dict[str, Any]]:
    """The last line of the proof; empty when it ended before it could say anything."""
    lines = [line for line in output.splitlines() if line.startswith("[{")]
    try:
        return list(json.loads(lines[-1])) if lines else []
    except ValueError:
        return []


def refusal(
    wanted: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], said: str, proofs: Sequence[str]
) -> str:
    """What could not be compiled, in the compiler's own words; empty when all went well."""
    bad = [f"{answer['proof']}:\n{_last(str(answer['what']))}" for answer in answers if not answer["good"]]
    if not answers:
        bad = [f"the proof ended before it could answer:\n{_last(said)}"]
    elif len(answers) != len(proofs):
        bad.append(f"only {len(answers)} of {len(proofs)} proofs answered")
    if not bad:
        return ""
    where = f" with CUDA_HOME {wanted['cuda_home']}" if wanted["cuda_home"] else ""
    return (
        f"what the engine compiles at start does not compile here for compute capability "
        f"{wanted['capability']}{where}, compiler {wanted['compiler'] or 'none'}. The environment is left "
        "as it is and nothing was started.\n" + "\n".join(bad)
    )


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    left_out = len(lines) - SHOWN_LINES
    shown = ([f"... {left_out} lines before"] if left_out > 0 else []) + lines[-SHOWN_LINES:]
    return "\n".join(f"  {line}" for line in shown)
