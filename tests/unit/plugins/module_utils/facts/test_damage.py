# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A damaged answer leads to the truth or to a named refusal; tests/benchmarks/bench_facts.py tries ten thousand."""

from __future__ import annotations

import signal

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts import gather as gather_module
from ansible_collections.baremetal.sglang.tests.unit.fixtures import corpus
from ansible_collections.baremetal.sglang.tests.unit.fixtures.damage import DAMAGES
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import capture, codes
from ansible_collections.baremetal.sglang.tests.unit.fixtures.memory_host import MemoryHost
from hypothesis import given, settings
from hypothesis import strategies as st

# Seconds of processes and sockets: from `make test` on.
pytestmark = pytest.mark.slow

CASES = 260
MOST_COMPUTED_SECONDS = 60.0
"""All parsers together take less than two; one that grows with the square takes hours."""
H200 = "nvidia_smi/nvidia-smi-4xH200-580.159.04.xml"
CAPABLE = "index, uuid, pci.bus_id, compute_cap\n" + "".join(
    f"{place}, GPU-00000000-0000-0000-0000-{place + 1:012}, 00000000:00:{place + 6:02x}.0, 9.0\n"
    for place in range(4)
)


def four_h200(**answers: str) -> MemoryHost:
    host = MemoryHost()
    host.driver("580.159.04")
    for slot in range(6, 10):
        host.gpu_on_bus(f"0000:00:{slot:02x}.0")
    host.nvidia_smi(answers or {"-q -x": capture(H200), f"{corpus.CAPABILITY}": CAPABLE})
    return host


def test_every_damage_is_tried_on_every_form() -> None:
    known = corpus.names()
    tried = {
        (corpus.scenario(known[number % len(known)]).form, number % len(DAMAGES)) for number in range(CASES)
    }
    assert {form for form, _damage in tried} == set(corpus.QUESTIONS)


@pytest.mark.parametrize("start", range(0, CASES, 20))
def test_damaged_captures(start: int) -> None:
    cases = [(number, *corpus.case(number)) for number in range(start, start + 20)]
    wrong = [(number, name, damage, result) for number, name, damage, result in cases if result.wrong]
    assert not wrong, wrong


@settings(max_examples=40, deadline=None, derandomize=True)
@given(text=st.text(max_size=400), form=st.sampled_from(sorted(corpus.QUESTIONS)))
def test_any_text_instead_of_a_listing(text: str, form: str) -> None:
    name = next(name for name in corpus.names() if corpus.scenario(name).form == form)
    assert corpus.outcome(name, text).kind == "refused"


def test_a_host_with_gpus_is_never_planned_for_the_cpu() -> None:
    for text in (
        "",
        "\n",
        "Killed\n",
        "<?xml version='1.0'?><nvidia_smi_log></nvidia_smi_log>\n",
        "<a>" * 50_000,
    ):
        host = four_h200(**{"-q -x": text})
        facts = host.gather(host="gpu-01")
        assert facts.gpus == ()
        result = corpus.plan(facts)
        assert [refusal.code for refusal in result.refusals] == ["host-fault"], text[:40]


@pytest.mark.parametrize(
    "sign",
    ["/dev/nvidia0", "/proc/driver/nvidia/gpus/0000:01:00.0/information", "/sys/module/nvidia/version"],
)
def test_one_sign_of_a_gpu_is_enough(sign: str) -> None:
    host = MemoryHost(files={sign: "580.95.05\n" if sign.endswith("version") else ""})
    facts = host.gather(host="gpu-01")
    assert codes(facts) & {"gpu-none-listed", "nvidia-smi-missing"}
    assert corpus.plan(facts).refusals
    assert not MemoryHost().gather(host="gpu-01").faults


def test_a_display_class_of_any_kind_is_a_gpu() -> None:
    for kind in ("0x030000", "0x030200", "0x038000", "030200"):
        host = MemoryHost()
        host.gpu_on_bus("0000:01:00.0", kind=kind, driver="")
        assert codes(host.gather()) == {"driver-missing"}, kind
    audio = MemoryHost()
    audio.gpu_on_bus("0000:01:00.1", kind="0x040300", driver="snd_hda_intel")
    assert codes(audio.gather()) == set()


