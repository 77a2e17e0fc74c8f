# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that verify runs with the Python of an environment of SGLang, beside the server."""

from __future__ import annotations

PARSER = r"""
import json, sys
given = json.load(sys.stdin)
try:
    from sglang.srt.entrypoints.openai.protocol import Tool
    from sglang.srt.function_call.function_call_parser import FunctionCallParser
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit(0)
tools = [Tool(**tool) for tool in given["tools"]]
sizes, results = (1, 3, 7, 16), []
for text in given["texts"]:
    found = {}
    for size in sizes:
        parser = FunctionCallParser(tools=tools, tool_call_parser=given["parser"])
        calls, said = {}, ""
        for start in range(0, len(text), size):
            piece, items = parser.parse_stream_chunk(text[start:start + size])
            said += piece or ""
            for item in items:
                call = calls.setdefault(item.tool_index, {"name": "", "arguments": ""})
                call["name"] += item.name or ""
                call["arguments"] += item.parameters or ""
        found[str(size)] = [[calls[key] for key in sorted(calls)], said]
    said, items = FunctionCallParser(tools=tools, tool_call_parser=given["parser"]).parse_non_stream(text)
    found["all"] = [[{"name": item.name or "", "arguments": item.parameters or ""} for item in items], said or ""]
    results.append(found)
print(json.dumps({"results": results, "sizes": [*map(str, sizes), "all"]}))
"""
"""Reads {parser, tools, texts}; prints what the parser makes of each text in pieces of several sizes."""

BUDGET = r"""
import sys
from sglang.srt.sampling import custom_logit_processor
print(getattr(custom_logit_processor, sys.argv[1])().to_str())
"""
"""Prints the processor that is named, as requests carry it."""

SCRIPTS = {"parser": PARSER, "budget": BUDGET}
