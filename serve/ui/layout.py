"""Where everything stands on the page: the components and their names, nothing that happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from serve.ui import view
from serve.ui.house import Control
from serve.ui.texts import Texts, texts

SHORT_LIST = 6
"""Up to so many choices are all shown at once; more go into a list to search in."""

CARDS_JS = Path(__file__).with_name("cards.js")


@dataclass(frozen=True, slots=True)
class Layout:
    """The page's components, and what one open page remembers (`language`, `chosen`, `seen`)."""

    language: gr.State
    chosen: gr.State
    offered: gr.State
    seen: gr.State
    tick: gr.Timer
    brand: gr.HTML
    switch: gr.Button
    theme: gr.Button
    cards: gr.HTML
    room: gr.Column
    about: gr.HTML
    chat: gr.Chatbot
    controls: gr.Column
    message: gr.Textbox
    surprise: gr.Button
    clear: gr.Button
    keys: gr.HTML

    @property
    def dressed(self) -> list[gr.blocks.Block]:
        """What changes with the assistant, the language or the state of the house."""
        return [
            self.chosen,
            self.offered,
            self.seen,
            self.brand,
            self.switch,
            self.theme,
            self.cards,
            self.room,
            self.about,
            self.chat,
            self.message,
            self.surprise,
            self.clear,
            self.keys,
        ]


def lay_out(refresh_seconds: float) -> Layout:
    """The empty page; the first event after loading fills it in the reader's language."""
    js = CARDS_JS.read_text(encoding="utf-8")
    with gr.Row(elem_id="top"):
        brand = gr.HTML(view.brand("zh"), elem_id="brand", js_on_load=js)
        switch = gr.Button("English", size="sm", elem_id="language", scale=0, min_width=72)
        theme = gr.Button("◐", size="sm", elem_id="theme", scale=0, min_width=48)
    with gr.Row(elem_id="house", equal_height=False):
        cards = gr.HTML("", elem_id="cards", js_on_load=js)
        with gr.Column(elem_id="room", visible=False) as room:
            about = gr.HTML("", elem_id="about")
            chat = _chatbot()
            controls = gr.Column(elem_id="controls")
            message = gr.Textbox(
                elem_id="message",
                show_label=False,
                lines=1,
                max_lines=8,
                max_length=20_000,
                autofocus=True,
            )
            with gr.Row(elem_id="below"):
                surprise = gr.Button(size="sm", elem_id="surprise", scale=0, min_width=96)
                clear = gr.Button(size="sm", elem_id="clear", scale=0, min_width=96)
                keys = gr.HTML("", elem_id="keys")
    return Layout(
        language=gr.State("en"),
        chosen=gr.State(""),
        offered=gr.State(None),
        seen=gr.State(None),
        tick=gr.Timer(refresh_seconds),
        brand=brand,
        switch=switch,
        theme=theme,
        cards=cards,
        room=room,
        about=about,
        chat=chat,
        controls=controls,
        message=message,
        surprise=surprise,
        clear=clear,
        keys=keys,
    )


def _chatbot() -> gr.Chatbot:
    return gr.Chatbot(
        elem_id="chat",
        height="100%",
        container=False,
        buttons=["copy"],
        editable="user",
        feedback_options=None,
        latex_delimiters=[],
        allow_tags=False,
        layout="bubble",
    )


def choosers(
    controls: Mapping[str, Control], language: str, key: str
) -> list[gr.Radio | gr.Dropdown | gr.Textbox]:
    """One component for each control, in a row that wraps on a narrow screen."""
    words = texts(language)
    with gr.Row(elem_classes="hanlin-controls"):
        return [_chooser(name, control, language, words, key) for name, control in controls.items()]


def _chooser(
    name: str, control: Control, language: str, words: Texts, key: str
) -> gr.Radio | gr.Dropdown | gr.Textbox:
    label = control.title.get(language) if control.title else name
    choices = list(control.choices or ())
    place: dict[str, Any] = {
        "label": label,
        "key": f"{key}-{name}",
        "interactive": True,
        "min_width": 120,
    }
    if not choices:
        return gr.Textbox(control.default, max_length=200, **place)
    if control.free or len(choices) > SHORT_LIST:
        place["label"] = label + words.own_value if control.free else label
        return gr.Dropdown(choices, value=control.default, allow_custom_value=control.free, **place)
    return gr.Radio(choices, value=control.default, **place)
