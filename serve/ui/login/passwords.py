"""Passwords are known only by their scrypt hash: salted and slow, for people make them up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Self

SCHEME = "scrypt"
COST = 15
"""2 to that power rounds over 32 MiB: a tenth of a second."""
MOST_COST = 20
BLOCK, LANES, SALT_BYTES = 8, 1, 16

NOT_A_HASH = "this is not a password's hash; hanlin user NAME prints the whole entry"


@dataclass(frozen=True, slots=True)
class Hash:
    """What is kept of a password; written as scrypt:COST:SALT:DIGEST."""

    cost: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> Self:
        """A new hash, with a salt of its own."""
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(COST, salt, _stretch(password, salt, COST))

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` wrote.

        Raises:
            ValueError: it is something else, perhaps the password itself; it is not repeated.
        """
        try:
            scheme, cost, salt, digest = text.split(":")
            read = cls(int(cost), _bytes(salt), _bytes(digest))
        except ValueError:
            raise ValueError(NOT_A_HASH) from None
        if scheme != SCHEME or not 1 <= read.cost <= MOST_COST or not read.salt or not read.digest:
            raise ValueError(NOT_A_HASH)
        return read

    def fits(self, password: str) -> bool:
        """Whether this is the password; takes as long either way."""
        return hmac.compare_digest(_stretch(password, self.salt, self.cost), self.digest)

    def __str__(self) -> str:
        return f"{SCHEME}:{self.cost}:{_text(self.salt)}:{_text(self.digest)}"


NOBODY = Hash(COST, b"nobody", b"none")
"""Compared where a name is unknown, so that how long it takes does not tell which names exist."""


def _stretch(password: str, salt: bytes, cost: int) -> bytes:
    memory = 2 * 128 * BLOCK * LANES * 2**cost
    return hashlib.scrypt(
        password.encode(), salt=salt, n=2**cost, r=BLOCK, p=LANES, maxmem=memory, dklen=32
    )


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _bytes(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
