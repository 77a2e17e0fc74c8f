# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every form of nvidia-smi's output, whole, damaged and refusing."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.gpu import gpus_of, joined
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.nvidia_smi import explain, form_of, parse
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.schema import Gpu
from ansible_collections.baremetal.sglang.tests.unit.fixtures.fake_host import FIXTURES, capture
from hypothesis import given, settings
from hypothesis import strategies as st

PRODUCTS = {
    "NVIDIA A800-SXM4-80GB": "a800-sxm4-80gb",
    "H200": "h200",
    "NVIDIA  H100 80GB HBM3": "h100",
    "NVIDIA GB10": "gb10",
}

# file: form, driver, CUDA level, GPUs, then of the last GPU: product, model, MiB, address, codes of all faults
LISTINGS = {
    "nvidia_smi/nvidia-smi-4xH200-580.159.04.xml": (
        "xml", "580.159.04", "13.0", 4, "NVIDIA H200", "h200", 143771, "0000:00:09.0", set()),
    "nvidia_smi/a10g-q-x.xml": (
        "xml", "515.105.01", "11.7", 1, "NVIDIA A10G", "", 23028, "0000:00:1e.0",
        {"gpu-persistence-off", "gpu-pcie-narrow"}),
    "nvidia_smi/tesla-p100-q-x.xml": (
        "xml", "510.47.03", "11.6", 1, "Tesla P100-PCIE-16GB", "", 16384, "0000:00:04.0", {"gpu-persistence-off"}),
    "nvidia_smi/tesla-t4-q-x.xml": (
        "xml", "515.105.01", "11.7", 1, "Tesla T4", "", 15360, "0000:00:1e.0",
        {"gpu-persistence-off", "gpu-pcie-narrow"}),
    "nvidia_smi/rtx3080-q-x-v12.xml": (
        "xml", "536.40", "12.2", 1, "NVIDIA GeForce RTX 3080", "", 10240, "0000:04:00.0", set()),
    "nvidia_smi/rtx3090-q-x-v13.xml": (
        "xml", "590.44.01", "13.1", 1, "NVIDIA GeForce RTX 3090", "", 24576, "0000:09:00.0", set()),
    "nvidia_smi/rtx4000-sff-ada-q-x-v13.xml": (
        "xml", "595.84", "13.2", 1, "NVIDIA RTX 4000 SFF Ada Generation", "", 20475, "0000:06:00.0", set()),
    "nvidia_smi/rtx4090-535-q-x.xml": (
        "xml", "535.86.05", "12.2", 1, "NVIDIA GeForce RTX 4090", "", 24564, "0000:84:00.0", set()),
    "nvidia_smi/rtx-pro-6000-maxq-q-x-v13.xml": (
        "xml", "590.44.01", "13.1", 1, "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "", 97887,
        "0000:61:00.0", set()),
    "nvidia_smi/h100-8x-535.161.08-q.txt": (
        "text", "535.161.08", "12.2", 8, "NVIDIA H100 80GB HBM3", "h100", 81559, "0000:db:00.0", {"gpu-slowdown"}),
    "nvidia_smi/rtx4090-8x-535.154.05-q.txt": (
        "text", "535.154.05", "12.2", 8, "NVIDIA GeForce RTX 4090", "", 24564, "0000:e1:00.0", set()),
    "nvidia_smi/titan-v-560.35.03-q.txt": (
        "text", "560.35.03", "12.6", 1, "NVIDIA TITAN V", "", 12288, "0000:01:00.0", {"gpu-persistence-off"}),
    "nvidia_smi/h200-590.48.01-q.txt": (
        "text", "590.48.01", "13.1", 1, "NVIDIA H200", "h200", 143771, "0000:83:00.0", set()),
    "nvidia_smi/h200-590.48.01-query-gpu-all.csv": (
        "csv", "590.48.01", "", 1, "NVIDIA H200", "h200", 143771, "0000:83:00.0", set()),
    "nvidia_smi/nvidia-smi-query-4xH200.csv": (
        "csv", "580.159.04", "", 4, "NVIDIA H200", "h200", 143771, "0000:00:09.0", set()),
    "nvidia_smi/query-4xRTX-PRO-6000-MaxQ.csv": (
        "csv", "", "", 4, "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "", 97887, "", set()),
    "a800/nvidia-smi-query-8xA800-580.95.05.csv": (
        "csv", "580.95.05", "", 8, "NVIDIA A800-SXM4-80GB", "a800-sxm4-80gb", 81920, "", set()),
    "a800/nvidia-smi-table-8xA800-580.95.05.txt": (
        "table", "580.95.05", "13.0", 8, "NVIDIA A800-SXM4-80GB", "a800-sxm4-80gb", 81920, "0000:c4:00.0",
        {"gpu-persistence-off"}),
    "a800/nvidia-smi-table-A800-SXM-535.54.03-first3.txt": (
        "table", "535.54.03", "12.2", 3, "NVIDIA A800-SXM4-80GB", "a800-sxm4-80gb", 81920, "0000:61:00.0", set()),
    "a800/nvidia-smi-table-A800-PCIe-550.54.15-first2.txt": (
        "table", "550.54.15", "12.4", 2, "NVIDIA A800 80GB PCIe", "", 81920, "0000:50:00.0", set()),
    "nvidia_smi/table-550.90.07.txt": (
        "table", "550.90.07", "12.4", 8, "NVIDIA H100 80GB HBM3", "h100", 81559, "0000:db:00.0", set()),
    "nvidia_smi/table-590.48.01-4xGB200-first2.txt": (
        "table", "590.48.01", "13.1", 2, "NVIDIA GB200", "", 189471, "0009:01:00.0", set()),
    "nvidia_smi/rtx4080super-595.71.05-table.txt": (
        "table", "595.71.05", "13.2", 1, "NVIDIA GeForce RTX 4080 ...", "", 16376, "0000:01:00.0",
        {"gpu-product-unknown", "gpu-persistence-off"}),
    "gb10/nvidia-smi-table-580.126.09.txt": (
        "table", "580.126.09", "13.0", 1, "NVIDIA GB10", "gb10", None, "000f:01:00.0", set()),
    "gb10/nvidia-smi-query-inventory-580.142.csv": (
        "csv", "580.142", "", 1, "NVIDIA GB10", "gb10", None, "000f:01:00.0", set()),
    "gb10/nvidia-smi-q-excerpt-580.178.04.txt": (
        "text", "580.178.04", "13.0", 1, "NVIDIA GB10", "gb10", None, "000f:01:00.0",
        {"gpu-memory-unknown", "gpu-unreadable", "nvidia-smi-unreadable"}),
    "gb10/nvidia-smi-query-pcie-580.142.csv": (
        "csv", "", "", 1, "", "", None, "000f:01:00.0", {"gpu-product-unknown", "gpu-memory-unknown"}),
    "nvidia_smi/l40s-595.80-L.txt": (
        "names", "", "", 1, "NVIDIA L40S", "", None, "", {"gpu-memory-unknown"}),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTINGS)
def test_captures(name: str) -> None:
    form, driver, cuda, count, product, model, memory, address, codes = LISTINGS[name]
    listing = parse(capture(name))
    gpus, faults = gpus_of(listing, PRODUCTS)
    last = gpus[-1]
    assert (listing.form, listing.driver, listing.cuda, len(gpus)) == (form, driver, cuda, count)
    assert (last.product, last.model, last.memory_mib, last.pci_address) == (product, model, memory, address)
    assert [gpu.index for gpu in gpus] == list(range(count))
    assert {fault.code for fault in faults} == codes


def test_every_field_of_one_gpu() -> None:
    gpus, _faults = gpus_of(parse(capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")), PRODUCTS)
    assert gpus[1] == Gpu(
        index=1,
        model="h200",
        product="NVIDIA H200",
        memory_mib=143771,
        uuid="GPU-00000000-0000-0000-0000-000000000002",
        minor=1,
        pci_address="0000:00:07.0",
        pcie_generation=5,
        pcie_generation_max=5,
        pcie_width=16,
        pcie_width_max=16,
        ecc_enabled=True,
        ecc_uncorrected=0,
        persistence=True,
        fabric_state="Completed",
        memory_used_mib=0,
    )


def test_text_csv_and_table_agree() -> None:
    """Three captures of the same host."""
    names = (
        "h100-sxm-590.48.01-q.txt",
        "h100-sxm-590.48.01-query-gpu-all.csv",
        "h100-sxm-590.48.01-table.txt",
    )
    seen = [gpus_of(parse(capture(f"nvidia_smi/{name}")), PRODUCTS)[0][0] for name in names]
    for field in ("product", "memory_mib", "pci_address", "persistence", "ecc_enabled", "ecc_uncorrected"):
        assert len({getattr(gpu, field) for gpu in seen}) == 1, field


@pytest.mark.parametrize(
    ("name", "pids"),
    [
        ("nvidia_smi/rtx3080-q-x-v12.xml", (835, 1481, 2214, 4044, 42416)),
        ("nvidia_smi/rtx4080super-595.71.05-q.txt", (2165, 2496, 2620, 2954, 3527)),
        ("nvidia_smi/rtx4080super-595.71.05-table.txt", (2165, 2496, 2620, 2954, 3527)),
    ],
)
def test_processes(name: str, pids: tuple[int, ...]) -> None:
    assert gpus_of(parse(capture(name)), {})[0][0].processes == pids


def test_version_tells_module_and_library_apart() -> None:
    listing = parse(capture("nvidia_smi/h100-sxm-590.48.01-version.txt"))
    assert (listing.form, listing.driver, listing.library, listing.cuda) == (
        "version",
        "590.48.01",
        "590.48",
        "13.1",
    )


def test_second_query_adds_the_compute_capability() -> None:
    listing = joined(
        parse(capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")),
        parse(capture("nvidia_smi/nvidia-smi-query-4xH200.csv")),
    )
    assert [gpu.compute_capability for gpu in gpus_of(listing, {})[0]] == ["9.0"] * 4


REFUSALS = [
    (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
        "NVIDIA driver is installed and running.\n\n", "driver-not-loaded", "driver"),
    (6, "No devices were found\n", "nvidia-smi-no-devices", "driver"),
    (18, "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.171\n",
        "library-mismatch", "driver"),
    (15, "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost.  Reboot the system to recover "
        "this GPU\n", "gpu-lost", "GPU 0000:3b:00.0"),
    (255, "Unable to determine the device handle for GPU0000:AF:00.0: Unknown Error\n", "gpu-unreadable",
        "GPU 0000:af:00.0"),
    (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display "
        "Driver is properly installed\n", "nvidia-smi-no-library", "driver"),
    (4, "Failed to initialize NVML: Insufficient Permissions\n", "nvidia-smi-no-permission", "driver"),
    (17, "Failed to initialize NVML: Unknown Error\n", "nvidia-smi-no-permission", "driver"),
    (255, "Failed to initialize NVML: Unknown Error\n", "nvidia-smi-failed", "driver"),
    (16, "Unable to determine the device handle for GPU 0000:00:06.0: GPU requires reset\n", "gpu-needs-reset",
        "GPU 0000:00:06.0"),
    (14, "", "inforom-corrupted", "driver"),
    (8, "", "gpu-power-cable", "GPU"),
    (10, "", "gpu-interrupts", "GPU"),
    (139, "", "nvidia-smi-failed", "driver"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "said", "code", "subject"), REFUSALS)
def test_refusals(status: int, said: str, code: str, subject: str) -> None:
    assert [(fault.code, fault.subject) for fault in explain(status, said, "")] == [(code, subject)]
    assert parse(said).records == ()


def test_mismatch_names_both_versions() -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.171\n"
    assert "module is 535.104.05, the libraries are 535.171" in explain(18, said, "", "535.104.05")[0].what


def test_warning_behind_a_good_listing() -> None:
    out = capture("nvidia_smi/a10g-q-x.xml") + "\nWARNING: infoROM is corrupted at gpu 0000:00:1E.0\n"
    assert len(parse(out).records) == 1
    assert [(fault.code, fault.subject) for fault in explain(14, out, "")] == [
        ("inforom-corrupted", "GPU 0000:00:1e.0")
    ]


@pytest.mark.parametrize(
    "name", ["nvidia_smi/nvidia-smi-4xH200-580.159.04.xml", "nvidia_smi/h100-8x-535.161.08-q.txt"]
)
def test_a_good_listing_needs_no_explanation(name: str) -> None:
    assert explain(0, capture(name), "") == []


# a value of the H200 capture, what it becomes, the fault that follows on GPU 0
HEALTH = [
    (r"(?s)<current_mig>Disabled(.*?_mig>)Disabled", r"<current_mig>Enabled\1Enabled", "gpu-mig-enabled"),
    (r"<pending_mig>Disabled", "<pending_mig>Enabled", "gpu-mig-pending"),
    (r"<persistence_mode>Enabled", "<persistence_mode>Disabled", "gpu-persistence-off"),
    (r"<pending_ecc>Enabled", "<pending_ecc>Disabled", "gpu-ecc-pending"),
    (r"<dram_uncorrectable>0", "<dram_uncorrectable>3", "gpu-ecc-errors"),
    (r"<pending_retirement>N/A", "<pending_retirement>Yes", "gpu-pages-pending"),
    (r"<remapped_row_pending>No", "<remapped_row_pending>Yes", "gpu-row-remap-pending"),
    (r"<remapped_row_failure>No", "<remapped_row_failure>Yes", "gpu-row-remap-failed"),
    (r"<channel_repair_pending>No", "<channel_repair_pending>Yes", "gpu-repair-pending"),
    (r"<unrepairable_memory>No", "<unrepairable_memory>Yes", "gpu-memory-unrepairable"),
    (r"<gpu_recovery_action>None", "<gpu_recovery_action>Reset", "gpu-needs-reset"),
    (r"thermal_slowdown>Not Active", "thermal_slowdown>Active", "gpu-slowdown"),
    (r"<state>Completed", "<state>In Progress", "fabric-not-ready"),
    (r"<status>Success", "<status>Insufficient Resources", "fabric-not-ready"),
    (r"<bandwidth>N/A", "<bandwidth>Degraded", "fabric-unhealthy"),
    (r"<current_link_width>16x", "<current_link_width>8x", "gpu-pcie-narrow"),
    (r"<product_name>NVIDIA H200", "<product_name>Unknown Error", "gpu-unreadable"),
    (r"<gpu_temp>31 C", "<gpu_temp>GPU is lost", "gpu-lost"),
    (r"<used>0 MiB", "<used>GPU requires reset", "gpu-needs-reset"),
    (r"<attached_gpus>4", "<attached_gpus>8", "gpu-list-incomplete"),
]


@pytest.mark.parametrize(("before", "after", "code"), HEALTH)
def test_health(before: str, after: str, code: str) -> None:
    text, count = re.subn(before, after, capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml"), count=1)
    assert count == 1
    _gpus, faults = gpus_of(parse(text), PRODUCTS)
    assert {fault.code for fault in faults} - {"gpu-product-unknown"} == {code}
    assert {fault.subject for fault in faults} <= {"GPU 0", "driver"}


@pytest.mark.parametrize("words", ["[N/A]", "N/A", "Not Supported", "[Not Supported]"])
def test_memory_that_is_not_reported_is_unified(words: str) -> None:
    text = f"index, name, memory.total [MiB]\n0, NVIDIA GB10, {words}\n"
    gpu = gpus_of(parse(text), {})[0][0]
    assert (gpu.memory_mib, gpu.unified_memory) == (None, True)


@pytest.mark.parametrize("words", ["[Unknown Error]", "[GPU is lost]", "[Insufficient Permissions]", ""])
def test_memory_that_cannot_be_read_is_not_unified(words: str) -> None:
    text = f"index, name, memory.total [MiB]\n0, NVIDIA H200, {words}\n"
    gpus, faults = gpus_of(parse(text), {})
    assert (gpus[0].memory_mib, gpus[0].unified_memory) == (None, False)
    assert "gpu-memory-unknown" in {fault.code for fault in faults}


def test_torn_xml_keeps_the_complete_gpus() -> None:
    text = capture("nvidia_smi/nvidia-smi-4xH200-580.159.04.xml")
    third = [match.start() for match in re.finditer("<gpu id", text)][2]
    gpus, faults = gpus_of(parse(text[: third + 500]), PRODUCTS)
    assert [gpu.product for gpu in gpus] == ["NVIDIA H200"] * 2
    assert {fault.code for fault in faults} == {"nvidia-smi-unreadable", "gpu-list-incomplete"}


def test_csv_row_that_is_cut_off() -> None:
    gpus, faults = gpus_of(
        parse("index, name, memory.total [MiB]\n0, NVIDIA H200, 143771 MiB\n1, NVI"), PRODUCTS
    )
    assert len(gpus) == 1
    assert [fault.code for fault in faults] == ["nvidia-smi-unreadable"]


ALL = sorted(
    str(path.relative_to(FIXTURES))
    for path in FIXTURES.rglob("*.*")
    if path.suffix in (".xml", ".txt", ".csv")
)


def idle(gpus: tuple[Gpu, ...]) -> list[Gpu]:
    return [replace(gpu, processes=()) for gpu in gpus]


def test_a_csv_header_alone_is_cut_off() -> None:
    name = "gb10/nvidia-smi-query-pcie-580.142.csv"
    gpus, faults = gpus_of(parse(capture(name).splitlines(keepends=True)[0]), PRODUCTS)
    assert not gpus and [fault.code for fault in faults] == ["nvidia-smi-unreadable"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(sorted(LISTINGS)),
    part=st.floats(0, 1),
    noise=st.sampled_from(["", "\x00", "<", "\ud800", "|"]),
)
def test_truncated_anywhere(name: str, part: float, noise: str) -> None:
    """Facts or a named fault, never an exception; a damaged listing never invents a GPU."""
    whole = capture(name)
    text = whole[: int(len(whole) * part)] + noise
    listing = parse(text)
    gpus, faults = gpus_of(listing, PRODUCTS)
    assert len(gpus) <= LISTINGS[name][3]
    assert {gpu.product for gpu in gpus} <= {gpu.product for gpu in gpus_of(parse(whole), PRODUCTS)[0]} | {""}
    undamaged = gpus_of(parse(whole), PRODUCTS)[0]
    # a table or CSV that ends at the border between two GPUs, and lists of names or processes, look whole
    at_border = listing.form == "csv" and text.endswith("\n") and len(text.splitlines()) > 1
    if listing.form in ("xml", "text", "csv") and idle(gpus) != idle(undamaged) and not at_border:
        assert "nvidia-smi-unreadable" in {fault.code for fault in faults}


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(LISTINGS)),
    words=st.sampled_from(
        ["N/A", "[N/A]", "Not Supported", "[Insufficient Permissions]", "ERR!", "GPU is lost", "-1", "9" * 40]
    ),
    seed=st.randoms(use_true_random=False),
)
def test_values_replaced_anywhere(name: str, words: str, seed: object) -> None:
    def swap(match: re.Match[str]) -> str:
        return words if seed.random() < 0.1 else match.group(0)  # type: ignore[attr-defined]

    text = re.sub(r"\d[\d.]*( MiB| C| W|x)?|Enabled|Disabled|NVIDIA [\w-]+", swap, capture(name))
    gpus, faults = gpus_of(parse(text), PRODUCTS)
    assert all(gpu.memory_mib is None or gpu.memory_mib > 0 for gpu in gpus)
    assert all(fault.what and fault.fix for fault in faults)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), status=st.integers(-20, 300))
def test_any_text_at_all(text: str, status: int) -> None:
    gpus_of(parse(text), {})
    faults = explain(status, text, text)
    assert faults or status == 0


@pytest.mark.parametrize("name", ALL)
def test_foreign_captures_list_no_gpu(name: str) -> None:
    if form_of(capture(name)) == "":
        assert parse(capture(name)).records == ()
