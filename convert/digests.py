"""Names content by its SHA-256, and remembers what it has hashed so gigabytes are read once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from convert.publish import replaced


def of(*parts: Any) -> str:
    """One digest over values that JSON can say."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def of_file(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Remembered:
    """Digests of files by path, size, time of change and inode, kept in one small JSON file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = False
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}

    def of_file(self, path: Path) -> str:
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known and known[:-1] == mark:
            return str(known[-1])
        digest = of_file(path)
        self._known[str(path)] = [*mark, digest]
        self._changed = True
        return digest

    def of_files(self, paths: Iterable[Path]) -> str:
        """One digest over the names and contents of some files."""
        return of([(path.name, self.of_file(path)) for path in sorted(paths)])

    def keep(self) -> None:
        """Write down what was learned; losing it only costs time."""
        if not self._changed:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replaced(self._path, json.dumps(self._known))
        self._changed = False
