"""The GPUs as their driver sees them at this moment: the one file that asks `nvidia-smi`.

When a GPU falls off the bus the driver goes on answering for the others: it leaves the row out or
writes `[GPU is lost]` into it, complains on either stream, and exits with zero or not. So rows are
believed whatever the exit code, and every other line is a complaint.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

ASK = ("nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.free",
       "--format=csv,noheader,nounits")  # fmt: skip
PATIENCE = 30.0
"""Seconds for an answer: without its persistence mode the driver first wakes every GPU."""
AFTER_KILL = 1.0
"""A process that is stuck in the driver does not even die; for longer it is not waited for."""
NONE_FOUND = "No devices were found"

_EXITS = {
    6: "the driver found no GPU",
    9: "the NVIDIA driver is not loaded",
    12: "the driver's library cannot be found",
    15: "a GPU has fallen off the bus",
    17: "the operating system keeps the GPUs from this process",
    18: "the driver and its library are of different versions",
}
"""What an exit code says where nothing is written: they are those of NVML, the driver's library."""

_ROW = re.compile(
    r"\s*(?P<index>\d+)\s*,\s*(?P<uuid>[^,]*?)\s*,\s*(?P<total>[^,]*?)\s*,\s*(?P<free>[^,]*?)\s*"
)
_NAMED = re.compile(r"\bGPU ?(?P<index>\d{1,3}): ")
"""`GPU3: 0000:5F:00.0: Unknown Error`; older drivers name the place on the bus alone."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that answers."""

    index: int
    """By its place on the bus, which is CUDA's count only with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    uuid: str
    total: int
    """Bytes, as are those below."""
    free: int
    """Held by nobody, other programs included."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed."""

    gpus: tuple[Gpu, ...] = ()
    unusable: Mapping[int, str] = field(default_factory=dict)
    """What is said of those that do not answer."""
    trouble: str | None = None
    """What the driver complained of, or why it could not be asked."""
    answered: bool = True
    """False: nothing was learnt, and engines that run may well go on running."""

    def lost(self, devices: Iterable[int]) -> dict[int, str]:
        """Of these GPUs the ones that do not answer, each with why."""
        there = {gpu.index for gpu in self.gpus}
        why = self.trouble or "the driver no longer lists it"
        return {index: self.unusable.get(index, why) for index in devices if index not in there}

    def free(self, devices: Iterable[int]) -> int | None:
        """Free bytes on the fullest of these GPUs; None: one of them does not answer."""
        wanted = set(devices)
        found = [gpu.free for gpu in self.gpus if gpu.index in wanted]
        return min(found) if found and len(found) == len(wanted) else None


def look(environ: Mapping[str, str] | None = None, *, patience: float = PATIENCE) -> Seen:
    """Ask the driver for every GPU this process may use; blocks until it answers."""
    environ = os.environ if environ is None else environ
    try:
        seen = read(*_asked(environ, patience))
    except OSError as error:
        return Seen(trouble=f"{ASK[0]} cannot be run: {error.strerror}", answered=False)
    except subprocess.TimeoutExpired:
        trouble = f"{ASK[0]} did not answer within {patience:g} seconds"
        return Seen(trouble=trouble, answered=False)
    return visible(seen, environ.get("CUDA_VISIBLE_DEVICES"))


def _asked(environ: Mapping[str, str], patience: float) -> tuple[str, int]:
    """All it wrote, and its exit code."""
    process = subprocess.Popen(
        ASK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", env=dict(environ), start_new_session=True,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=AFTER_KILL)
        raise
    return text, process.returncode


def read(text: str, exit_code: int) -> Seen:
    """What the driver's answer means."""
    gpus: list[Gpu] = []
    unusable: dict[int, str] = {}
    complaints: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if row := _ROW.fullmatch(line):
            index, total, free = int(row["index"]), row["total"], row["free"]
            if total.isdigit() and free.isdigit():
                gpus.append(Gpu(index, row["uuid"], int(total) << 20, int(free) << 20))
            else:
                unusable[index] = _unread(total if not total.isdigit() else free)
            continue
        complaints.append(line.rstrip("."))
        if named := _NAMED.search(line):
            unusable[int(named["index"])] = line.rstrip(".")
    if exit_code and not complaints:
        complaints.append(_EXITS.get(exit_code, f"{ASK[0]} ended with exit code {exit_code}"))
    answered = bool(gpus or unusable) or NONE_FOUND in text or not exit_code
    return Seen(tuple(gpus), unusable, "; ".join(complaints) or None, answered)


def _unread(cell: str) -> str:
    said = cell.strip("[]")
    if said in ("N/A", "Not Supported"):  # machines whose GPU shares the memory of the processor
        return "the driver does not say how much memory it has"
    return said or "the driver says nothing of its memory"


def visible(seen: Seen, devices: str | None) -> Seen:
    """Only the GPUs that CUDA_VISIBLE_DEVICES leaves, by index or by (the beginning of) a UUID."""
    if devices is None:
        return seen
    names = [name.strip() for name in devices.split(",")]
    gpus = tuple(
        gpu
        for gpu in seen.gpus
        if any(n == str(gpu.index) or (n[:4] == "GPU-" and gpu.uuid.startswith(n)) for n in names)
    )
    hidden = seen.gpus and not gpus
    return replace(
        seen,
        gpus=gpus,
        trouble=f"CUDA_VISIBLE_DEVICES={devices} leaves none" if hidden else seen.trouble,
    )
