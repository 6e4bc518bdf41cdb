"""Ports for what the tests start: nobody else's, neither another test's nor a connection's.

The kernel gives out ports from 32768 on, also to every connection that is made, so a port that was
found free there may be gone before a slow process comes to listen, or while a server is away. These
lie below, and each of the processes that share the tests (pytest-xdist) has its own.
"""

from __future__ import annotations

import os
import socket
from itertools import cycle

FIRST, EACH, WORKERS = 12_000, 2_000, 10

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
_begin = os.getpid() * 37 % EACH  # two runs at once begin at different ones
_ports = cycle(FIRST + _worker * EACH + (_begin + n) % EACH for n in range(EACH))


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, and that no other test is given before long."""
    for port in _ports:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError("a cycle has no end")
