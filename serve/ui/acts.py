"""What happens when a person does something: each method is one act on one open page.

An act takes what that page remembers and returns what is to be shown; nothing is kept here
between acts, so any number of pages share one `Acts`.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from serve.ui.conversation import Chat, answered, place, plain, spoken, stopped
from serve.ui.dress import Update, dress, sending, signature, stopping
from serve.ui.house import House
from serve.ui.layout import Layout
from serve.ui.talk import answer
from serve.ui.texts import preferred, texts

Steps = AsyncGenerator[tuple[Any, Any]]
"""What the chat and the message box show, again and again while an answer grows."""

LANGUAGE_COOKIE = "hanlin-language"


class Acts:
    """All that can be done on the page, for one house."""

    def __init__(self, house: House, page: Layout) -> None:
        self.house = house
        self.page = page

    async def open(self, request: gr.Request) -> Update:
        """A page was loaded: its language, and the assistant and prompt its address names."""
        language = preferred(
            request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")
        )
        asked = request.query_params
        glance = await self.house.glance()
        chosen, opening = asked.get("assistant", ""), asked.get("prompt", "")
        shown = dress(self.page, glance, chosen, language, opening=opening)
        return shown | {self.page.language: language}

    async def choose(self, event: gr.EventData, language: str) -> Update:
        """Another assistant (or none: back to all of them); its conversation begins anew."""
        chosen = str(event.assistant)
        return dress(self.page, await self.house.glance(), chosen, language, opening="")

    async def translate(self, chosen: str, language: str) -> Update:
        """The other language; conversation and half-written message stay as they are."""
        other = "en" if language == "zh" else "zh"
        shown = dress(self.page, await self.house.glance(), chosen, other)
        return shown | {self.page.language: other}

    async def refresh(self, chosen: str, language: str, seen: str | None) -> Update:
        """Time went by: redraw what changed in the house, and nothing else."""
        glance = await self.house.glance()
        if signature(glance) == seen:
            return {self.page.seen: gr.skip()}
        return dress(self.page, glance, chosen, language)

    async def render(self, chosen: str, values: Mapping[str, str]) -> Any:
        """The prompt that the controls stand for, into the message box."""
        prompt = await self.house.prompt(chosen, values)
        return gr.skip() if prompt is None else prompt

    async def propose(self, chosen: str, offered: object, message: str) -> Any:
        """The controls appeared: their first prompt, unless something is written already."""
        if message or not offered:
            return gr.skip()
        return await self.render(chosen, {})

    async def ask(self, message: str, chat: Chat, chosen: str, language: str) -> Steps:
        """Send what was written and watch the answer grow."""
        words = texts(language)
        assistant = (await self.house.glance()).get(chosen)
        if not message.strip() or assistant is None:
            yield gr.skip(), gr.skip()
            return
        chat = [*chat, {"role": "user", "content": message}]
        yield [*chat, *answered("", "")], gr.Textbox(**stopping(words))
        async with aclosing(answer(self.house, assistant, spoken(chat), words)) as growing:
            async for said in growing:
                yield [*chat, *answered(said.text, said.notice)], gr.skip()
        yield gr.skip(), gr.Textbox(**sending(words))

    async def ask_example(
        self, event: gr.SelectData, chat: Chat, chosen: str, language: str
    ) -> Steps:
        """Send the example that was clicked."""
        async with aclosing(self.ask(event.value["text"], chat, chosen, language)) as steps:
            async for step in steps:
                yield step

    async def ask_again(self, event: gr.RetryData, chat: Chat, chosen: str, language: str) -> Steps:
        """Answer the same words anew."""
        asked = place(event.index)
        async with aclosing(self.ask(plain(chat[asked]), chat[:asked], chosen, language)) as steps:
            async for step in steps:
                yield step

    async def ask_edited(self, event: gr.EditData, chat: Chat, chosen: str, language: str) -> Steps:
        """Send the changed words; what followed them is gone."""
        before = chat[: place(event.index)]
        async with aclosing(self.ask(plain(event.value), before, chosen, language)) as steps:
            async for step in steps:
                yield step

    async def surprise(self, chat: Chat, chosen: str, language: str) -> Steps:
        """Send one of the assistant's examples, another than the last one sent."""
        assistant = (await self.house.glance()).get(chosen)
        last = next((plain(turn) for turn in reversed(chat) if turn["role"] == "user"), None)
        examples = [e for e in (assistant.examples if assistant else ()) if e != last]
        message = random.choice(examples) if examples else ""
        async with aclosing(self.ask(message, chat, chosen, language)) as steps:
            async for step in steps:
                yield step

    def stop(self, chat: Chat, language: str) -> tuple[Any, Any]:
        """The answer was stopped: what came of it stays, marked as stopped."""
        words = texts(language)
        return stopped(chat, words.stopped), gr.Textbox(**sending(words))

    def clear(self, language: str) -> tuple[Any, Any]:
        """A new conversation with the same assistant."""
        return [], gr.Textbox(value="", **sending(texts(language)))
