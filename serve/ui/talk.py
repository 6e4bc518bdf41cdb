"""One question to one assistant: the answer as it grows, and every way it can fail as a sentence.

Knows the OpenAI client and the page's words, nothing of Gradio. Closing the iterator closes the
HTTP stream, and with it the engine's work.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import openai

from serve.ui.house import Assistant, House
from serve.ui.texts import Texts

REDRAW_SECONDS = 0.05
"""Tokens that come closer together than this are drawn together."""

SIGN_OF_LIFE_SECONDS = 2.0
"""While nothing arrives, the same answer is shown again this often: only when there is something to
show does Gradio notice that nobody is looking any more, and end the answer."""

PATIENCE_SECONDS = 120
"""How long a question waits for an engine that is on its way."""

ON_ITS_WAY = {"starting", "stopped"}

FAILURES = (openai.APIError, json.JSONDecodeError)
"""What the client raises: its own errors, and what is left of an event cut in half."""

Turn = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is of an answer: its text so far, and what the page has to say beside it."""

    text: str = ""
    notice: str = ""


def sent(assistant: Assistant, conversation: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns that go to the gateway: all of them, or the last where each stands alone."""
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in conversation]
    return turns[-1:] if assistant.history == "none" else turns


async def answer(
    house: House, assistant: Assistant, conversation: Sequence[Turn], words: Texts
) -> AsyncGenerator[Answer]:
    """The growing answer to a conversation that ends with the person's words; never raises."""
    began, notice = time.monotonic(), ""
    while True:
        said = Answer()
        try:
            async with aclosing(_stream(house, assistant, conversation, words)) as growing:
                async for said in growing:
                    yield said if said.text or said.notice else Answer(notice=notice)
            return
        except FAILURES as error:
            waited = int(time.monotonic() - began)
            if said.text or not await _on_its_way(house, assistant, error):
                yield Answer(said.text, sentence(error, words, begun=bool(said.text)))
                return
            if waited >= PATIENCE_SECONDS:
                yield Answer(notice=words.gave_up.format(seconds=waited))
                return
            notice = words.waiting.format(seconds=waited)
            yield Answer(notice=notice)
            await asyncio.sleep(1)


@dataclass(slots=True)
class _Arriving:
    """What has been read so far, and a bell for whoever shows it."""

    text: str = ""
    reason: str | None = None
    bell: asyncio.Event = field(default_factory=asyncio.Event)


async def _stream(
    house: House, assistant: Assistant, conversation: Sequence[Turn], words: Texts
) -> AsyncGenerator[Answer]:
    """Show what arrives at once, then at most every `REDRAW_SECONDS`, and never hold any back."""
    arriving = _Arriving()
    reading = asyncio.create_task(_read(house, assistant, conversation, arriving))
    reading.add_done_callback(lambda _: arriving.bell.set())
    try:
        while not reading.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(arriving.bell.wait(), SIGN_OF_LIFE_SECONDS)
            arriving.bell.clear()
            if not reading.done():
                yield Answer(arriving.text)
                await asyncio.wait([reading], timeout=REDRAW_SECONDS)
        if reading.exception() is not None and arriving.text:
            yield Answer(arriving.text)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    yield Answer(arriving.text, _last_word(arriving.text, arriving.reason, words))


async def _read(
    house: House, assistant: Assistant, conversation: Sequence[Turn], arriving: _Arriving
) -> None:
    messages: Any = sent(assistant, conversation)
    async with await house.client.chat.completions.create(
        model=assistant.id, messages=messages, stream=True
    ) as chunks:
        async for chunk in chunks:
            for choice in chunk.choices[:1]:
                arriving.text += choice.delta.content or ""
                arriving.reason = choice.finish_reason or arriving.reason
            arriving.bell.set()


def _last_word(text: str, reason: str | None, words: Texts) -> str:
    if not text.strip():
        return words.empty
    if reason is None:
        return words.broke_off
    return words.cut_short if reason == "length" else ""


async def _on_its_way(house: House, assistant: Assistant, error: Exception) -> bool:
    """Whether the engine is being started, so that asking again will help."""
    if not isinstance(error, openai.APIStatusError) or error.status_code != 503:
        return False
    seen = (await house.glance()).get(assistant.id)
    return seen is not None and seen.state in ON_ITS_WAY


def sentence(error: Exception, words: Texts, *, begun: bool = False) -> str:
    """What went wrong, as one sentence for a person."""
    if begun:
        return words.broke_off
    match error:
        case openai.APITimeoutError():
            return words.slow
        case openai.APIConnectionError():
            return words.gone
        case openai.NotFoundError():
            return words.unknown_model
        case openai.RateLimitError():
            return words.busy
        case openai.APIStatusError(status_code=status) if status < 500:
            return words.refused.format(reason=reason(error))
        case _:
            return words.failed.format(reason=reason(error))


def reason(error: Exception) -> str:
    """The gateway's own sentence, without the client's framing of it."""
    body = getattr(error, "body", None)
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping) and isinstance(inner.get("message"), str):
            return str(inner["message"])
    return str(error)
