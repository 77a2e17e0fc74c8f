# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of the gateway's configuration: quoting, and the answers that HAProxy gives itself."""

from __future__ import annotations

import json

# Words of HTTP that HAProxy answers itself, with what a client is told.
WORDS = {
    400: ("invalid_request_error", "the request could not be understood"),
    401: ("invalid_api_key", "give a valid key: Authorization: Bearer KEY"),
    404: ("not_found", "there is nothing at this path"),
    408: ("timeout", "the request did not arrive in time"),
    411: ("length_required", "send the body with Content-Length, and not in chunks"),
    413: ("request_too_large", "the body is larger than the gateway takes"),
    429: ("rate_limit_exceeded", "this key has no request left for now"),
    431: ("headers_too_large", "the headers are larger than the gateway takes"),
    500: ("server_error", "the gateway failed"),
    502: ("bad_gateway", "the engine gave no valid answer"),
    503: ("overloaded", "no engine takes requests for this model now"),
    504: ("timeout", "the engine did not answer in time"),
}
BY_HAPROXY = (400, 408, 500, 502, 503, 504)


def quoted(text: str) -> str:
    """One word of the configuration; nothing in it is expanded."""
    return "'" + text.replace("'", "'\\''") + "'"


def body(status: int, message: str = "") -> str:
    code, words = WORDS[status]
    return json.dumps({"error": {"code": code, "message": message or words, "type": code}}, sort_keys=True)


def answer(status: int, condition: str, message: str = "", *headers: str) -> str:
    more = "".join(f" hdr {header}" for header in headers)
    return (
        f"    http-request return status {status} content-type application/json string "
        f"{quoted(body(status, message))}{more} {condition}"
    )
