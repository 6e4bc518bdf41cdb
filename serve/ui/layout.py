"""Where everything stands on the page: the components and their names, nothing that happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from serve.ui import view
from serve.ui.drawer import Drawer, lay_drawer
from serve.ui.pair.desk import Desk, lay_desk
from serve.ui.pieces import chatbot, message_box
from serve.ui.place import Here, Place
from serve.ui.settings import Clock
from serve.ui.status.board import Board, lay_board

PLACES_JS = Path(__file__).with_name("places.js")


@dataclass(frozen=True, slots=True)
class Memory:
    """What one open page remembers."""

    here: gr.State
    whose: gr.Textbox
    """With whom the conversation is that is shown; the browser knows it too, to keep it."""
    user: gr.State
    offered: gr.State
    """The controls that are drawn."""
    picked: gr.JSON
    """What was picked in them: assistant → control → value."""
    proposed: gr.JSON
    """The prompt of controls that have just been drawn, and whose they are."""
    kept: gr.State
    """The conversations that were left: assistant → chat, message, settings."""
    seen: gr.State
    """The house as it was last drawn."""
    news: gr.State
    """When it was last found to be another."""
    lost: gr.State
    """Whether the server knows nothing of this page (any more)."""
    judged: gr.State
    """The answer that was praised or blamed last."""

    @classmethod
    def new(cls) -> Memory:
        return cls(
            here=gr.State(Here()),
            whose=gr.Textbox("", visible=False),
            user=gr.State(""),
            offered=gr.State(None),
            picked=gr.JSON({}, visible=False),
            proposed=gr.JSON({}, visible=False),
            kept=gr.State({}),
            seen=gr.State(None),
            news=gr.State(None),
            lost=gr.State(False),
            judged=gr.State(None),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The page's components."""

    memory: Memory
    recalled: gr.Textbox
    """What the browser had kept of this tab; it is told once, when the page is loaded."""
    tick: gr.Timer
    brand: gr.HTML
    bar: gr.HTML
    switch: gr.Button
    theme: gr.Button
    house: gr.Row
    cards: gr.HTML
    room: gr.Column
    about: gr.HTML
    chat: gr.Chatbot
    why: gr.Row
    word: gr.Textbox
    word_send: gr.Button
    controls: gr.Column
    preview: gr.HTML
    drafted: gr.Textbox
    """What is typed, where the controls add to it; nobody sees it."""
    message: gr.Textbox
    surprise: gr.Button
    clear: gr.Button
    settings: gr.Button
    keys: gr.HTML
    drawer: Drawer
    desk: Desk
    board: Board

    @property
    def told(self) -> set[gr.blocks.Block]:
        """What an act is told: all that a person chose, wrote and was answered."""
        memory = self.memory
        remembered = {
            memory.here, memory.whose, memory.user, memory.offered, memory.picked, memory.kept,
            memory.seen, memory.judged,
        }  # fmt: skip
        picks = {side.pick for side in self.desk.sides}
        return {self.chat, self.message, self.word, *picks, *self.drawer.inputs, *remembered}

    @property
    def dressed(self) -> list[gr.blocks.Block]:
        """What changes with the place, the language or the state of the house."""
        memory = self.memory
        return [
            memory.whose, memory.user, memory.offered, memory.picked, memory.kept, memory.seen,
            self.tick, self.brand, self.bar, self.switch, self.theme, self.house, self.cards,
            self.room, self.about, self.chat, self.why, self.word, self.word_send, self.preview,
            self.message, self.surprise, self.clear, self.settings, self.keys,
            *self.drawer.dressed, *self.desk.dressed, *self.board.dressed,
        ]  # fmt: skip


def lay_out(clock: Clock, *, thumbs: bool) -> Layout:
    """The empty page; the first event after loading fills it in the reader's language."""
    js = PLACES_JS.read_text(encoding="utf-8")
    with gr.Row(elem_id="top"):
        brand = gr.HTML(view.brand("zh"), elem_id="brand", js_on_load=js)
        bar = gr.HTML(view.bar(Place(), "zh"), elem_id="bar", js_on_load=js)
        switch = gr.Button("English", size="sm", elem_id="language", scale=0, min_width=72)
        theme = gr.Button("◐", size="sm", elem_id="theme", scale=0, min_width=48)
    with gr.Row(elem_id="house", equal_height=False) as house:
        cards = gr.HTML("", elem_id="cards", js_on_load=js)
        with gr.Column(elem_id="room", visible=False) as room:
            about = gr.HTML("", elem_id="about")
            chat = chatbot("chat", thumbs=thumbs, editable=True)
            with gr.Row(elem_id="why", visible=False) as why:
                word = gr.Textbox(elem_id="word", max_length=500, lines=1, max_lines=1, scale=1)
                word_send = gr.Button(size="sm", elem_id="word-send", scale=0, min_width=64)
            controls = gr.Column(elem_id="controls")
            preview = gr.HTML("", elem_id="preview")
            drafted = gr.Textbox(visible=False)
            message = message_box("message")
            with gr.Row(elem_id="below", elem_classes="hanlin-below"):
                clear = gr.Button(size="sm", elem_id="clear", scale=0, min_width=64)
                settings = gr.Button(size="sm", elem_id="settings", scale=0, min_width=64)
                surprise = gr.Button(size="sm", elem_id="surprise", scale=0, min_width=64)
                keys = gr.HTML("", elem_id="keys")
        drawer = lay_drawer()
    desk = lay_desk()
    board = lay_board(clock.numbers)
    return Layout(
        memory=Memory.new(),
        recalled=gr.Textbox(visible=False),
        tick=gr.Timer(clock.states, active=False),
        brand=brand,
        bar=bar,
        switch=switch,
        theme=theme,
        house=house,
        cards=cards,
        room=room,
        about=about,
        chat=chat,
        why=why,
        word=word,
        word_send=word_send,
        controls=controls,
        preview=preview,
        drafted=drafted,
        message=message,
        surprise=surprise,
        clear=clear,
        settings=settings,
        keys=keys,
        drawer=drawer,
        desk=desk,
        board=board,
    )
