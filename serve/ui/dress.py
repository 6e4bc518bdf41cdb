"""What the page looks like for one house, one assistant and one language. Pure: only updates."""

from __future__ import annotations

from typing import Any

import gradio as gr

from serve.ui import view
from serve.ui.house import Assistant, Glance
from serve.ui.layout import Layout
from serve.ui.texts import Texts, texts

Update = dict[Any, Any]


def dress(
    page: Layout, glance: Glance, chosen: str, language: str, *, opening: str | None = None
) -> Update:
    """Everything that depends on the three.

    `opening` begins a new conversation with those words in the message box; without it,
    conversation and message are left as they are.
    """
    words = texts(language)
    chat: dict[str, Any] = {} if opening is None else {"value": []}
    box = {} if opening is None else {"value": opening, **sending(words)}
    here = glance.get(chosen)
    examples: list[Any] = [{"text": example} for example in (here.examples if here else ())]
    return {
        page.chosen: here.id if here else chosen,
        page.offered: offer(here, language),
        page.seen: signature(glance),
        page.brand: view.brand(language),
        page.switch: gr.Button(words.other_language),
        page.cards: view.cards(glance, chosen, language),
        page.room: gr.Column(visible=here is not None),
        page.about: view.about(here, language),
        page.chat: gr.Chatbot(
            label=words.conversation,
            examples=examples,
            placeholder=view.greeting(here, language),
            **chat,
        ),
        page.message: gr.Textbox(
            label=words.message,
            placeholder=words.placeholder,
            **box,
        ),
        page.surprise: gr.Button(words.surprise, visible=bool(examples)),
        page.clear: gr.Button(words.clear),
        page.keys: view.keys(language),
    }


def offer(assistant: Assistant | None, language: str) -> dict[str, Any] | None:
    """The controls to show; an unchanged value means they are not drawn again."""
    if assistant is None or not assistant.controls:
        return None
    controls = {name: control.model_dump() for name, control in assistant.controls.items()}
    return {"assistant": assistant.id, "language": language, "controls": controls}


def signature(glance: Glance) -> str:
    """Equal as long as there is nothing new to draw."""
    return repr(glance)


def sending(words: Texts) -> dict[str, Any]:
    """The message box while nothing is being answered."""
    return {"submit_btn": words.send, "stop_btn": False}


def stopping(words: Texts) -> dict[str, Any]:
    """The message box, emptied, while an answer is on its way."""
    return {"value": "", "submit_btn": False, "stop_btn": words.stop}
