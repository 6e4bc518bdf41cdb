"""One question to one assistant: the answer as it grows, and every way it can fail as a sentence.

Knows the OpenAI client and the page's words, nothing of Gradio. Closing the iterator closes the
HTTP stream, and with it the engine's work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import openai

from serve.ui.conversation import Chat, answered, growing
from serve.ui.figures import NOTHING_YET, Figures
from serve.ui.house import House
from serve.ui.loads import LOADING
from serve.ui.question import Question
from serve.ui.refusal import FAILURES, sentence
from serve.ui.texts import Texts

REDRAW_SECONDS = 0.05
"""Tokens that come closer together than this are drawn together."""

SIGN_OF_LIFE_SECONDS = 2.0
"""While nothing arrives, the same answer is shown again this often: only when there is something to
show does Gradio notice that nobody is looking any more, and end the answer."""

THINKING_SECONDS = 4.0
"""After so long without a word, the page says that it still waits."""

PATIENCE_SECONDS = 120
"""How long a question waits for an engine that is on its way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What there is of an answer: its text so far, and what the page has to say beside it."""

    text: str = ""
    notice: str = ""
    quoted: str = ""
    """The gateway's own words about it."""
    done: float | None = None
    """How much of what is waited for is done, where that is known."""
    figures: Figures = field(default=NOTHING_YET, compare=False)
    whole: bool = field(default=False, compare=False)
    """Whether no more of it is to come."""

    @property
    def turns(self) -> Chat:
        """As the conversation shows it."""
        if self.whole:
            return answered(self.text, self.notice, self.quoted)
        return growing(self.text, self.notice, self.done)


async def answer(house: House, question: Question, words: Texts) -> AsyncGenerator[Answer]:
    """The growing answer to a question; never raises."""
    began = time.monotonic()
    while True:
        said = Answer()
        try:
            async with aclosing(_stream(house, question, words)) as growing:
                async for said in growing:
                    yield (
                        said
                        if said.text or said.notice
                        else await _waiting(house, question, words, time.monotonic() - began)
                    )
            return
        except FAILURES as error:
            waited = int(time.monotonic() - began)
            if said.text or not await _on_its_way(house, question, error):
                told, quoted = sentence(error, words, begun=bool(said.text))
                yield replace(said, notice=told, quoted=quoted, done=None, whole=True)
                return
            if waited >= PATIENCE_SECONDS:
                yield Answer(notice=words.gave_up.format(seconds=waited), whole=True)
                return
            yield await _waiting(house, question, words, waited)
            await asyncio.sleep(1)


@dataclass(slots=True)
class _Arriving:
    """What has been read so far, and a bell for whoever shows it."""

    began: float
    text: str = ""
    reason: str | None = None
    figures: Figures = NOTHING_YET
    bell: asyncio.Event = field(default_factory=asyncio.Event)


async def _stream(house: House, question: Question, words: Texts) -> AsyncGenerator[Answer]:
    """Show what arrives at once, then at most every `REDRAW_SECONDS`, and never hold any back."""
    arriving = _Arriving(time.monotonic())
    reading = asyncio.create_task(_read(house, question, arriving))
    reading.add_done_callback(lambda _: arriving.bell.set())
    try:
        while not reading.done():
            with suppress(TimeoutError):  # wait_for of Python 3.11 may lose a cancellation
                async with asyncio.timeout(SIGN_OF_LIFE_SECONDS):
                    await arriving.bell.wait()
            arriving.bell.clear()
            if not reading.done():
                yield Answer(arriving.text, figures=arriving.figures)
                await asyncio.wait([reading], timeout=REDRAW_SECONDS)
        if reading.exception() is not None and arriving.text:
            yield Answer(arriving.text, figures=arriving.figures)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    last = _last_word(arriving.text, arriving.reason, words)
    yield Answer(arriving.text, last, figures=arriving.figures, whole=True)


async def _read(house: House, question: Question, arriving: _Arriving) -> None:
    messages: Any = question.messages
    async with await house.client.chat.completions.create(
        model=question.assistant.id,
        messages=messages,
        stream=True,
        stream_options={"include_usage": True},
        **question.wish.fields,
    ) as chunks:
        async for chunk in chunks:
            for choice in chunk.choices[:1]:
                arriving.text += choice.delta.content or ""
                arriving.reason = choice.finish_reason or arriving.reason
            since = time.monotonic() - arriving.began
            arriving.figures = arriving.figures.heard(since, arriving.text, chunk.usage)
            arriving.bell.set()


def _last_word(text: str, reason: str | None, words: Texts) -> str:
    if not text.strip():
        return words.empty
    if reason is None:
        return words.broke_off
    return words.cut_short if reason == "length" else ""


async def _waiting(house: House, question: Question, words: Texts, seconds: float) -> Answer:
    """What is shown while there is no word of the answer yet."""
    seen = (await house.glance()).get(question.assistant.id)
    if seen is None or seen.state not in LOADING:
        late = words.thinking.format(seconds=int(seconds)) if seconds >= THINKING_SECONDS else ""
        return Answer(notice=late)
    load = house.loads.of(seen.id, seconds)
    if load.usual is None:
        return Answer(notice=words.loading.format(seconds=int(seconds)))
    usual = max(1, round(load.usual))
    told = words.loading_usual.format(seconds=int(seconds), usual=usual)
    return Answer(notice=told, done=load.share)


async def _on_its_way(house: House, question: Question, error: Exception) -> bool:
    """Whether the engine is being started, so that asking again will help."""
    if not isinstance(error, openai.APIStatusError) or error.status_code != 503:
        return False
    seen = (await house.glance()).get(question.assistant.id)
    return seen is not None and seen.state in LOADING
