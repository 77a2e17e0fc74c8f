#!/usr/bin/python
# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_import
short_description: Complete a delta with the bundle that it was built for
description:
  - Adds to a delta what it left out, verifies all of it, and only then lets it count as a bundle.
  - Content that is on the same disk is shared (hard links, or reflinks where the file system has them). Removing one of
    two bundles that share content leaves the other whole.
  - The base is never written to. A run that was cut off is gone on with.
  - Runs on the controller.
version_added: 0.1.0
author:
  - The baremetal.sglang maintainers (@baremetal-sglang)
options:
  src:
    description: The folder of the delta, or of a complete bundle that is to be brought to O(dest).
    type: path
    required: true
  dest:
    description: Where the bundle is to be; the delta itself is completed when empty.
    type: path
    default: ""
  base:
    description: The folder of the bundle that the delta was built for.
    type: path
    default: ""
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
    description: Says whether all content is at hand, and writes nothing.
    support: full
  diff_mode:
    description: Has no differences to show.
    support: none
"""

EXAMPLES = r"""
- name: Import the new bundle beside the old one
  baremetal.sglang.bundle_import:
    src: /media/disk/new
    base: /srv/bundles/old
    dest: /srv/bundles/new
"""

RETURN = r"""
id:
  description: Name of the bundle's content.
  returned: success
  type: str
signed:
  description: Who signed it, in words.
  returned: success
  type: str
problems:
  description: Everything that is wrong.
  returned: failure
  type: list
  elements: str
"""
