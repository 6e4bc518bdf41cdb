"""Worker processes behind one port: the parent listens and supervises, the workers accept.

They are forked before there is a loop or a thread, and share the listening socket: whatever becomes
of one worker, a connection that waits to be accepted is accepted by another. A worker that dies is
replaced; all of them stop when the parent is told to, and when it is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from uvicorn.config import STARTUP_FAILURE

from assistants import HanlinError

log = logging.getLogger("hanlin.gateway")

PAUSE_SECONDS = 1.0

Work = Callable[[socket.socket], None]


class Workers:
    """The parent's side."""

    def __init__(self, sock: socket.socket, work: Work) -> None:
        self._sock = sock
        self._work = work
        self._pids: set[int] = set()
        self._stopping = False
        self._reading, self._writing = os.pipe()

    def run(self, count: int) -> None:
        """Have so many workers until a signal says stop and the last of them has ended.

        Raises:
            HanlinError: one cannot start; it has said why.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._pass_on)
        for _ in range(count):
            self._start()
        failed = False
        while self._pids:
            pid, status = os.waitpid(-1, 0)
            self._pids.discard(pid)
            failed = failed or os.waitstatus_to_exitcode(status) == STARTUP_FAILURE
            if failed:
                self._pass_on(signal.SIGTERM)
            elif not self._stopping:
                log.error("worker %d ended, and is replaced", pid)
                time.sleep(PAUSE_SECONDS)
                self._start()
        self._sock.close()
        if failed:
            raise HanlinError("A worker of the gateway cannot start; its log says why.")

    def _start(self) -> None:
        pid = os.fork()
        if not pid:
            os._exit(self._be_worker())
        self._pids.add(pid)
        if self._stopping:  # told so while it was not yet known
            os.kill(pid, signal.SIGTERM)

    def _be_worker(self) -> int:
        """In the child, which must not return to whatever the parent was in the middle of."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.close(self._writing)
        threading.Thread(target=self._end_with_parent, daemon=True).start()
        try:
            self._work(self._sock)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        finally:
            logging.shutdown()
            sys.stderr.flush()
        return 0

    def _end_with_parent(self) -> None:
        os.read(self._reading, 1)  # the parent holds the other end and never writes
        os.kill(os.getpid(), signal.SIGTERM)

    def _pass_on(self, number: int, _: FrameType | None = None) -> None:
        self._stopping = self._stopping or number != signal.SIGHUP
        for pid in self._pids:
            os.kill(pid, number)
