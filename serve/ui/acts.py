"""What happens when a person does something with the page: where they go, and what they see there.

An act is told what that page remembers and shows, and returns what is to be shown; nothing is kept
here between acts, so any number of pages share one `Acts`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import gradio as gr

from serve.ui.conversation import stopped
from serve.ui.dress import Left, Scene, Update, dress, signature
from serve.ui.house import Glance, House
from serve.ui.layout import Layout
from serve.ui.pair.desk import dress_desk, figures
from serve.ui.place import PAIR, STATUS, Place
from serve.ui.status.board import draw, dress_board
from serve.ui.status.watch import Watch
from serve.ui.texts import preferred, texts

Told = Mapping[Any, Any]

LANGUAGE_COOKIE = "hanlin-language"


class Acts:
    """Going about the page, for one house."""

    def __init__(self, house: House, watch: Watch, page: Layout, *, feedback: bool) -> None:
        self.house = house
        self.watch = watch
        self.page = page
        self.feedback = feedback

    async def open(self, request: gr.Request) -> Update:
        """A page was loaded: its language, and what its address names."""
        language = preferred(
            request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")
        )
        place = Place.of(request.query_params)
        glance = await self.house.glance()
        scene = Scene(glance, place, language, request.username or "", feedback=self.feedback)
        memory, desk = self.page.memory, self.page.desk
        shown = dress(self.page, scene, resumed=Left(None, place.prompt or None))
        shown |= {memory.language: language, memory.user: scene.user}
        shown |= self._elsewhere(scene, (place.left, place.right))
        blank = figures(None, language)
        box = gr.Textbox(
            value=place.prompt if place.view == PAIR else "",
            label=texts(language).message,
            placeholder=texts(language).placeholder,
            submit_btn=texts(language).send,
        )
        return shown | {desk.left.figures: blank, desk.right.figures: blank, desk.message: box}

    async def go(self, event: gr.EventData, told: Told) -> Update:
        """Another place: what was said and half written in the one that is left is kept."""
        page, memory = self.page, self.page.memory
        place, before = Place.at(str(event.address)), told[memory.chosen]
        glance = await self.house.glance()
        if place.view:
            place = Place(place.view, before)
        found = glance.get(place.assistant)
        chosen = found.id if found else place.assistant
        scene = self._scene(told, glance, place)
        if chosen == before:
            shown = dress(page, scene)
        else:
            kept = {**told[memory.kept], before: self._left(told, before, glance)}
            shown = dress(page, scene, resumed=kept.get(chosen) or Left([], place.prompt))
            shown[memory.kept] = kept
        return shown | self._elsewhere(scene, self._picked(told))

    async def cut(self, event: gr.EventData, told: Told) -> Update:
        """Another place, chosen in a way that ends the answer under way."""
        shown = await self.go(event, told)
        page, memory = self.page, self.page.memory
        if told[memory.answering] and shown[memory.chosen] == told[memory.chosen]:
            words = texts(told[memory.language])
            shown[page.chat] = stopped(told[page.chat], words.stopped)
            shown[page.message] = gr.Textbox(submit_btn=words.send, stop_btn=False)
            shown[memory.answering] = False
        return shown

    async def translate(self, told: Told) -> Update:
        """The other language; conversation, settings and half-written message stay as they are."""
        memory = self.page.memory
        other = "en" if told[memory.language] == "zh" else "zh"
        shown = await self._redrawn({**told, memory.language: other})
        return shown | {memory.language: other}

    async def look(self, seen: str | None) -> Any:
        """Time went by: whether anything changed in the house.

        Every open page asks so every few seconds, so nothing else is told and nothing drawn.
        """
        now = signature(await self.house.glance())
        return gr.skip() if now == seen else time.monotonic()

    async def refresh(self, told: Told) -> Update:
        """Something changed in the house: draw it, and leave all else as it is."""
        return await self._redrawn(told)

    async def watch_on(self, told: Told) -> Update:
        """Time went by on the status board."""
        glance = await self.house.glance()
        return draw(self.page.board, self.watch, glance, told[self.page.memory.language])

    async def _redrawn(self, told: Told) -> Update:
        memory = self.page.memory
        glance = await self.house.glance()
        scene = self._scene(told, glance, Place(told[memory.view], told[memory.chosen]))
        return dress(self.page, scene) | self._elsewhere(scene, self._picked(told))

    def _scene(self, told: Told, glance: Glance, place: Place) -> Scene:
        memory = self.page.memory
        return Scene(
            glance,
            place,
            told[memory.language],
            told[memory.user],
            told[self.page.drawer.drawn],
            self.feedback,
        )

    def _elsewhere(self, scene: Scene, picked: tuple[str, str]) -> Update:
        """The two other views."""
        page, view_ = self.page, scene.place.view
        desk = dress_desk(
            page.desk, scene.glance, scene.language, shown=view_ == PAIR, picked=picked
        )
        board = dress_board(
            page.board, self.watch, scene.glance, scene.language, shown=view_ == STATUS
        )
        return desk | board

    def _picked(self, told: Told) -> tuple[str, str]:
        left, right = (told[side.pick] or "" for side in self.page.desk.sides)
        return left, right

    def _left(self, told: Told, name: str, glance: Glance) -> Left:
        """What is there now, to be found again."""
        page, memory = self.page, self.page.memory
        words, chat = texts(told[memory.language]), told[page.chat] or []
        if told[memory.answering]:
            chat = stopped(chat, words.stopped)
        same = glance.get(name) is not None
        settings = page.drawer.kept(told) if same else None
        return Left(chat, told[page.message] or "", settings)
