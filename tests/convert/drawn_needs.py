"""Needs and GPUs to place them on, made up by hypothesis."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from convert.fit.choice import Rank
from convert.fit.gpus import Gpu
from convert.fit.need import Need

GIB = 1 << 30


def need(name: str = "a", **changes: Any) -> Need:
    start = Need(
        name=name, tp=1, weights=4 * GIB, context=GIB // 2, activations=GIB // 2,
        kv_per_token=131072, session_len=4096, max_batch_size=64,
    )  # fmt: skip
    return dataclasses.replace(start, **changes)


def hosts(*sizes: float) -> tuple[Gpu, ...]:
    return tuple(Gpu(index, int(size * GIB)) for index, size in enumerate(sizes))


needs_drawn = st.lists(
    st.builds(
        need,
        name=st.text("abcdefgh", min_size=1, max_size=4),
        tp=st.sampled_from([1, 1, 1, 2, 4]),
        weights=st.integers(1, 40 * GIB),
        activations=st.integers(0, 2 * GIB),
        kv_per_token=st.sampled_from([3456, 67584, 131072, 524288]),
        session_len=st.integers(1, 32768),
        max_batch_size=st.integers(1, 256),
        rank=st.sampled_from(Rank),
    ),
    max_size=7,
    unique_by=lambda one: one.name,
)
hosts_drawn = st.lists(st.floats(1, 192), max_size=4).map(lambda sizes: hosts(*sizes))
