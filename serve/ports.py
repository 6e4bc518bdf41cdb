"""TCP ports: finding free ones, and naming the process that holds a taken one."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess

from serve.addresses import LOOPBACK, reached
from serve.process import ProcessError

HOLDER_SECONDS = 5.0


class PortTakenError(ProcessError):
    """Something else listens on the port."""


def free_port(host: str = LOOPBACK) -> int:
    """A port nobody listens on at this moment."""
    with socket.socket(_family(host)) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
    return port


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """A socket that listens there; `option` is how the person may choose another port.

    Raises:
        PortTakenError: it cannot; the sentence names the holder where it can be found.
    """
    sock = socket.socket(_family(host))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise PortTakenError(_sentence(host, port, option, error)) from error
    return sock


def require_free(host: str, port: int, *, option: str) -> None:
    """Make sure that a server could listen there.

    Raises:
        PortTakenError: it could not.
    """
    listen(host, port, option=option).close()


def _sentence(host: str, port: int, option: str, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"Port {port} may not be used without more rights; choose another with {option}."
    if isinstance(error, socket.gaierror):
        return f"There is no address '{host}' on this machine; choose another with --host."
    if error.errno == errno.EADDRNOTAVAIL or not _answers(host, port):
        return f"{host}:{port} cannot be listened on: {error.strerror}; choose {option} or --host."
    who = holder(port)
    return f"Port {port} is taken{f' by {who}' if who else ''}; choose another with {option}."


def _answers(host: str, port: int) -> bool:
    """Whether somebody listens, also where a bind failed for another reason."""
    with socket.socket(_family(host)) as sock:
        sock.settimeout(1)
        return sock.connect_ex((reached(host), port)) == 0


def holder(port: int) -> str | None:
    """The program that listens on a port, by name and id, where this machine can tell."""
    lsof = shutil.which("lsof") or shutil.which("lsof", path="/usr/sbin")
    if lsof is None:
        return None
    arguments = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        found = subprocess.run(arguments, capture_output=True, text=True, timeout=HOLDER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = {line[0]: line[1:] for line in reversed(found.stdout.splitlines()) if line}
    return f"{fields['c']} (process {fields['p']})" if {"c", "p"} <= set(fields) else None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
