#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_verify
short_description: Verify that a bundle is complete, unchanged and signed
description:
  - Checks the signature, the form of the manifest, that no file is missing, unknown or of another size or SHA-256, that
    every pin of every lock has a wheel that fits, and that the bill of materials names every file.
  - Reports all problems at once, and changes nothing.
  - Runs on the controller.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  src:
    description: The folder of the bundle.
    type: path
    required: true
  files:
    description: Only these of its files, beside the manifest and its signature; all and everything about them when left out.
    type: list
    elements: str
  allowed_signers:
    description:
      - File with the keys whose signature is accepted, as C(ssh-keygen) reads it. A bundle that nobody in it has signed is
        refused. Without it, a signature that is there must still belong to the manifest.
    type: path
    default: ""
  signer:
    description: Who in that file must have signed it; anybody when empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Verify the bundle and its signature
  baremetal.sglang.bundle_verify:
    src: /media/disk/bundle
    allowed_signers: ~/.config/allowed_signers
"""

RETURN = r"""
manifest:
  description: The manifest.
  returned: success
  type: dict
signed:
  description: Who signed it, in words.
  returned: success
  type: str
summary:
  description: One line for people.
  returned: success
  type: str
problems:
  description: Everything that is wrong.
  returned: failure
  type: list
  elements: str
"""
