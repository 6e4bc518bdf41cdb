"""One thread in numpy's matrix products while a merge runs.

The BLAS that numpy's wheels carry splits a product over all cores and lets its threads spin
between two products. The products of a merge are small and many: most of that time is spinning,
taken from the thread that hashes and writes. How a product is split also decides the last bit of
its sums, so with one thread the same input gives the same bits on every number of cores.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

_PREFIXES = (("scipy_openblas", "64_"), ("openblas", "64_"), ("openblas", ""))
"""Before and after `_set_num_threads`, as builds of OpenBLAS name it."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Where numpy has another BLAS nothing is changed; its products are right all the same."""
    module = importlib.import_module("numpy._core._multiarray_umath")
    try:
        library = ctypes.CDLL(module.__file__)  # its own symbols, and those of what it links to
    except OSError:
        yield
        return
    for before, after in _PREFIXES:
        get = getattr(library, f"{before}_get_num_threads{after}", None)
        if get is not None:
            break
    else:
        yield
        return
    set_threads = getattr(library, f"{before}_set_num_threads{after}")
    threads = get()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(threads)
