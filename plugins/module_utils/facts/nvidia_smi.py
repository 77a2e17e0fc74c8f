# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of nvidia-smi tells: facts from whichever form it printed, named faults from its words."""

from __future__ import annotations

import re

from .faults import fault
from .nvidia_listing import Listing
from .nvidia_smi_flat import is_csv, parse_csv, parse_names, parse_table, parse_version
from .nvidia_smi_tree import parse_text, parse_xml
from .schema import Fault
from .values import MOST_CHARACTERS, pci_address, plain

STATUSES = {
    4: "nvidia-smi-no-permission",
    6: "nvidia-smi-no-devices",
    8: "gpu-power-cable",
    9: "driver-not-loaded",
    10: "gpu-interrupts",
    12: "nvidia-smi-no-library",
    14: "inforom-corrupted",
    15: "gpu-lost",
    16: "gpu-needs-reset",
    17: "nvidia-smi-no-permission",
    18: "library-mismatch",
}
"""Exit statuses that nvidia-smi documents, and 16 to 18 as its library numbers the same errors."""

_WORDS = (
    (r"driver/library version mismatch", "library-mismatch"),
    (r"couldn't communicate with the nvidia driver", "driver-not-loaded"),
    (r"driver not loaded", "driver-not-loaded"),
    (r"no devices were found", "nvidia-smi-no-devices"),
    (r"couldn't find libnvidia-ml|library not found", "nvidia-smi-no-library"),
    (r"gpu is lost|fallen off the bus|gpu access blocked", "gpu-lost"),
    (r"gpu requires reset", "gpu-needs-reset"),
    (r"inforom is corrupted", "inforom-corrupted"),
    (r"power cables? (?:is|are) not", "gpu-power-cable"),
    (r"insufficient permissions|no permission", "nvidia-smi-no-permission"),
    (r"unable to determine the device handle", "gpu-unreadable"),
    (r"failed to initialize nvml", "nvidia-smi-failed"),
)
_MOST_WORDS = 64 * 1024
_LISTED = ("<nvidia_smi_log", "NVSMI LOG", "| NVIDIA-SMI")
_ADDRESS = re.compile(r"\bgpu\s*#?((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])", re.IGNORECASE)


def form_of(output: str) -> str:
    """Which output of nvidia-smi a text is, "" for none of them."""
    start = plain(output)[:65536]
    if re.search(r"(?m)^[ \t]*Link \d+:|support Nvlink|^[^\n]*\bpid, process_name", start):
        return ""  # links and processes belong to GPUs, they list none
    tests = (
        ("xml", r"<nvidia_smi_log|<\?xml"),
        ("text", r"NVSMI LOG|^GPU [0-9A-F]{4,8}:[0-9A-F:.]+\s*$"),
        ("version", r"^NVIDIA-SMI version\s*:"),
        ("table", r"\| NVIDIA-SMI [0-9]|^\|=+\+=+"),
        ("names", r"^GPU \d+: [^(\n]* \(UUID: "),
    )
    found = next((form for form, pattern in tests if re.search(pattern, start, re.MULTILINE)), "")
    return found or ("csv" if is_csv(start) else "")


def parse(output: str) -> Listing:
    """Facts from any form; an unknown one gives no GPU and no fault (see `explain`)."""
    readers = {
        "xml": parse_xml,
        "text": parse_text,
        "table": parse_table,
        "csv": parse_csv,
        "names": parse_names,
        "version": parse_version,
    }
    form = form_of(output)
    if form and len(output) > MOST_CHARACTERS:
        detail = f"{len(output) // 2**20} MiB, more than any host prints"
        return Listing(form, faults=(fault("nvidia-smi-unreadable", "driver", detail=detail),))
    reader = readers.get(form)
    return reader(output) if reader else Listing("")


def _outside(output: str) -> str:
    """The lines around a listing: warnings come before, after or instead of it."""
    if any(sign in output for sign in _LISTED):
        lines = plain(output).splitlines()
        return "\n".join(line for line in lines if line[:1].isalpha() and " : " not in line)
    return output


def explain(status: int, out: str, err: str, module_version: str = "") -> list[Fault]:
    """Named faults for what nvidia-smi said about itself, or for its exit status."""
    said = plain(plain(_outside(out))[:_MOST_WORDS] + "\n" + err[:_MOST_WORDS]).strip()
    library = re.search(r"(?:NVML )?library version:\s*([0-9.]+)", said, re.IGNORECASE)
    faults: list[Fault] = []
    for line in said.splitlines():
        code = next((code for words, code in _WORDS if re.search(words, line, re.IGNORECASE)), "")
        if not code or (code == "nvidia-smi-failed" and status in STATUSES):
            continue
        address = _ADDRESS.search(line)
        faults.append(_named(code, address, line, status, module_version, library))
    if not faults and status:
        code = STATUSES.get(status, "nvidia-smi-failed")
        faults.append(_named(code, None, said, status, module_version, library))
    return list(dict.fromkeys(faults))


def _named(
    code: str,
    address: re.Match[str] | None,
    line: str,
    status: int,
    module_version: str,
    library: re.Match[str] | None,
) -> Fault:
    first = (line.strip().splitlines() or ["nothing"])[0][:200]
    if code == "library-mismatch":
        return fault(
            code,
            "driver",
            module=module_version or "of another version",
            library=library.group(1) if library else "of another version",
        )
    subject = (
        "GPU " + pci_address(address.group(1))
        if address
        else ("GPU" if code.startswith("gpu-") else "driver")
    )
    place = pci_address(address.group(1)) if address else "N"
    return fault(code, subject, detail=first, index=place, status=status, said=first)
