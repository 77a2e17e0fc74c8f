# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The look at ports, without SO_REUSEADDR: connections in TIME_WAIT refuse a start for a minute."""

from __future__ import annotations

import socket


def validate_ports(ports: list[int]) -> None:
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
            try:
                found.bind(("", port))
            except OSError as error:
                raise RuntimeError(f"port {port} has been used") from error
