"""Clients that ask all the time, and what became of each of their questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import openai
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

ASSISTANTS = ("exam", "poetry", "sui", "wishes")
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "祝姐姐生日快乐"}
TOKENS = 64
UNAVAILABLE = 503
PAUSE = 0.05
"""After a refusal, as any client waits; without it a test would count its own impatience."""


class UnansweredError(Exception):
    """A stream that had its headers, and then an error in place of any word."""


@dataclass
class Outcomes:
    """Whole answers; what was refused before any answer began, by kind; what should not be."""

    answered: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)


async def ask(client: AsyncOpenAI, assistant: str, *, stream: bool) -> str:
    """One question; returns how its answer ended.

    Raises:
        UnansweredError: it was told that there would be no answer, before there was any.
        AssertionError: there is an answer, and it is none.
    """
    chats = client.chat.completions
    if stream:
        events = await chats.create(
            model=assistant, messages=[QUESTION], max_tokens=TOKENS, stream=True
        )
        return await _streamed(events)
    whole = await chats.create(model=assistant, messages=[QUESTION], max_tokens=TOKENS)
    assert whole.choices[0].message.content, whole
    return whole.choices[0].finish_reason


async def _streamed(events: AsyncStream[ChatCompletionChunk]) -> str:
    text, ended = "", None
    try:
        async with events:
            async for event in events:
                for choice in event.choices:
                    text += choice.delta.content or ""
                    ended = choice.finish_reason or ended
    except (openai.APIConnectionError, httpx.HTTPError) as error:  # it had begun
        raise AssertionError(f"broken off after {text!r}: {error!r}") from error
    except openai.APIError as error:
        if text:
            raise AssertionError(f"broken off after {text!r}: {error}") from error
        raise UnansweredError(str(error.code)) from error
    assert text, "an empty stream"
    assert ended, f"a stream that was cut after {text!r}"
    return ended


async def _keep_asking(
    client: AsyncOpenAI, number: int, outcomes: Outcomes, *, patience: float
) -> None:
    assistant = ASSISTANTS[number % len(ASSISTANTS)]
    while True:
        try:
            async with asyncio.timeout(patience):
                ended = await ask(client, assistant, stream=number % 2 == 0)
        except TimeoutError:
            outcomes.refused["gave up"] += 1
        except openai.APIConnectionError as error:
            outcomes.refused[_kind(error)] += 1
            await asyncio.sleep(PAUSE)
        except UnansweredError as error:
            outcomes.refused[f"a stream: {error}"] += 1
            await asyncio.sleep(PAUSE)
        except openai.InternalServerError as error:
            if error.status_code == UNAVAILABLE and "retry-after" in error.response.headers:
                outcomes.refused[f"{UNAVAILABLE} {error.code}"] += 1
                await asyncio.sleep(PAUSE)
            else:
                outcomes.wrong.append(f"{assistant}: {error.status_code} {error.body}")
        except (openai.APIError, AssertionError) as error:
            outcomes.wrong.append(f"{assistant}: {error}")
        else:
            if ended in ("stop", "length"):
                outcomes.answered[assistant] += 1
            else:
                outcomes.wrong.append(f"{assistant}: ended by {ended}")
        outcomes.asked.set()


def _kind(error: BaseException) -> str:
    """The innermost reason: `ConnectError`, `RemoteProtocolError`, `ReadError`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


@contextlib.asynccontextmanager
async def load(
    url: str, key: str, clients: int, *, patience: float = 180
) -> AsyncIterator[Outcomes]:
    """So many clients at once; what they saw is complete when this ends."""
    outcomes = Outcomes()
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=180) as client:
        tasks = [
            asyncio.create_task(_keep_asking(client, number, outcomes, patience=patience))
            for number in range(clients)
        ]
        try:
            yield outcomes
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            outcomes.wrong += [repr(end) for end in ends if isinstance(end, Exception)]


async def answered(outcomes: Outcomes, more: int, *, seconds: float = 180) -> None:
    """Return when every assistant has answered so many times more than now."""
    goal = {name: outcomes.answered[name] + more for name in ASSISTANTS}
    async with asyncio.timeout(seconds):
        while any(outcomes.answered[name] < count for name, count in goal.items()):
            outcomes.asked.clear()
            await outcomes.asked.wait()
