"""Who may open the page: names and hashed passwords, from a file and from the environment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from assistants import HanlinError
from assistants.schema import Frozen
from assistants.strict import StrictFile
from serve.ui.login.passwords import NOBODY, Hash

NO_USERS = "a file of users is a mapping that begins with users:"
USER_PATTERN = r"^[^\s:,]{1,64}$"


def _hash(value: str) -> str:
    Hash.parse(value)
    return value


class UserFile(Frozen):
    """`users.yaml`: name → hash of the password."""

    users: dict[
        Annotated[str, Field(pattern=USER_PATTERN)], Annotated[str, AfterValidator(_hash)]
    ] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class UserSources:
    """Where the users are said; both hold."""

    file: Path | None = None
    plain: str = ""
    """`name=hash`, comma separated."""

    def __bool__(self) -> bool:
        return bool(self.file or self.plain)

    def read(self) -> Mapping[str, Hash]:
        """All users, as they are now.

        Raises:
            HanlinError: the file cannot be read as one, or the variable holds something else.
        """
        found = dict(_plain(self.plain))
        if self.file is not None:
            try:
                read = StrictFile.open(self.file, what=NO_USERS).read(UserFile)
            except OSError as error:
                raise HanlinError(
                    f"The file of users {self.file} cannot be read: {error.strerror}."
                ) from error
            found |= {name: Hash.parse(text) for name, text in read.users.items()}
        return found


def _plain(text: str) -> Mapping[str, Hash]:
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, hashed = entry.partition("=")
        try:
            found[name] = Hash.parse(hashed)
        except ValueError as error:
            raise HanlinError(
                "HANLIN_UI_USERS wants NAME=HASH, comma separated, as hanlin user NAME prints it."
            ) from error
    return found


class Door:
    """Asked for every sign-in; whoever is in stays until the page's process ends."""

    def __init__(self, sources: UserSources) -> None:
        self._sources = sources
        self._known = sources.read()
        self._one = asyncio.Lock()

    async def lets_in(self, name: str, password: str) -> bool:
        """Whether name and password belong together.

        One after the other: guessing is slow however many guess, and takes no other's memory.
        """
        async with self._one:
            try:
                self._known = self._sources.read()
            except HanlinError as error:
                logging.getLogger("hanlin.ui").error("%s", error)
            known = self._known.get(name, NOBODY)
            return await asyncio.to_thread(known.fits, password)
