"""The fewest who must leave for somebody to fit, and among as few the longest unused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar


class Holder(Protocol):
    """Whoever holds memory, the same on each of its devices."""

    @property
    def assistant(self) -> str: ...
    @property
    def devices(self) -> tuple[int, ...]: ...
    @property
    def taken(self) -> int: ...
    @property
    def idle(self) -> float: ...


H = TypeVar("H", bound=Holder)
Short = Mapping[int, int]
"""Bytes that are missing, by device."""


def cheapest(holders: Sequence[H], choices: Iterable[Short]) -> tuple[H, ...]:
    """Of several ways to make room the one that costs least; none if there is no way."""
    found = (fewest(holders, short) for short in choices)
    return min((victims for victims in found if victims is not None), key=_cost, default=())


def _cost(victims: Sequence[Holder]) -> tuple[int, list[float], list[str]]:
    unused = sorted(victim.idle for victim in victims)
    return len(victims), [-idle for idle in unused], [victim.assistant for victim in victims]


def fewest(holders: Sequence[H], short: Short) -> tuple[H, ...] | None:
    """Whose leaving frees at least what is missing on every device; None: not even everybody's.

    The size of the answer is the smallest there is. Of all answers of that size it is the one whose
    most recently used member was unused for longest, then its second, and so on.
    """
    oldest = sorted(holders, key=lambda holder: (-holder.idle, holder.assistant))
    for size in range(len(oldest) + 1):
        if _enough(oldest, short, size):
            return _longest_unused(oldest, short, size)
    return None


def _longest_unused(oldest: Sequence[H], short: Short, size: int) -> tuple[H, ...]:
    """The member that was used last is that of the shortest stretch of the oldest that suffices."""
    chosen: list[H] = []
    for left in range(size, 0, -1):
        ends = range(left, len(oldest) + 1)
        end = next(end for end in ends if _enough(oldest[:end], short, left))
        chosen.append(oldest[end - 1])
        short, oldest = _after(short, oldest[end - 1]), oldest[: end - 1]
    return tuple(reversed(chosen))


def _enough(holders: Sequence[H], short: Short, size: int) -> bool:
    """Whether some `size` of them free what is missing."""
    missing = {device: size for device, size in short.items() if size > 0}
    on = {device: [holder for holder in holders if device in holder.devices] for device in missing}
    for device, there in on.items():
        largest = sorted((holder.taken for holder in there), reverse=True)[:size]
        if sum(largest) < missing[device]:
            return False
    if len(missing) < 2:
        return True
    others = list(holders)
    for holder in min(on.values(), key=len):  # one of these leaves, whoever else does
        others.remove(holder)
        if _enough(others, _after(missing, holder), size - 1):
            return True
    return False


def _after(short: Short, holder: Holder) -> dict[int, int]:
    return {
        device: size - holder.taken * (device in holder.devices) for device, size in short.items()
    }
