"""Which requests should go to the same engine, because its cache holds their prefix."""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from msgspec import UNSET, Raw, UnsetType

USER = "user"


class _Body(msgspec.Struct):
    prompt_cache_key: Raw | UnsetType = UNSET
    user: Raw | UnsetType = UNSET
    messages: list[Raw] | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET


class _Turn(msgspec.Struct):
    role: str


_body = msgspec.json.Decoder(_Body)
_turn = msgspec.json.Decoder(_Turn)

BEGINNING_BYTES = 1024
"""So much of each message says which conversation it is; a long text need not be hashed whole."""

PROMPT_BYTES = 256
"""So much of the beginning of a text completion's prompt, of which no part is a first message."""


def affinity(session: str | None, body: bytes) -> bytes:
    """The session the client names, in a header or a field; otherwise how the conversation begins:
    everything up to the first thing said by the user, which stays the same as it grows."""
    if session:
        return _digest(session.encode())
    try:
        found = _body.decode(body)
        named = found.prompt_cache_key or found.user
        if named and bytes(named) != b"null":
            return _digest(named)
        if found.prompt:
            return _digest(found.prompt, most=PROMPT_BYTES)
        return _digest(*_beginning(found.messages or []))
    except msgspec.DecodeError:  # what is wrong with it, an engine will say
        return b""


def _beginning(messages: list[Raw]) -> list[Raw]:
    for number, message in enumerate(messages, 1):
        if _turn.decode(message).role == USER:
            return messages[:number]
    return messages


def _digest(*parts: bytes | Raw, most: int = BEGINNING_BYTES) -> bytes:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(memoryview(part)[:most])
    return digest.digest()
