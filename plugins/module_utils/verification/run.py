# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the checks of one instance, one after another; each ends in passed, failed, known or skipped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from . import api, tools
from . import host as place
from .check_context import CheckContext, CheckError, NotHereError

PASSED, FAILED, SKIPPED, KNOWN = "passed", "failed", "skipped", "known"
CHECKS: dict[str, Callable[[CheckContext], str]] = {
    "health": api.health,
    "tokens flow": api.tokens_flow,
    "served name": api.served_name,
    "metrics": api.metrics,
    "chat": api.chat,
    "streaming": api.streaming,
    "several turns": api.several_turns,
    "long prompt": api.long_prompt,
    "too long a prompt": api.too_long,
    "bad request": api.bad_request,
    "concurrency": api.concurrency,
    "determinism": api.determinism,
    "image": api.image,
    "speculative acceptance": api.acceptance,
    "parser cases": tools.parser_cases,
    "parser cases, streamed": tools.parser_cases_streamed,
    "single call": tools.single_call,
    "parallel calls": tools.parallel_calls,
    "streamed call": tools.streamed_call,
    "answer to a result": tools.after_result,
    "no call where none is due": tools.no_call,
    "reasoning apart": tools.reasoning_apart,
    "off": tools.thinking_off,
    "budget": tools.budget,
    "kernel files": place.kernel_files,
    "transport": place.transport,
    "files": place.files,
    "loopback only": place.loopback_only,
    "no key in sight": place.no_key,
    "runs as its own user": place.own_user,
    "401 without key": place.without_key,
    "closed endpoints": place.closed_endpoints,
    "identity": place.identity,
}


def run(context: CheckContext, checks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    down = ""
    for check in checks:
        result = {
            "tag": check["tag"],
            "name": check["name"],
            "status": SKIPPED,
            "said": check["skip"],
            "fix": "",
        }
        began = time.monotonic()
        if not check["skip"] and down and check["tag"] in ("health", "api", "tools", "thinking"):
            result["said"] = f"not asked: {down}"
        elif not check["skip"]:
            result.update(_one(context, CHECKS[check["name"]]))
            if result["status"] == FAILED and check.get("known"):
                # The plan warned of it; whoever accepted the plan looks here for what is new.
                result.update(status=KNOWN, fix=check["known"])
            if result["status"] == FAILED and check["name"] == "health":
                down = "the server is not healthy"
        results.append({**result, "seconds": round(time.monotonic() - began, 3)})
    return results


def _one(context: CheckContext, check: Callable[[CheckContext], str]) -> dict[str, str]:
    try:
        return {"status": PASSED, "said": check(context)}
    except NotHereError as reason:
        return {"status": SKIPPED, "said": str(reason)}
    except CheckError as error:
        return {"status": FAILED, "said": error.what, "fix": error.fix}
    except (OSError, ValueError, KeyError, TypeError) as error:
        # An answer that is formed like no other must not hide the checks that follow.
        return {"status": FAILED, "said": f"{type(error).__name__}: {error}", "fix": ""}
