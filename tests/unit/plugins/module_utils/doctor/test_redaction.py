# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stranger may read of a host, and what not."""

from __future__ import annotations

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.doctor.redaction import Redaction, numbered

KEY = "s3cretValue123"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"authorization: Basic {KEY}",
        f'{{"api_key": "{KEY}"}}',
        f"--api-key {KEY} --port 1",
        f"--admin-api-key={KEY}",
        f"HF_TOKEN={KEY}",
        f"export MY_PASSWORD='{KEY}'",
        f"http://user:{KEY}@proxy.example:3128/",
        f"Cookie: {KEY}",
        f"x-api-key: {KEY}",
        f"client_secret = {KEY}",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{KEY}\n-----END OPENSSH PRIVATE KEY-----",
        f"sk-{KEY}",
        f"hf_{KEY}",
    ],
)
def test_no_secret_is_left(text: str) -> None:
    said = Redaction().text(f"before {text} after")
    assert KEY not in said and "(removed)" in said
    assert said.startswith("before ") and said.endswith(" after")


@pytest.mark.parametrize(
    "text",
    [
        "prompt_tokens: 1024, completion_tokens: 77",
        "max-total-tokens 202752",
        "gen throughput (token/s): 123.45, #queue-req: 0",
        "listening on 127.0.0.1:30000 and [::1]:30000 and 0.0.0.0",
        "driver 580.95.05, torch 2.11.0, at 12:34:56",
        "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ],
)
def test_figures_stay(text: str) -> None:
    assert Redaction().text(text) == text


def test_what_was_the_same_stays_the_same_under_another_name() -> None:
    redaction = Redaction({**numbered(["gpu-01.lab", "gpu-01"], "host"), "alice": "user"})
    first = redaction.text(
        "gpu-01.lab (10.0.0.11, fd00::11, 02:00:00:00:00:0a) asks gpu-01 and gpu-011 of 10.0.0.12"
    )
    assert first == "host-1 (address-1, address-3, mac-1) asks host-2 and gpu-011 of address-2"
    assert redaction.text("10.0.0.12 alice malice") == "address-2 user malice"
    gpu = "GPU-0123abcd-0123-0123-0123-0123456789ab"
    assert redaction.text(f"{gpu} {gpu.upper().replace('GPU', 'GPU')}") == "GPU-1 GPU-1"
    assert redaction.text("Serial Number : 1563221045678") == "Serial Number : serial-1"


def test_a_long_text_takes_no_long_time() -> None:
    """Work that grows with the square of the text would not end here."""
    for piece in (
        "a" * 200_000,
        "token " * 40_000,
        "1." * 100_000,
        ":" * 100_000,
        "-----BEGIN X-----" * 5_000,
    ):
        Redaction().text(piece)