def test_an_exception_while_the_gpus_are_read_is_no_host_without_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_arguments: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(gather_module, "nvidia_facts", broken)
    facts = four_h200().gather(host="gpu-01")
    assert codes(facts) == {"gpu-probe-failed"}
    assert [refusal.code for refusal in corpus.plan(facts).refusals] == ["host-fault"]


def test_bombs_are_damage() -> None:
    start = capture(H200).partition("<gpu id")[0]
    entity = (
        start.replace("<nvidia_smi_log>", '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><nvidia_smi_log>') + "&a;"
    )
    for bomb in (
        start + "<a>" * 100_000,
        start + "<gpu>" * 5000 + "</gpu>" * 5000,
        entity,
        capture(H200) * 120,
    ):
        facts = four_h200(**{"-q -x": bomb}).gather(host="gpu-01")
        assert "nvidia-smi-unreadable" in codes(facts), bomb[-20:]
        assert corpus.plan(facts).refusals


def test_the_rows_of_one_gpu_twice() -> None:
    text = capture("nvidia_smi/nvidia-smi-query-4xH200.csv")
    facts = four_h200(**{"--query-gpu=index,name*": text + text.splitlines()[1] + "\n"}).gather()
    assert "gpu-listed-twice" in codes(facts)


def test_a_csv_that_lost_its_last_row_is_not_whole() -> None:
    rows = capture("nvidia_smi/nvidia-smi-query-4xH200.csv").splitlines(keepends=True)
    facts = four_h200(**{"--query-gpu=index,name*": "".join(rows[:-1])}).gather()
    assert {"gpu-missing", "gpu-list-incomplete"} & codes(facts)


def csv(**values: str) -> str:
    """What the CSV fallback is answered on one H200, some values replaced."""
    fields = {
        "index": "0", "name": "NVIDIA H200", "uuid": "GPU-1", "pci.bus_id": "00000000:00:06.0",
        "memory.total [MiB]": "143771 MiB", "memory.used [MiB]": "0 MiB", "driver_version": "580.159.04", "count": "1",
        "persistence_mode": "Enabled", "mig.mode.current": "Disabled", "mig.mode.pending": "Disabled",
        "ecc.mode.current": "Enabled", "ecc.mode.pending": "Enabled", "ecc.errors.uncorrected.volatile.total": "0",
        "retired_pages.pending": "[N/A]", "remapped_rows.pending": "No", "remapped_rows.failure": "No",
        "gpu_recovery_action": "None", "fabric.state": "Completed", "fabric.status": "Success",
    }  # fmt: skip
    unknown = set(values) - set(fields)
    assert not unknown
    fields.update(values)
    kept = {name: value for name, value in fields.items() if value != "gone"}
    return f"{', '.join(kept)}\n{', '.join(kept.values())}\n"


def one_h200(text: str) -> MemoryHost:
    host = MemoryHost()
    host.driver("580.159.04")
    host.gpu_on_bus("0000:00:06.0")
    host.nvidia_smi({"-q -x": capture(H200)[:20000], "--query-gpu=index,name*": text})
    return host


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({}, ""),
        ({"mig.mode.current": "Enabled", "mig.mode.pending": "Enabled"}, "gpu-mig-enabled"),
        ({"mig.mode.current": "Enablad"}, "gpu-unreadable"),
        ({"mig.mode.current": "gone"}, "gpu-mig-unknown"),
        ({"mig.mode.current": "[Insufficient Permissions]"}, "gpu-mig-unknown"),
        ({"remapped_rows.pending": "Yes"}, "gpu-row-remap-pending"),
        ({"remapped_rows.failure": "Yes"}, "gpu-row-remap-failed"),
        ({"remapped_rows.failure": "gone"}, "gpu-health-unknown"),
        ({"ecc.errors.uncorrected.volatile.total": "3"}, "gpu-ecc-errors"),
        ({"ecc.errors.uncorrected.volatile.total": "ERR!"}, "gpu-unreadable"),
        ({"ecc.errors.uncorrected.volatile.total": "zero"}, "gpu-unreadable"),
        ({"gpu_recovery_action": "Reset"}, "gpu-needs-reset"),
        ({"gpu_recovery_action": "gone"}, "gpu-health-unknown"),
        ({"memory.used [MiB]": "900000 MiB"}, "gpu-numbers-impossible"),
        ({"memory.total [MiB]": "99999999999 MiB"}, "gpu-numbers-impossible"),
        ({"memory.total [MiB]": "143771 MoB"}, "gpu-memory-unknown"),
        ({"uuid": "%PU-1"}, "gpu-unreadable"),
        ({"pci.bus_id": "00000000:00:99.0"}, "gpu-not-on-bus"),
        ({"driver_version": "580.95.05"}, "nvidia-smi-unreadable"),
    ],
    ids=str,
)  # fmt: skip
def test_the_csv_knows_as_much_of_the_health_as_it_says(values: dict[str, str], code: str) -> None:
    facts = one_h200(csv(**values)).gather()
    assert codes(facts) - {"gpu-missing"} == ({code} if code else set())


