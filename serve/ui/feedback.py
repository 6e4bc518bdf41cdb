"""Praise and blame, kept as dialogues that can be trained on: one JSON object a line.

Any number of pages may write to one file. A line says all there is to say of one answer, in the
form of `assistants/calibration/*.jsonl` with the verdict beside it; who changes their mind, or adds
a word, appends another line with the same `id`, and the last one counts.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from assistants import HanlinError

Verdict = Literal["up", "down", "none"]

MOST_WORDS = 500
"""Of what a person adds, so much is kept."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one person thought of one answer."""

    id: str
    assistant: str
    verdict: Verdict
    messages: Sequence[dict[str, str]]
    settings: dict[str, Any]
    word: str = ""
    by: str = ""

    def with_word(self, word: str) -> Judgement:
        """The same verdict, with a word for why."""
        return replace(self, word=word.strip()[:MOST_WORDS])


def judgement_id(session: str, messages: Sequence[dict[str, str]]) -> str:
    """The same for one answer on one open page, however often it is judged."""
    told = json.dumps([session, *messages], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


class Feedback:
    """The file; it and its folder are made with the first line."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def require_writable(self) -> None:
        """Return if lines can be written there.

        Raises:
            HanlinError: they cannot.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open())
        except OSError as error:
            raise HanlinError(
                f"Feedback cannot be written to {self.file}: {error.strerror}."
            ) from error

    def keep(self, judgement: Judgement) -> None:
        """Append one line, whole, whoever else is writing.

        Raises:
            OSError: it cannot be written.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({**asdict(judgement), "at": at}, ensure_ascii=False)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(self._open(), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            whole = _ends_whole(file.fileno())
            file.write(f"{line}\n".encode() if whole else f"\n{line}\n".encode())

    def _open(self) -> int:
        return os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)


def _ends_whole(descriptor: int) -> bool:
    """Whether the last line has its end; one that was cut off must not swallow the next."""
    size = os.fstat(descriptor).st_size
    return size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
