"""How many windows of text go through a layer together; memory depends on that, results do not."""

from __future__ import annotations

from collections.abc import Iterator

TOKENS = 2048
"""Tokens that go through a layer together."""


def spans(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Windows of a shape (windows, positions, …) that go through a layer together."""
    step = max(1, TOKENS // shape[1])
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])
