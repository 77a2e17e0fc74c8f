#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: A folder with all that the planned hosts need, made on the connected side
description:
  - Fetches the wheels of each lock, adds uv, Python kits and weights, and writes a manifest with size and SHA-256 of every file.
  - Proves from the wheels that the compiled kernels of each lock can be loaded beside its torch, and records it.
  - Runs on the controller. The package index is the one that pip is configured with there.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  dest:
    description: The folder of the bundle.
    type: path
    required: true
  cache_dir:
    description: Where fetched wheels are kept for the next bundle.
    type: path
    required: true
  environments:
    description: The environments to carry.
    type: list
    elements: dict
    required: true
    suboptions:
      lock:
        description: The lock file on the controller.
        type: path
        required: true
      python:
        description: Minor version of Python, such as V(3.11).
        type: str
        required: true
      arch:
        description: Architecture of the host, as C(uname -m) says it.
        type: str
        required: true
      glibc:
        description: The oldest glibc that the wheels must run with.
        type: str
        required: true
      cuda:
        description: CUDA tag of the release's variant, such as V(cu130), which the kernels must be built for.
        type: str
        default: ""
      download_bytes:
        description: Size of all its wheels where known, to refuse a disk that is too small.
        type: int
        default: 0
  uv_lock:
    description: The lock file that names uv.
    type: path
    required: true
  pythons:
    description: Archives with an interpreter for hosts that have none of the right version.
    type: list
    elements: dict
    default: []
    suboptions:
      archive:
        description: The archive on the controller.
        type: path
        required: true
      python:
        description: Minor version of Python.
        type: str
        required: true
      arch:
        description: Architecture of the host.
        type: str
        required: true
  weights:
    description: Models to carry.
    type: list
    elements: dict
    default: []
    suboptions:
      model:
        description: Key of the model.
        type: str
        required: true
      revision:
        description: Its revision.
        type: str
        required: true
      source:
        description: Folder on the controller that holds it.
        type: path
        required: true
attributes:
  check_mode:
    description: Says that the bundle would be made, and makes nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: A bundle for two hosts
  baremetal.sglang.bundle:
    dest: /media/disk/bundle
    cache_dir: ~/.cache/baremetal-sglang
    uv_lock: requirements/uv.txt
    environments:
      - lock: files/locks/0.5.23-cu130-x86_64-py3.11.txt
        python: "3.11"
        arch: x86_64
        glibc: "2.36"
"""

RETURN = r"""
files:
  description: How many files the bundle holds.
  returned: success
  type: int
bytes:
  description: How many bytes they are.
  returned: success
  type: int
"""
