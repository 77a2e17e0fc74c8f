# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of a run on a GPU: what it reads from an engine's log, and when it calls a number wrong."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.baremetal.sglang.tests.silicon import compare, make_model, report, stand_in_init

GIB = 1 << 30
LOG = """\
[2026-11-30 17:13:40] server_args=ServerArgs(model_path='/opt/m/x', attention_backend='fa3', sampling_backend=None)
[2026-11-30 17:14:01] Init torch distributed ends. elapsed=0.25 s, mem usage=0.09 GB
[2026-11-30 17:14:03] Load weight end. elapsed=1.93 s, type=Glm4MoeForCausalLM, avail mem=131.10 GB, mem usage=8.33 GB.
[2026-11-30 17:14:03] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 5146821, K size: 58.90 GB, V size: 58.90 GB
[2026-11-30 17:14:03] Memory pool end. avail mem=10.14 GB
[2026-11-30 17:15:23] Capture target prefill CUDA graph end. elapsed=80.41 s, mem usage=2.36 GB, avail mem=7.43 GB.
[2026-11-30 17:15:24] Using MoE kernel config from /opt/x/E=161,N=384.json.
[2026-11-30 17:15:30] Capture target decode CUDA graph end. elapsed=7.10 s, mem usage=0.39 GB, avail mem=7.04 GB.
[2026-11-30 17:15:31] max_total_num_tokens=5146821, chunked_prefill_size=8192, max_running_requests=4096, \
context_len=202752, available_gpu_mem=6.71 GB
""".replace("\\\n", "")


def read(text: str = LOG) -> dict[str, Any]:
    return compare.read_log(text.splitlines())


def test_the_numbers_of_a_start() -> None:
    found = read()
    assert found["tokens"] == 5_146_821
    assert found["kv_bytes"] == pytest.approx(117.80 * GIB)
    assert found["weights_bytes"] == pytest.approx(8.33 * GIB)
    assert found["draft_bytes"] == 0
    assert found["table_bytes"] == pytest.approx(3.16 * GIB, abs=0.01 * GIB)
    assert found["prefill_graph_bytes"] == pytest.approx(2.36 * GIB)
    assert found["decode_graph_bytes"] == pytest.approx(0.39 * GIB)
    assert (found["requests"], found["context"], found["attention"]) == (4096, 202752, "fa3")
    assert found["tiles"] == ["/opt/x/E=161,N=384.json"]
    assert found["default_tiles"] == []
    assert found["seconds"]["prefill graphs"] == pytest.approx(80.41)


def test_a_second_pool_and_a_second_model_are_the_drafts() -> None:
    lines = LOG.splitlines()
    text = "\n".join([*lines[:4], lines[2], lines[3].replace("58.90", "9.80"), *lines[4:]])
    found = read(text)
    assert found["draft_kv_bytes"] == pytest.approx(19.6 * GIB)
    assert found["draft_bytes"] == pytest.approx(8.33 * GIB)
    assert "table_bytes" not in found


def test_a_log_without_numbers_gives_none() -> None:
    found = read("nothing of interest")
    assert "tokens" not in found
    assert found["tiles"] == []


@pytest.mark.parametrize(
    ("planned", "real", "limit", "off", "ok"),
    [
        (103, 100, 3.0, 3.0, True),
        (104, 100, 3.0, 4.0, False),
        (96, 100, 3.0, -4.0, False),
        ("fa3", "triton", None, None, False),
        ("fa3", "fa3", None, None, True),
        (100, None, 3.0, None, None),
        (None, 100, 3.0, None, None),
    ],
)
def test_when_a_number_is_off(
    planned: Any, real: Any, limit: float | None, off: float | None, ok: bool | None
) -> None:
    made = compare.row("it", planned, real, limit)
    assert (made["off"], made["ok"]) == (off, ok)


