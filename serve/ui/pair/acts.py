"""What happens side by side: one message goes to two assistants, and both answers are watched."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from serve.ui.conversation import Chat, plain, spoken, stopped, unfinished
from serve.ui.house import Assistant, Glance, House
from serve.ui.pair.desk import (
    Desk,
    Update,
    chats,
    choice,
    emptied,
    examples,
    figures,
    head,
    same_sliders,
)
from serve.ui.pair.race import both
from serve.ui.pieces import sending, stopping
from serve.ui.question import Question, Wish, wish
from serve.ui.talk import REDRAW_SECONDS, Answer, answer
from serve.ui.texts import texts

Told = Mapping[Any, Any]
Steps = AsyncGenerator[Update]


class PairActs:
    """All that can be done with the desk of one house."""

    def __init__(self, house: House, desk: Desk, here: gr.State) -> None:
        self.house = house
        self.desk = desk
        self.here = here

    async def ask(self, told: Told) -> Steps:
        """Send what was written to both, and watch both answers grow."""
        async with aclosing(self._ask(told, told[self.desk.message])) as steps:
            async for step in steps:
                yield step

    async def surprise(self, told: Told) -> Steps:
        """Send an example of either, another than the last one sent."""
        chats = [told[side.chat] for side in self.desk.sides]
        if any(map(unfinished, chats)):
            yield {self.desk.message: gr.skip()}
            return
        chat = chats[0]
        last = next((plain(turn) for turn in reversed(chat) if turn["role"] == "user"), None)
        offered = [e for e in examples(await self._two(told)) if e != last]
        async with aclosing(self._ask(told, random.choice(offered) if offered else "")) as steps:
            async for step in steps:
                yield step

    def stop(self, told: Told) -> Update:
        """What was still growing was stopped."""
        words = texts(told[self.here].language)
        shown: Update = {self.desk.message: gr.Textbox(**sending(words))}
        for side in self.desk.sides:
            if unfinished(told[side.chat]):
                shown[side.chat] = stopped(told[side.chat], words.stopped)
        return shown

    def clear(self, told: Told) -> Update:
        """Both conversations anew."""
        return emptied(self.desk, texts(told[self.here].language), told[self.here].language)

    async def pick(self, told: Told) -> Update:
        """Another assistant on one side: what was said before was said by somebody else."""
        language, glance = told[self.here].language, await self.house.glance()
        pair = self._picked(told, glance)
        shown = self.clear(told) | await self.share(told) | chats(self.desk, glance, pair, language)
        for side in self.desk.sides:
            shown[side.chat]["value"] = []
        return shown | {self.desk.head: head(glance, pair, language)}

    async def share(self, told: Told) -> Update:
        """Whether both sample alike."""
        left, right = await self._two(told)
        shown: Update = {self.desk.sampling: gr.Row(visible=bool(told[self.desk.same]))}
        if left and right and told[self.desk.same]:
            shown |= same_sliders(self.desk, (left, right), told[self.here].language)
        return shown

    async def _ask(self, told: Told, message: str) -> Steps:
        language = told[self.here].language
        words = texts(language)
        left, right = await self._two(told)
        if not message.strip() or (left is None and right is None):
            yield {self.desk.message: gr.skip()}
            return
        chats = [[*told[s.chat], {"role": "user", "content": message}] for s in self.desk.sides]
        begun = self._shown(chats, (None, None), language)
        yield {**begun, self.desk.message: gr.Textbox(**stopping(words))}
        answers = [
            self._answer(told, one, chat) for one, chat in zip((left, right), chats, strict=True)
        ]
        async with aclosing(both(answers[0], answers[1], pause=REDRAW_SECONDS)) as race:
            async for said in race:
                yield self._shown(chats, said, language)

    async def _answer(
        self, told: Told, assistant: Assistant | None, chat: Chat
    ) -> AsyncGenerator[Answer]:
        words = texts(told[self.here].language)
        if assistant is None:  # gone since it was picked
            yield Answer(notice=words.unknown_model, whole=True)
            return
        question = Question(assistant, spoken(chat), self._wish(told, assistant))
        async with aclosing(answer(self.house, question, words)) as steps:
            async for step in steps:
                yield step

    def _shown(
        self, chats: list[Any], said: tuple[Answer | None, Answer | None], language: str
    ) -> Update:
        update: Update = {}
        for side, chat, one in zip(self.desk.sides, chats, said, strict=True):
            now = one or Answer()
            update[side.chat] = [*chat, *now.turns]
            update[side.figures] = figures(now.figures, language)
        return update

    def _wish(self, told: Told, assistant: Assistant) -> Wish:
        if not told[self.desk.same]:
            return Wish()
        own = assistant.system or "" if assistant.client_system == "replace" else ""
        return wish(assistant, *self.desk.sliders.read(told), own)

    async def _two(self, told: Told) -> tuple[Assistant | None, Assistant | None]:
        glance = await self.house.glance()
        left, right = self._picked(told, glance)
        return glance.get(left), glance.get(right)

    def _picked(self, told: Told, glance: Glance) -> tuple[str, str]:
        left, right = (told[side.pick] or "" for side in self.desk.sides)
        return choice(glance, left, right)
