"""What the gateway says about its assistants: the page's only source of knowledge.

One official OpenAI client does everything, so whatever the page can do any client can. This file
knows nothing of Gradio.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import openai
from pydantic import BaseModel, ConfigDict, ValidationError

from serve.ui.loads import Loads

FRESH_SECONDS = 1.0
"""How long an answer about the house serves every open page."""

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 300.0

GONE = "gone"
"""The state of every assistant while the gateway does not answer."""

LOCKED = "locked"
"""What is wrong with a gateway that refuses the page's key."""

ENOUGH_TOKENS = 4096
"""The longest answer that is offered where the assistant names no limit."""


class Said(BaseModel):
    """A value read from the gateway; what a newer gateway adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Text(Said):
    zh: str
    en: str

    def get(self, language: str) -> str:
        return self.zh if language == "zh" else self.en


class Control(Said):
    """One choice the page offers, rendered into the prompt by the gateway."""

    title: Text | None = None
    choices: tuple[str, ...] | None = None
    free: bool = False
    default: str = ""


class Sampling(Said):
    """What the gateway takes where a request says nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None


class Limits(Said):
    """The most a request may ask for."""

    max_tokens: int | None = None


class Assistant(Said):
    """One entry of /v1/models."""

    id: str
    aliases: tuple[str, ...] = ()
    title: Text
    description: Text
    state: str = "ready"
    reason: str | None = None
    """What is wrong with its engines, in one sentence, if anything is."""
    examples: tuple[str, ...] = ()
    controls: dict[str, Control] = {}
    history: Literal["none", "full"] = "full"
    typed: bool = False
    """Whether the controls only add to what is typed; otherwise they are the whole prompt."""
    system: str | None = None
    client_system: Literal["replace", "append", "refuse"] = "replace"
    sampling: Sampling = Sampling()
    limits: Limits = Limits()

    @property
    def most_tokens(self) -> int:
        """The longest answer that can be asked for."""
        return self.limits.max_tokens or max(ENOUGH_TOKENS, self.sampling.max_tokens or 0)

    @property
    def usual_tokens(self) -> int:
        """The longest answer where nothing else is asked for."""
        return min(self.sampling.max_tokens or self.most_tokens, self.most_tokens)


@dataclass(frozen=True, slots=True)
class Glance:
    """The house as last seen; while it cannot be reached, what was known before."""

    assistants: tuple[Assistant, ...] = ()
    trouble: str = ""
    """`GONE`, `LOCKED`, or nothing."""

    def get(self, name: str) -> Assistant | None:
        """The assistant of that name or alias."""
        return next((a for a in self.assistants if name == a.id or name in a.aliases), None)

    def lost(self, trouble: str = GONE) -> Glance:
        """The same assistants, none of them within reach."""
        gone = tuple(a.model_copy(update={"state": GONE, "reason": None}) for a in self.assistants)
        return replace(self, assistants=gone, trouble=trouble)


class House:
    """The gateway at one URL."""

    def __init__(self, url: str, *, key: str) -> None:
        self.client = openai.AsyncOpenAI(
            base_url=f"{url.rstrip('/')}/v1",
            api_key=key,
            max_retries=0,
            timeout=openai.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )
        self.loads = Loads()
        self._seen = Glance()
        self._until = 0.0
        self._looking = asyncio.Lock()

    async def glance(self) -> Glance:
        """The assistants and their states, at most `FRESH_SECONDS` old.

        Who asks while somebody looks waits for what is seen: of two quick steps on the page, the
        second is not to be answered before the first.
        """
        async with self._looking:
            if time.monotonic() >= self._until:
                self._seen = await self._look()
                self._until = time.monotonic() + FRESH_SECONDS
                self.loads.see({a.id: a.state for a in self._seen.assistants}, time.monotonic())
            return self._seen

    async def prompt(self, name: str, values: Mapping[str, str], message: str = "") -> str | None:
        """What the controls' values (and what was typed) stand for, exactly as trained.

        None if it is not to be had.
        """
        try:
            answer = await self.client.with_options(max_retries=1).post(
                f"/assistants/{name}/prompt",
                body={"values": dict(values), "message": message},
                cast_to=dict[str, Any],
            )
        except openai.APIError:
            return None
        return str(answer["prompt"])

    async def close(self) -> None:
        await self.client.close()

    async def _look(self) -> Glance:
        try:
            entries = (await self.client.models.list(timeout=CONNECT_SECONDS)).data
            return Glance(tuple(Assistant.model_validate(entry.model_dump()) for entry in entries))
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return self._seen.lost(LOCKED)
        except (openai.APIError, ValidationError):
            return self._seen.lost()
