# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that listens on every address when it is given none, and takes a free port for 0."""

from __future__ import annotations

import socket
from typing import Any


class Server:
    def __init__(self, service: Any, hostname: str | None = None, port: int = 0, **_options: Any) -> None:
        self.service = service
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.listener.bind((hostname or "0.0.0.0", port))
        self.listener.listen(5)

    def start(self) -> None:
        while True:
            self.listener.accept()[0].close()


class ThreadedServer(Server):
    pass
