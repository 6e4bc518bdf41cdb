"""What happens when a person does something with the page: where they go, and what they see there.

An act is told what that page remembers and shows, and returns what is to be shown; nothing is kept
here between acts, so any number of pages share one `Acts`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from serve.ui.conversation import retold, stopped, unfinished
from serve.ui.dress import Left, Scene, Update, dress, signature
from serve.ui.house import Glance, House
from serve.ui.layout import Layout
from serve.ui.pair.desk import dress_desk, picks, reopened
from serve.ui.place import PAIR, STATUS, Here, Place
from serve.ui.status.board import draw, dress_board
from serve.ui.status.watch import Watch
from serve.ui.tab import Conversation, Tab, shown_again
from serve.ui.texts import LANGUAGE_COOKIE, preferred, texts

Told = Mapping[Any, Any]


class Acts:
    """Going about the page, for one house."""

    def __init__(
        self, house: House, watch: Watch, page: Layout, *, feedback: bool, leaves: bool
    ) -> None:
        self.house = house
        self.watch = watch
        self.page = page
        self.feedback = feedback
        self.leaves = leaves

    async def open(self, recalled: str, here: Here, request: gr.Request) -> Update:
        """A page was loaded: its language, what its address names, and what its tab had kept."""
        language = preferred(
            request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")
        )
        place, user = Place.of(request.query_params), request.username or ""
        tab = Tab.read(recalled, user)
        glance = await self.house.glance()
        scene = Scene(glance, place, language, user, "", self.feedback, self.leaves, here.step)
        memory = self.page.memory
        here.language = language
        _arrive(here, scene)
        kept = {name: _found(one, language) for name, one in tab.conversations.items()}
        left = kept.get(here.chosen) or Left(None, None)
        if place.prompt and (tab.fresh or not left.chat):
            left = replace(left, message=place.prompt)
        shown = dress(self.page, scene, resumed=left)
        shown |= {memory.user: user, memory.kept: kept}
        shown[self.page.tick] = gr.Timer(active=True)
        shown |= {memory.picked: tab.picked} | self._elsewhere(scene, picks(place, tab))
        return shown | reopened(self.page.desk, place, tab, glance, language)

    async def go(self, event: gr.EventData, told: Told) -> Update:
        """Another view: an answer under way goes on."""
        return await self._go(event, told, ends=False)

    async def cut(self, event: gr.EventData, told: Told) -> Update:
        """Another place, chosen in a way that ends the answer under way."""
        return await self._go(event, told, ends=True)

    async def _go(self, event: gr.EventData, told: Told, *, ends: bool) -> Update:
        """What was said and half written in the place that is left is kept.

        `here` may be ahead of what is shown when steps follow one another quickly; whose
        conversation was told is known from `whose`, which the browser told together with it.
        """
        page, memory = self.page, self.page.memory
        here, before = told[memory.here], told[memory.whose]
        glance = await self.house.glance()
        here.step = int(event.step)
        stood, place = here.chosen, Place.at(str(event.address))
        if place.view:
            place = Place(place.view, stood)
        scene = self._scene(told, glance, place)
        _arrive(here, scene)
        kept = dict(told[memory.kept])
        if before:
            kept[before] = self._left(told, before, glance)
        if here.chosen == stood and not ends:
            shown = dress(page, scene)
        else:
            shown = dress(page, scene, resumed=kept.get(here.chosen) or Left([], place.prompt))
            shown[memory.kept] = kept
        return shown | self._elsewhere(scene, self._picked(told))

    async def translate(self, event: gr.EventData, told: Told) -> Update:
        """The other language; settings, half-written message and what was said stay as they are."""
        page, here = self.page, told[self.page.memory.here]
        here.language = "zh" if event.language == "zh" else "en"
        shown = await self._redrawn(event, told)
        chats = [side.chat for side in page.desk.sides]
        if told[page.memory.whose] == here.chosen:  # it is not on its way to another
            chats.append(page.chat)
        for chat in chats:
            said = told[chat] or []
            if (again := retold(said, texts(here.language))) != said:
                shown[chat]["value"] = again
        return shown

    async def look(self, seen: str | None) -> tuple[Any, Any]:
        """Time went by: whether anything changed in the house, and whether this page is known.

        Every open page asks so every few seconds, so nothing else is told and nothing drawn. One
        that was open before the server was started anew, or has slept while very many others were
        used, is of no use any more: loaded again, it finds what its tab has kept.
        """
        if seen is None:
            return gr.skip(), True
        now = signature(await self.house.glance())
        return gr.skip() if now == seen else time.monotonic(), gr.skip()

    async def refresh(self, event: gr.EventData, told: Told) -> Update:
        """Something changed in the house: draw it, and leave all else as it is."""
        return await self._redrawn(event, told)

    async def watch_on(self, here: Here) -> Update:
        """Time went by on the status board."""
        return draw(self.page.board, self.watch, await self.house.glance(), here.language)

    async def _redrawn(self, event: gr.EventData, told: Told) -> Update:
        memory, here = self.page.memory, told[self.page.memory.here]
        glance = await self.house.glance()
        here.step = int(event.step)
        scene = self._scene(told, glance, Place(here.view, here.chosen))
        _arrive(here, scene)
        # Where the gateway was gone when the page was loaded, nobody's conversation is shown yet.
        lost = glance.get(here.chosen) is not None and not told[memory.whose]
        found = told[memory.kept].get(here.chosen) if lost else None
        shown = dress(self.page, scene, resumed=found)
        return shown | self._elsewhere(scene, self._picked(told))

    def _scene(self, told: Told, glance: Glance, place: Place) -> Scene:
        memory = self.page.memory
        return Scene(
            glance,
            place,
            told[memory.here].language,
            told[memory.user],
            told[self.page.drawer.drawn],
            self.feedback,
            self.leaves,
            told[memory.here].step,
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
        words, chat = texts(told[memory.here].language), told[page.chat] or []
        if unfinished(chat):
            chat = stopped(chat, words.stopped)
        same = glance.get(name) is not None
        settings = page.drawer.kept(told) if same else None
        return Left(chat, told[page.message] or "", settings)


def _arrive(here: Here, scene: Scene) -> None:
    """From now on that is where the page is."""
    found = scene.glance.get(scene.place.assistant)
    here.view, here.chosen = scene.place.view, found.id if found else scene.place.assistant


def _found(one: Conversation, language: str) -> Left:
    """A conversation that a tab had kept, as it was left."""
    chat = shown_again(one.chat, texts(language).stopped)
    return Left(chat, one.message, one.settings.values if one.settings else None)
