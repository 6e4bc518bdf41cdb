"""What happens in a conversation: asking, asking anew, stopping, judging.

Like `acts`, nothing is kept here; each act is told what the page shows.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from serve.ui import view
from serve.ui.conversation import Chat, judged, place, plain, spoken, stopped, unfinished
from serve.ui.feedback import Feedback, Judgement, Verdict, judgement_id
from serve.ui.house import Assistant, House
from serve.ui.layout import Layout
from serve.ui.pieces import sending, stopping
from serve.ui.question import Question
from serve.ui.talk import Answer, answer
from serve.ui.texts import texts

Told = Mapping[Any, Any]
Update = dict[Any, Any]
Steps = AsyncGenerator[Update]


class Asking:
    """All that can be done in a conversation, for one house."""

    def __init__(self, house: House, page: Layout, feedback: Feedback | None) -> None:
        self.house = house
        self.page = page
        self.feedback = feedback

    async def render(self, chosen: str, values: Mapping[str, str]) -> dict[str, Any]:
        """The prompt that the controls stand for now that something was picked."""
        prompt = await self.house.prompt(chosen, values)
        return {"whose": chosen, "prompt": prompt or "", "picked": True}

    async def preview(self, told: Told) -> Any:
        """The prompt that controls and message make together, to be looked at."""
        memory = self.page.memory
        offered = told[memory.offered]
        if not offered or not offered["typed"]:
            return ""
        values = told[memory.picked].get(offered["assistant"], {})
        message = told[self.page.message] or ""
        prompt = await self.house.prompt(offered["assistant"], values, message)
        return gr.skip() if prompt is None else view.preview(prompt, offered["language"])

    async def propose(self, told: Told) -> Any:
        """The controls appeared: whose they are, and their prompt."""
        memory = self.page.memory
        offered = told[memory.offered]
        if not offered or offered["typed"] or told[self.page.message]:
            return {}
        name = offered["assistant"]
        prompt = await self.house.prompt(name, told[memory.picked].get(name, {}))
        return {"whose": name, "prompt": prompt or ""}

    async def ask(self, told: Told) -> Steps:
        """Send what was written (with what the controls add) and watch the answer grow."""
        page, memory = self.page, self.page.memory
        message, offered = told[page.message] or "", told[memory.offered]
        if message.strip() and offered and offered["typed"]:
            values = told[memory.picked].get(offered["assistant"], {})
            message = await self.house.prompt(offered["assistant"], values, message) or message
        async with aclosing(self._ask(told, message, told[page.chat])) as steps:
            async for step in steps:
                yield step

    async def ask_example(self, event: gr.SelectData, told: Told) -> Steps:
        """Send the example that was clicked."""
        chat = told[self.page.chat]
        async with aclosing(self._ask(told, event.value["text"], chat)) as steps:
            async for step in steps:
                yield step

    async def ask_again(self, event: gr.RetryData, told: Told) -> Steps:
        """Answer the same words anew."""
        chat = told[self.page.chat]
        asked = place(event.index)
        async with aclosing(self._ask(told, plain(chat[asked]), chat[:asked])) as steps:
            async for step in steps:
                yield step

    async def ask_edited(self, event: gr.EditData, told: Told) -> Steps:
        """Send the changed words; what followed them is gone."""
        before = told[self.page.chat][: place(event.index)]
        async with aclosing(self._ask(told, plain(event.value), before)) as steps:
            async for step in steps:
                yield step

    async def surprise(self, told: Told) -> Steps:
        """Send one of the assistant's examples, another than the last one sent."""
        chat = told[self.page.chat]
        assistant = None if unfinished(chat) else await self._assistant(told)
        last = next((plain(turn) for turn in reversed(chat) if turn["role"] == "user"), None)
        examples = [e for e in (assistant.examples if assistant else ()) if e != last]
        message = random.choice(examples) if examples else ""
        async with aclosing(self._ask(told, message, chat)) as steps:
            async for step in steps:
                yield step

    def stop(self, told: Told) -> Update:
        """The answer was stopped: what came of it stays, marked as stopped if it was not whole."""
        words, chat = texts(told[self.page.memory.here].language), told[self.page.chat]
        shown: Update = {self.page.message: gr.Textbox(**sending(words))}
        if unfinished(chat):
            shown[self.page.chat] = stopped(chat, words.stopped)
        return shown

    def clear(self, told: Told) -> Update:
        """A new conversation with the same assistant."""
        words = texts(told[self.page.memory.here].language)
        return {
            self.page.chat: [],
            self.page.message: gr.Textbox(value="", **sending(words)),
            self.page.why: gr.Row(visible=False),
        }

    async def judge(self, event: gr.LikeData, told: Told, request: gr.Request) -> Update:
        """A thumb went up, or down, or was taken back: it is kept at once, a word may follow."""
        page, memory = self.page, self.page.memory
        words = texts(told[memory.here].language)
        away: Update = {page.why: gr.Row(visible=False), memory.judged: None}
        judgement = await self._judgement(event, told, request.session_hash or "")
        if judgement is None or not await self._keep(judgement):
            gr.Warning(words.not_kept)
            return away
        if judgement.verdict == "none":
            return away
        praised = judgement.verdict == "up"
        asks = words.word_placeholder_up if praised else words.word_placeholder_down
        return {
            page.why: gr.Row(visible=True),
            page.word: gr.Textbox(value="", placeholder=asks),
            memory.judged: judgement,
        }

    async def explain(self, told: Told) -> Update:
        """A word for why; an empty one only puts the field away."""
        page, memory = self.page, self.page.memory
        words = texts(told[memory.here].language)
        word, judgement = (told[page.word] or "").strip(), told[memory.judged]
        if word and judgement is not None:
            if await self._keep(judgement.with_word(word)):
                gr.Info(words.kept, duration=3)
            else:
                gr.Warning(words.not_kept)
        return {page.why: gr.Row(visible=False), memory.judged: None}

    async def _judgement(self, event: gr.LikeData, told: Told, session: str) -> Judgement | None:
        found = judged(told[self.page.chat], place(event.index))
        assistant = await self._assistant(told)
        if found is None or assistant is None:
            return None
        before, text = found
        wish = self.page.drawer.wish(assistant, told)
        dialogue = [
            *Question(assistant, spoken(before), wish).whole,
            {"role": "assistant", "content": text},
        ]
        return Judgement(
            id=judgement_id(session, dialogue),
            assistant=assistant.id,
            verdict=_verdict(event.liked),
            messages=dialogue,
            settings=wish.fields,
            by=told[self.page.memory.user],
        )

    async def _keep(self, judgement: Judgement) -> bool:
        """Whether it could be written down."""
        if self.feedback is None:
            return False
        try:
            await asyncio.to_thread(self.feedback.keep, judgement)
        except OSError:
            logging.getLogger("hanlin.ui").exception("feedback cannot be kept")
            return False
        return True

    async def _assistant(self, told: Told) -> Assistant | None:
        """With whom the conversation is that was told, unless one is on the way to another."""
        memory, glance = self.page.memory, await self.house.glance()
        whose = told[memory.whose]
        return glance.get(whose) if whose == told[memory.here].chosen else None

    async def _ask(self, told: Told, message: str, chat: Chat) -> Steps:
        page, memory = self.page, self.page.memory
        words = texts(told[memory.here].language)
        assistant = await self._assistant(told)
        if not message.strip() or assistant is None:
            yield {page.chat: gr.skip()}
            return
        chat = [*chat, {"role": "user", "content": message}]
        yield {
            page.chat: [*chat, *Answer().turns],
            page.message: gr.Textbox(**stopping(words)),
            page.why: gr.Row(visible=False),
        }
        question = Question(assistant, spoken(chat), page.drawer.wish(assistant, told))
        async with aclosing(answer(self.house, question, words)) as steps:
            async for said in steps:
                yield {page.chat: [*chat, *said.turns]}


def _verdict(liked: bool | str) -> Verdict:
    """Gradio's word for a thumb; a thumb that is pressed again is taken back."""
    if isinstance(liked, bool):
        return "up" if liked else "down"
    return "none"