def test_the_rounding_of_the_log_is_no_error() -> None:
    assert compare.row("it", 0.004 * GIB, 0.01 * GIB, slack=compare.ROUNDING)["ok"]
    assert not compare.row("it", 0.2 * GIB, 0.3 * GIB, slack=compare.ROUNDING)["ok"]


def instance(**memory: Any) -> dict[str, Any]:
    return {
        "memory": {"kv_bytes": 117.8 * GIB, "kv_bytes_per_token": 24576.0, "weights_bytes": 8.3 * GIB, "draft_bytes": 0, **memory},
        "context": {"tokens": 5_175_043, "length": 202752},
        "arguments": [{"flag": "max-running-requests", "value": 512}, {"flag": "attention-backend", "value": "fa3"}],
        "service": {"checks": {"kernel_files": ["/opt/x/E=161,N=384.json"]}},
        "ports": [{"address": "127.0.0.1", "port": 30000}],
    }  # fmt: skip


def test_every_size_of_the_plan_is_compared() -> None:
    planned = instance(
        table_bytes=3.1 * GIB,
        prefill_graph_bytes=0.5 * GIB,
        decode_graph_bytes=0.39 * GIB,
        left_bytes=7 * GIB,
    )
    rows = {item["what"]: item for item in compare.sizes(planned, read())}
    assert {name for name, item in rows.items() if item["ok"] is None} == set()
    wrong = {name for name, item in rows.items() if item["ok"] is False}
    assert wrong == {"prefill graphs", "running requests", "left for activations"}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (LOG, []),
        (LOG.replace("E=161,N=384", "E=160,N=384"), ["kernel file"]),
        (LOG + "Using default MoE kernel config", ["no default tiles"]),
    ],
)
def test_which_tiles_were_loaded(text: str, wrong: list[str]) -> None:
    rows = compare.kernels(instance(), read(text))
    assert [item["what"] for item in rows if not item["ok"]] == wrong


def test_ports_that_nobody_planned() -> None:
    rows = compare.ports(instance(), ["127.0.0.1:30000", "127.0.0.1:5", "[::]:41234"])
    assert [item["ok"] for item in rows] == [True, False]
    assert rows[1]["real"] == ["[::]:41234"]


def test_the_page_shows_what_is_off_and_escapes_what_it_is_given() -> None:
    stage = {
        "state": "done", "seconds": 1.0, "said": "<b>",
        "comparisons": {"memory": [compare.row("KV tokens", 2, 1)]}, "tables": {"load": [{"streams": 1}]},
    }  # fmt: skip
    run = {"machine": {"gpu": "H200"}, "stages": {"start": stage}}
    page = report.page(run)
    assert "<tr class=bad><td>KV tokens" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert any("off: KV tokens: planned 2, real 1" in line for line in report.summary(run))


@pytest.mark.parametrize(
    ("method", "size"), [("fp8", 10_082_927_872), ("int8", 7_232_594_176), ("awq", 6_825_188_608)]
)
def test_the_checkpoint_holds_every_module_once(method: str, size: int) -> None:
    tensors = list(make_model.plan_of(method, 6, 192 if method == "int8" else 384))
    assert len({tensor.name for tensor in tensors}) == len(tensors)
    assert sum(tensor.bytes for tensor in tensors) == size
    assert sum(".mlp.experts.0.gate_proj." in tensor.name for tensor in tensors) == 6 * (
        3 if method == "awq" else 2
    )
    assert all(
        sum(t.bytes for t in part) <= make_model.FILE_BYTES or len(part) == 1
        for part in make_model.files_of(iter(tensors))
    )


def test_a_unit_file_as_the_stand_in_init_reads_it() -> None:
    found = stand_in_init.parsed(
        "[Service]\n# a\nUser=me\nReadWritePaths=/a\nReadWritePaths=/b\nLimitX=1\nLimitX=\n"
    )
    assert found == {"User": ["me"], "ReadWritePaths": ["/a", "/b"], "LimitX": []}
    assert [stand_in_init.seconds(text, 9) for text in ("5", "200ms", "2min", "what")] == [5, 0.2, 120, 9]
