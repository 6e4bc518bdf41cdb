"""Several log files read as one: the last lines, then new ones, each with the file it is from.

Two engines of one assistant run at once during an update, and each writes to a file of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from serve.process import Log


@dataclass(frozen=True, slots=True)
class Source:
    """One log, and whose it is."""

    whose: str
    log: Log


class Reader:
    """Reads them in the order in which they are written. Where there are several, a line says to
    which one the text goes over, as `tail` does."""

    def __init__(self, sources: Callable[[], Iterable[Source]]) -> None:
        """`sources` is asked at each look, for who writes comes and goes."""
        self._sources = sources
        self._ends: dict[Path, int] = {}
        self._shown: Path | None = None
        self._unfinished = False

    def last(self, lines: int) -> bytes:
        """The last lines of each."""
        read: list[tuple[Source, bytes]] = []
        for source in self._existing():
            text, self._ends[source.log.path] = source.log.last(lines)
            if text:
                read.append((source, text))
        if len(read) == 1:
            self._shown = read[0][0].log.path
        return b"".join(self._told(source, text) for source, text in read)

    def more(self) -> bytes:
        """What was written since the last look."""
        told = b""
        for source in self._existing():
            path = source.log.path
            text, self._ends[path] = source.log.since(self._ends.get(path, 0))
            told += self._told(source, text)
        return told

    def _existing(self) -> list[Source]:
        """The one that was written to last comes last."""
        there = [source for source in self._sources() if source.log.path.exists()]
        return sorted(there, key=lambda source: source.log.path.stat().st_mtime_ns)

    def _told(self, source: Source, text: bytes) -> bytes:
        """The text, after a line that says whose it is if the text before is not."""
        if not text:
            return b""
        head = b""
        if self._shown != source.log.path:
            alone = self._shown is None and len(self._existing()) == 1
            head = b"" if alone else f"==> {source.whose} <==\n".encode()
            head = b"\n" + head if head and self._unfinished else head
            self._shown = source.log.path
        self._unfinished = not text.endswith(b"\n")
        return head + text
