#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports what a host is, has and serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Report what a host is, has and serves
version_added: 0.1.0
description:
  - Reports GPUs and driver, links between GPUs, RDMA devices, operating system, memory, disks, interfaces,
    taken ports, Pythons, compilers, and what this collection installed on the host it runs on.
  - Reads only. It works the same on hosts without NVIDIA GPUs and without RDMA devices.
  - A source that is missing, hangs or contradicts another one becomes an entry of RV(facts.faults)
    and never ends the run.
notes:
  - GPUs are read from C(nvidia-smi -q -x). NVML's Python binding would be one more package on a host that has
    nothing but the standard library, and the XML needs nothing. What the XML lacks (the compute
    capability) is asked for with C(--query-gpu). The indented text, CSV and table are read when the XML is damaged.
  - Runs best as root. Other users do not see which process holds a port, nor the kernel's log.
  - Memory of a GPU that shares the host's memory is V(null); see RV(facts.memory_gib).
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
attributes:
  check_mode:
    description: Can run in check mode and tell the same as without it.
    support: full
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: none
  platform:
    description: Operating systems that the module runs on.
    support: full
    platforms: linux
options:
  name:
    description:
      - Name to put into RV(facts.host), such as the inventory name.
      - The host's own name by default.
    type: str
    default: ""
  paths:
    description:
      - Directories that will be written to. Room and file system are told for each, or for its nearest
        parent that exists.
    type: list
    elements: str
    default:
      - /opt/sglang
      - /var/lib/sglang
      - /var/cache/sglang
  python_paths:
    description: Further Python interpreters, or directories with C(python3.N) in them.
    type: list
    elements: str
    default: []
  products:
    description:
      - Product names as the driver writes them, and the key of C(files/hardware) for each.
      - A GPU whose product is in none of them has an empty C(model) in RV(facts.gpus).
    type: dict
    default: {}
  command_timeout:
    description: Seconds after which a command of the host is given up.
    type: float
    default: 20
  root:
    description:
      - Read the files and programs below this directory instead of the host's own.
      - For tests and for trees that were copied from another host.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: Gather the facts of the host
  baremetal.sglang.host_facts:
    name: "{{ inventory_hostname }}"
    products:
      NVIDIA A800-SXM4-80GB: a800-sxm4-80gb
  register: known

- name: Show the faults of the host
  ansible.builtin.debug:
    msg: "{{ item.subject }}: {{ item.what }}. {{ item.fix }}"
  loop: "{{ known.facts.faults }}"
"""

RETURN = r"""
facts:
  description:
    - The host, in the form of a facts file (schema 1).
  returned: success
  type: dict
  contains:
    schema:
      description: Version of this form.
      type: int
      sample: 1
    host:
      description: Name of the host.
      type: str
      sample: gpu-01
    source:
      description: How the facts were found, always V(gathered) here.
      type: str
      sample: gathered
    arch:
      description: Architecture as C(uname -m) writes it.
      type: str
      sample: x86_64
    os:
      description: V(id), V(version_id) and V(name) of the operating system, and V(dgx), the version of DGX OS.
      type: dict
      sample: {id: ubuntu, version_id: "24.04", name: Ubuntu 24.04.4 LTS, dgx: 7.6.0}
    kernel:
      description: Release of the running kernel.
      type: str
    glibc:
      description: Version of the GNU C library, empty for another one.
      type: str
      sample: "2.39"
    systemd:
      description: Version of systemd.
      type: int
      sample: 255
    python:
      description: Interpreters, each with V(path) and V(version).
      type: list
      elements: dict
    cpu_model:
      description: Model of the processor. Several core types are joined with a plus sign.
      type: str
    cpu_threads:
      description: Number of hardware threads.
      type: int
    memory_gib:
      description: Memory of the host.
      type: float
    swap_gib:
      description: Swap of the host.
      type: float
    limits:
      description: Limits that a service gets, V(NAME) hard and V(NAME_soft) soft, and process 1's as V(pid1_NAME).
      type: dict
    driver:
      description:
        - V(version) and V(flavour) (V(open) or V(proprietary)) of the NVIDIA driver, V(library_version), and V(cuda), the
          CUDA level that it offers. V(null) without a driver.
      type: dict
    gpus:
      description: One entry for each GPU that the driver lists.
      type: list
      elements: dict
    nvlink:
      description: Links between GPUs and NICs, as far as C(nvidia-smi topo -m) and C(nvidia-smi nvlink -s) tell.
      type: dict
    fabric_manager:
      description: V(running), V(stopped), V(absent), or empty when unknown.
      type: str
    nvswitches:
      description: Number of NVSwitches on the PCI bus, V(null) where it cannot be looked at.
      type: int
    rdma:
      description: One entry for each port of an RDMA device.
      type: list
      elements: dict
    interfaces:
      description: Network interfaces with MTU, state, addresses, speed and PCI address.
      type: list
      elements: dict
    fabric:
      description: Who looks after the network, interfaces of default routes, and what C(/etc/nccl.conf) holds.
      type: dict
    disks:
      description: Mount, file system, room, hard links and reflinks for each of O(paths).
      type: list
      elements: dict
    listening:
      description: Taken ports with address and process.
      type: list
      elements: dict
    toolkit:
      description: CUDA home and versions of nvcc, ptxas, the C++ compiler and ninja. Empty when absent.
      type: dict
    nft:
      description: Path of the program nft, empty when it is not there.
      type: str
    installed:
      description: Environments, weights, releases and instances of this collection.
      type: dict
    faults:
      description: What is wrong, each with V(code), V(subject), V(what) and V(fix).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.gather import (
    DEFAULT_PATHS,
    Wanted,
    gather,
)
from ansible_collections.baremetal.sglang.plugins.module_utils.facts.host import HostIo


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": ""},
            "paths": {"type": "list", "elements": "str", "default": list(DEFAULT_PATHS)},
            "python_paths": {"type": "list", "elements": "str", "default": []},
            "products": {"type": "dict", "default": {}},
            "command_timeout": {"type": "float", "default": 20},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    options = module.params
    if options["command_timeout"] <= 0:
        module.fail_json(msg="command_timeout must be more than 0 seconds")
    wanted = Wanted(
        host=options["name"],
        paths=tuple(options["paths"]),
        python_paths=tuple(options["python_paths"]),
        products=options["products"],
    )
    io = HostIo(module.run_command, root=options["root"], timeout=options["command_timeout"])
    module.exit_json(changed=False, facts=gather(io, wanted).to_dict())


if __name__ == "__main__":
    main()