def test_fields_that_the_driver_does_not_know_are_left_out_and_named() -> None:
    host = one_h200("")
    text = csv(gpu_recovery_action="gone", **{"fabric.state": "gone", "fabric.status": "gone"})
    asked = []

    def answer(arguments: tuple[str, ...]) -> object:
        from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import Ran

        said = " ".join(arguments)
        asked.append(said)
        for field in ("gpu_recovery_action", "fabric.state", "fabric.status"):
            if said.startswith("--query-gpu") and field in said:
                return Ran(2, f'Field "{field}" is not a valid field to query.\n\n')
        return Ran(0, text) if said.startswith("--query-gpu=index,name") else Ran(2)

    host.programs["nvidia-smi"] = answer  # type: ignore[assignment]
    facts = host.gather()
    assert [gpu.mig_enabled for gpu in facts.gpus] == [False]
    assert codes(facts) == {"gpu-health-unknown"}
    assert "recovery action" in facts.faults[0].what
    assert sum("index,name" in words for words in asked) == 4


def test_the_table_is_no_way_round_damaged_xml() -> None:
    table = capture("nvidia_smi/h200-590.48.01-table.txt")
    torn = {"-q -x": capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")[:9000], "": table}
    host = MemoryHost()
    host.driver("590.48.01")
    host.gpu_on_bus("0000:83:00.0")
    host.nvidia_smi(torn)
    facts = host.gather()
    assert len(facts.gpus) == 1
    assert {"nvidia-smi-unreadable", "gpu-health-unknown"} <= codes(facts)
    host.nvidia_smi({"": table})
    assert codes(host.gather()) == {"gpu-health-unknown"}


@pytest.mark.parametrize(
    "junk",
    [" ", "\n", "\t", "a ", ": ", "|", "<a>", "GPU 0: ", "=", "Link 0: ", "(", "1.", "inet ", "Port 1:"],
)
def test_no_parser_grows_faster_than_its_input(junk: str) -> None:
    """Far more work than any of them needs; only the time that this process itself computed counts."""
    from ansible_collections.baremetal.sglang.plugins.module_utils.facts import (
        disks,
        fabric,
        installed,
        kernel_events,
        network,
        nvidia_driver,
        nvidia_smi,
        nvidia_topology,
        rdma_text,
        system,
        toolkit,
    )

    parsers = [
        nvidia_smi.parse, lambda text: nvidia_smi.explain(1, text, text), kernel_events.parse_kernel_log,
        nvidia_topology.parse_topology, nvidia_topology.parse_nvlink,
        rdma_text.parse_rdma_link, rdma_text.parse_ibdev2netdev, system.parse_release,
        system.parse_meminfo, system.parse_lscpu, system.parse_service_limits,
        system.parse_process_limits, installed.parse_properties, fabric.parse_nccl_conf, network.parse_ip_text,
        network.parse_ip_json, network.parse_listening, nvidia_driver.parse_proc_version, nvidia_driver.parse_modinfo,
        toolkit.parse_cxx, toolkit.parse_nvcc, disks.parse_mounts,
    ]  # fmt: skip

    def too_much(_number: int, _frame: object) -> None:
        raise AssertionError("more than linear")

    handler = signal.signal(signal.SIGVTALRM, too_much)
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_COMPUTED_SECONDS)
    try:
        for parse in parsers:
            for head in ("", "GPU 0:\n", "CA 'mlx5_0'\n", "NVRM: Xid (PCI:0000:01:00): 79, "):
                parse(head + junk * (40_000 // len(junk)))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
