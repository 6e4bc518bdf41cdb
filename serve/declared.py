"""Watches the declarations: re-reads them when they change, and takes over only valid ones.

The folder is looked at once in a while. That needs no thread and no service of the operating
system, and sees what those miss: network file systems, and a cluster's mounted configuration.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from assistants import HanlinError, House
from assistants.load import declarations

log = logging.getLogger("hanlin.declared")

LOOK_SECONDS = 1.0

Seen = tuple[tuple[str, int, int], ...]


class Declared:
    """The house in a folder, how to read it, and the file of keys beside it."""

    def __init__(
        self, folder: Path, read: Callable[[], House], *, keys: Path | None = None
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._read = read
        self._asked = False
        self._seen = self._look()
        self.problem: str | None = None
        """Why what stands there now is ignored."""

    def ask(self) -> None:
        """Read it anew even if no file was touched; may be called by a signal."""
        self._asked = True

    async def follow(
        self, take_over: Callable[[House], None], tell: Callable[[str | None], None] | None = None
    ) -> None:
        """Look for changes, for ever; `take_over` is called with each house that is read anew, and
        `tell` with the problem where that has come, changed or gone."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            seen = self._look()
            if self._asked or seen != self._seen:
                self._asked, self._seen = False, seen
                before, self.problem = self.problem, self._change(take_over)
                if tell is not None and self.problem != before:
                    tell(self.problem)

    def _change(self, take_over: Callable[[House], None]) -> str | None:
        """Returns what is wrong with it."""
        try:
            house = self._read()
            take_over(house)
        except (HanlinError, OSError) as error:
            log.error("The changed declarations are ignored: %s", error)
            return str(error)
        log.info("The declarations were read anew: %s.", ", ".join(house.names))
        return None

    def _look(self) -> Seen:
        """What tells one state of the folder from another."""
        try:
            files = declarations(self._folder)
            files += [self._keys] if self._keys is not None else []
            stats = [(file.name, file.stat()) for file in files]
        except OSError:  # gone, or just being replaced: what is wrong, the next reading says
            return ()
        return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
