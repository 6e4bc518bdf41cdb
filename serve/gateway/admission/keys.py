"""API keys, known only by their SHA-256.

A key is 256 random bits. Nobody can search that space, so a plain hash at rest is enough: salt and
slowness protect what people make up and remember. It also makes the comparison safe to time: what
is looked up is a digest, which nobody can steer towards another without having the key.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from assistants import HanlinError, House, UnknownAssistantError
from assistants.schema import NAME_PATTERN, Frozen
from assistants.strict import StrictFile
from serve.gateway.errors import NotAllowedError, UnauthorizedError

PREFIX = "hl-"
"""Lets people and secret scanners see what kind of string it is."""
RANDOM_BYTES = 32

NO_KEYS = "a file of keys is a mapping that begins with keys:"
HEX = frozenset("0123456789abcdef")
YAML_WORDS = frozenset({"true", "false", "null"})


def _digest(value: str) -> str:
    if len(value) != 64 or not set(value) <= HEX:  # never shown: it may be a key put here plainly
        raise ValueError("this is not a SHA-256 in hex; hanlin key NAME prints the whole entry")
    return value


def _entry(value: Any) -> Any:
    if value is not None and not isinstance(value, dict | Entry):
        raise ValueError("this is not an entry; hanlin key NAME prints the whole entry")
    return value


class Entry(Frozen):
    """What the file says of one key; a limit that is left out is no limit."""

    sha256: Annotated[str, AfterValidator(_digest)]
    assistants: tuple[str, ...] | None = Field(None, description="All where left out.")
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1, description="Of prompts and answers.")
    concurrency: int | None = Field(None, ge=1, description="Requests at once.")


class KeyFile(Frozen):
    """`keys.yaml`: name → entry."""

    keys: dict[
        Annotated[str, Field(pattern=NAME_PATTERN)], Annotated[Entry, BeforeValidator(_entry)]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key as the gateway knows it; the key itself is nowhere."""

    name: str
    assistants: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def limited(self) -> bool:
        """Whether anything is to be counted for it."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrency)

    def sees(self, assistant: str) -> bool:
        return self.assistants is None or assistant in self.assistants

    def require(self, assistant: str) -> None:
        """Return if this key may ask that assistant.

        Raises:
            NotAllowedError: it may not.
        """
        if not self.sees(assistant):
            raise NotAllowedError(
                f"The key '{self.name}' may not use the assistant '{assistant}'.", param="model"
            )


ANYONE = Key(name="")
"""Who comes where no keys are configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySources:
    """Where keys come from; with neither, the gateway is open."""

    file: Path | None = None
    plain: tuple[str, ...] = ()
    """From the environment, as they are; their names are env-1, env-2, …"""


OPEN = KeySources()


class Keys:
    """The keys of a gateway; `reload` reads them anew while requests go on."""

    def __init__(self, sources: KeySources, house: House) -> None:
        self._sources = sources
        self.open = sources.file is None and not sources.plain
        self._by_digest: Mapping[bytes, Key] = {}
        self.reload(house)

    def reload(self, house: House) -> None:
        """Read the keys again; where they cannot be read, those known before stay.

        Raises:
            HanlinError: the file is missing or says what cannot be.
        """
        file = _from_file(self._sources.file, house) if self._sources.file else {}
        self._by_digest = {**_from_environment(self._sources.plain), **file}

    def visitor(self, credential: bytes) -> Key:
        """Whose key this is.

        Raises:
            UnauthorizedError: nobody's, or there is none.
        """
        if self.open:
            return ANYONE
        if not credential:
            raise UnauthorizedError("A key is needed here: send it as 'Authorization: Bearer KEY'.")
        found = self._by_digest.get(hashlib.sha256(credential).digest())
        if found is None:
            raise UnauthorizedError("This key is not one of this gateway's.")
        return found


def credential(authorization: bytes, x_api_key: bytes) -> bytes:
    """The key in a request's headers: OpenAI's way, or Anthropic's."""
    scheme, _, token = authorization.partition(b" ")
    if token and scheme.lower() == b"bearer":
        return token.strip()
    return x_api_key.strip()


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def entry(name: str, key: str, limits: Mapping[str, object]) -> str:
    """What the file of keys says of a new key."""
    said = name if name[0].isalpha() and name not in YAML_WORDS else f"'{name}'"
    lines = [f"  {said}:", f"    sha256: {hashlib.sha256(key.encode()).hexdigest()}"]
    for field, value in limits.items():
        if value:
            listed = f"[{', '.join(value)}]" if isinstance(value, list) else value
            lines.append(f"    {field}: {listed}")
    return "\n".join(lines) + "\n"


def _from_file(path: Path, house: House) -> dict[bytes, Key]:
    if not path.is_file():
        raise HanlinError(
            f"There is no file {path}; hanlin key NAME --file {path} makes one with a first key."
        )
    file = StrictFile.open(path, what=NO_KEYS)
    found: dict[bytes, Key] = {}
    for name, said in file.read(KeyFile).keys.items():
        digest = bytes.fromhex(said.sha256)
        if digest in found:
            other = found[digest].name
            raise file.wrong(("keys", name), f"'{name}' and '{other}' are the same key")
        try:
            allowed = _allowed(said.assistants, house)
        except UnknownAssistantError as error:
            raise file.wrong(("keys", name, "assistants"), str(error)) from error
        limits = said.model_dump(exclude={"sha256", "assistants"})
        found[digest] = Key(name=name, assistants=allowed, **limits)
    return found


def _allowed(names: Iterable[str] | None, house: House) -> frozenset[str] | None:
    return None if names is None else frozenset(house.get(name).name for name in names)


def _from_environment(plain: Iterable[str]) -> dict[bytes, Key]:
    return {
        hashlib.sha256(key.encode()).digest(): Key(name=f"env-{number}")
        for number, key in enumerate(plain, start=1)
    }
