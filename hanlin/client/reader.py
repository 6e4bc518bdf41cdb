"""Whoever reads what a command writes may stop reading (`| head`); that is no failure."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def until_nobody_reads() -> Iterator[None]:
    """End the work within when its output is not read any more."""
    try:
        yield
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # Python writes what is left when it ends
        os.dup2(nowhere, sys.stdout.fileno())
