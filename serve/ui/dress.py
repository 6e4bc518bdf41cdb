"""What the page looks like for one house, one place and one language. Pure: only updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from serve.ui import view
from serve.ui.conversation import retold
from serve.ui.drawer import dress_drawer
from serve.ui.house import GONE, Assistant, Glance
from serve.ui.layout import Layout
from serve.ui.pieces import sending
from serve.ui.place import CHAT, Place
from serve.ui.texts import texts

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the look of the page depends on."""

    glance: Glance
    place: Place
    language: str
    user: str = ""
    drawn: str = ""
    """What the drawer was last drawn for."""
    feedback: bool = False
    leaves: bool = True
    """Whether who has signed in can sign out here; a proxy that signs in has a place of its own."""
    step: int = 0
    """Of all that the browser took, the last."""


@dataclass(frozen=True, slots=True)
class Left:
    """A conversation as it was left: what was said, half written, and set.

    None is for a page that has just been loaded: nothing is there to be replaced, and what a quick
    hand has written by now must not be either.
    """

    chat: list[dict[str, Any]] | None
    message: str | None = ""
    settings: Mapping[str, Any] | None = None


def dress(page: Layout, scene: Scene, *, resumed: Left | None = None) -> Update:
    """Everything that depends on the scene.

    `resumed` puts a conversation (an empty one, to begin with) in the place of what is there;
    without it, conversation, message and settings are left as they are.
    """
    language, words = scene.language, texts(scene.language)
    here = scene.glance.get(scene.place.assistant)
    memory = page.memory
    kept = resumed.settings if resumed else None
    drawn = "" if resumed else scene.drawn
    # Who leaves the house may come back, and the conversation with them is still there.
    whose: Update = {memory.whose: here.id if here else ""} if here or resumed else {}
    return {
        **whose,
        memory.offered: offer(here, language),
        memory.seen: signature(scene.glance),
        page.brand: view.brand(language),
        page.bar: view.bar(scene.place, language, scene.user, leaves=scene.leaves, step=scene.step),
        page.switch: gr.Button(words.other_language),
        page.house: gr.Row(visible=scene.place.view == CHAT),
        page.settings: gr.Button(words.settings),
        page.clear: gr.Button(words.clear),
        page.word: gr.Textbox(label=words.word),
        page.word_send: gr.Button(words.word_send),
        page.keys: view.keys(language),
        **_room(page, scene, here, resumed),
        **dress_drawer(page.drawer, here, language, drawn=drawn, kept=kept),
    }


def _room(page: Layout, scene: Scene, here: Assistant | None, resumed: Left | None) -> Update:
    language, words = scene.language, texts(scene.language)
    examples: list[Any] = [{"text": example} for example in (here.examples if here else ())]
    chat: dict[str, Any] = {}
    if resumed and resumed.chat is not None:
        chat["value"] = retold(resumed.chat, words)
    box: dict[str, Any] = sending(words) if resumed else {}
    if resumed and resumed.message is not None:
        box["value"] = resumed.message
    typed = bool(here and here.controls and here.typed)
    shown: Update = {
        page.cards: view.cards(scene.glance, scene.place.assistant, language),
        page.room: gr.Column(visible=here is not None),
        page.about: view.about(here, language, feedback=scene.feedback),
        page.chat: gr.update(
            label=words.conversation,
            examples=examples,
            placeholder=view.greeting(here, language),
            **chat,
        ),
        page.message: gr.Textbox(
            label=words.message,
            placeholder=words.typed_placeholder if typed else words.placeholder,
            **box,
        ),
        page.surprise: gr.Button(words.surprise, visible=bool(examples)),
    }
    if resumed:
        shown[page.why] = gr.Row(visible=False)
    if not typed:
        shown[page.preview] = ""
    return shown


def offer(assistant: Assistant | None, language: str) -> dict[str, Any] | None:
    """The controls to show; an unchanged value means they are not drawn again."""
    if assistant is None or not assistant.controls:
        return None
    controls = {name: control.model_dump() for name, control in assistant.controls.items()}
    return {
        "assistant": assistant.id,
        "language": language,
        "typed": assistant.typed,
        "there": assistant.state != GONE,  # back again, it is asked again for the prompt
        "controls": controls,
    }


def signature(glance: Glance) -> str:
    """Equal as long as there is nothing new to draw."""
    return repr(glance)
