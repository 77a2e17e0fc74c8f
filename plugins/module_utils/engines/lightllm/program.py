# Copyright (c) 2026, the baremetal.sglang maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What starts LightLLM in place of `python -m lightllm.server.api_server`, as text.

Its processes are spawned: each runs this file again before anything else, so what is mended here is mended in all of
them. The HTTP server alone is another program (hypercorn).
"""

from __future__ import annotations

AUTOTUNE_DIRECTORY = "BAREMETAL_AUTOTUNE_DIRECTORY"
"""Variable that names the folder of tuned kernels; the engine knows only one inside its own package."""

PROGRAM = '''\
"""Starts LightLLM and mends what keeps it from being a service; written by the collection."""

import importlib.abc
import importlib.util
import os
import runpy
import shutil
import signal
import socket
import sys

MODULE = "lightllm.server.api_server"


def ports(module):
    """Connections that wait for their end (TIME_WAIT) keep nobody from a port: without this a restart takes a minute."""

    def validate_ports(ports):
        if len(ports) != len(set(ports)):
            raise RuntimeError(f"conflicting ports in list: {ports}")
        for port in ports:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    found.bind(("", port))
                except OSError as error:
                    raise RuntimeError(f"port {port} has been used") from error

    module.validate_ports = validate_ports


def remote_calls(module):
    """Its own processes are the only ones that call: a server without an address would listen on all of them."""
    before = module.Server.__init__

    def begin(self, service, hostname=None, *rest, **options):
        if not options.get("socket_path"):
            hostname = hostname or "127.0.0.1"
        before(self, service, hostname, *rest, **options)

    module.Server.__init__ = begin


def tuned_kernels(module):
    """The package belongs to root; what is tuned goes to the instance's cache, which begins with what is shipped."""
    place = os.environ.get("BAREMETAL_AUTOTUNE_DIRECTORY", "")
    if not place:
        return
    shipped = os.path.join(os.path.dirname(os.path.abspath(module.__file__)), "autotune_kernel_configs")
    inside = module.Autotuner.cache_dir.fget

    def cache_dir(self):
        if not hasattr(self, "_cache_dir"):
            made, real = [], os.makedirs
            module.os.makedirs = lambda path, *_rest, **_more: made.append(path)
            try:
                own = inside(self)
            finally:
                module.os.makedirs = real
            path = os.path.join(place, os.path.relpath(own, shipped))
            os.makedirs(path, exist_ok=True)
            for name in os.listdir(own) if os.path.isdir(own) else ():
                target = os.path.join(path, name)
                if not os.path.exists(target):
                    part = f"{target}.{os.getpid()}"
                    shutil.copyfile(os.path.join(own, name), part)
                    os.replace(part, target)
            self._cache_dir = path
        return self._cache_dir

    module.Autotuner.cache_dir = property(cache_dir)


MENDED = {
    "lightllm.utils.net_utils": ports,
    "rpyc.utils.server": remote_calls,
    "lightllm.common.triton_utils.autotuner": tuned_kernels,
}


class Mended(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules as they are, and then what is mended of them."""

    def __init__(self):
        self.inner = {}

    def find_spec(self, name, path=None, target=None):
        if name not in MENDED or name in self.inner:
            return None
        self.inner[name] = None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return None
        self.inner[name] = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec):
        return self.inner[spec.name].create_module(spec)

    def exec_module(self, module):
        self.inner[module.__name__].exec_module(module)
        MENDED[module.__name__](module)


def children():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as stream:
                    found.setdefault(int(stream.read().rpartition(")")[2].split()[1]), []).append(int(name))
            except (OSError, IndexError, ValueError):
                pass
    below = list(found.get(os.getpid(), ()))
    for pid in below:
        below.extend(found.get(pid, ()))
    return below


def end(status):
    """A start that failed leaves processes behind that the interpreter would wait for for ever."""
    for pid in children():
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# The folder of this file holds links, which are no packages.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
sys.meta_path.insert(0, Mended())
if __name__ == "__main__":
    try:
        runpy.run_module(MODULE, run_name="__main__")
    except SystemExit as error:
        end(error.code if isinstance(error.code, int) else int(error.code is not None))
    except BaseException:
        import traceback

        traceback.print_exc()
        end(1)
'''
