# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server's program: the environment of a host finds it by its name."""

import sys

if __name__ == "__main__":
    from lightllm.server.api_http import serve

    host, _colon, port = sys.argv[sys.argv.index("--bind") + 1].rpartition(":")
    serve(host, int(port))
