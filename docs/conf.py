# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx configuration of the handbook, used by tools/docs on a copy of this folder."""

from __future__ import annotations

import os

project = "baremetal.sglang"
author = copyright = "the baremetal.sglang maintainers"
version = release = os.environ["COLLECTION_VERSION"]
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"
myst_heading_anchors = 3
# Labels of the Ansible documentation (ref.ref) are not here; headings of some pages begin below the first level; files
# beside docs/ are not part of the HTML.
suppress_warnings = ["ref.ref", "myst.header", "myst.xref_missing", "misc.highlighting_failure"]
html_theme = "alabaster"
html_title = f"{project} {version}"
html_show_copyright = False
html_theme_options = {
    "description": "Serve LLMs on bare-metal GPU hosts, offline",
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "240px",
    "body_max_width": "none",
}
# Nothing is loaded from another address: the handbook is read in rooms without internet.
html_baseurl = ""
