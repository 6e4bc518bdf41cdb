"""The drawer of settings: sampling within the assistant's limits, and its system prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from serve.ui.house import Assistant
from serve.ui.question import Wish, wish
from serve.ui.texts import Texts, texts

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Sliders:
    """What every engine samples by."""

    temperature: gr.Slider
    top_p: gr.Slider
    max_tokens: gr.Slider

    @property
    def all(self) -> tuple[gr.Slider, gr.Slider, gr.Slider]:
        return self.temperature, self.top_p, self.max_tokens

    def read(self, told: Mapping[Any, Any]) -> tuple[float, float, float]:
        """The values, out of what the page told."""
        temperature, top_p, max_tokens = (told[slider] for slider in self.all)
        return temperature, top_p, max_tokens


@dataclass(frozen=True, slots=True)
class Drawer:
    """The components, and what they were last drawn for."""

    head: gr.HTML
    sliders: Sliders
    note: gr.HTML
    system: gr.Textbox
    reset: gr.Button
    drawn: gr.State

    @property
    def inputs(self) -> list[gr.blocks.Block]:
        return [*self.sliders.all, self.system, self.drawn]

    @property
    def dressed(self) -> list[gr.blocks.Block]:
        return [self.head, *self.sliders.all, self.note, self.system, self.reset, self.drawn]

    def wish(self, assistant: Assistant, told: Mapping[Any, Any]) -> Wish:
        """What is set, out of what the page told; nothing if it was drawn for another."""
        if told[self.drawn] != declared(assistant):
            return Wish()
        return wish(assistant, *self.sliders.read(told), told[self.system] or "")

    def kept(self, told: Mapping[Any, Any]) -> dict[str, Any]:
        """All that is set, to be set again later."""
        return {"sliders": self.sliders.read(told), "system": told[self.system]}


def lay_drawer() -> Drawer:
    with gr.Column(elem_id="drawer"):
        head = gr.HTML("", elem_id="drawer-head")
        sliders = lay_sliders()
        note = gr.HTML("", elem_id="system-note")
        system = gr.Textbox(elem_id="system", lines=3, max_lines=8, max_length=8_000)
        reset = gr.Button(size="sm", elem_id="reset")
    return Drawer(head, sliders, note, system, reset, gr.State(""))


def lay_sliders() -> Sliders:
    return Sliders(
        temperature=gr.Slider(0, 2, value=1, step=0.05, buttons=[]),
        top_p=gr.Slider(0.05, 1, value=1, step=0.05, buttons=[]),
        max_tokens=gr.Slider(1, 4096, value=256, step=1, buttons=[]),
    )


def declared(assistant: Assistant | None) -> str:
    """Equal as long as the drawer has nothing new to offer."""
    if assistant is None:
        return ""
    a = assistant
    return repr((a.id, a.sampling, a.limits, a.system, a.client_system))


def dress_drawer(
    drawer: Drawer,
    assistant: Assistant | None,
    language: str,
    *,
    drawn: str,
    kept: Mapping[str, Any] | None = None,
) -> Update:
    """Its words; and its values where it was drawn for another assistant, or for none."""
    words = texts(language)
    shown: Update = {
        drawer.head: _head(words),
        drawer.reset: gr.Button(words.reset),
        **named_sliders(drawer.sliders, words),
    }
    if assistant is None:
        return shown
    new = drawn != declared(assistant)
    system = _system(assistant, words)
    if new:
        values = kept or usual(assistant)
        system["value"] = values["system"]
        shown |= filled_sliders(drawer.sliders, words, values["sliders"], assistant.most_tokens)
    return shown | {
        drawer.note: _note(assistant, words),
        drawer.system: gr.Textbox(**system),
        drawer.drawn: declared(assistant),
    }


def usual(assistant: Assistant) -> dict[str, Any]:
    """What the assistant itself would do."""
    sampling = assistant.sampling
    own = (assistant.system or "") if assistant.client_system != "append" else ""
    return {
        "sliders": (sampling.temperature, sampling.top_p, assistant.usual_tokens),
        "system": own,
    }


def named_sliders(sliders: Sliders, words: Texts) -> Update:
    return {
        sliders.temperature: gr.Slider(label=words.temperature, info=words.temperature_info),
        sliders.top_p: gr.Slider(label=words.top_p, info=words.top_p_info),
        sliders.max_tokens: gr.Slider(label=words.max_tokens),
    }


def filled_sliders(
    sliders: Sliders, words: Texts, values: tuple[float, float, float], most: int
) -> Update:
    """The sliders with values of one assistant, and the end of its last one."""
    temperature, top_p, max_tokens = values
    return {
        sliders.temperature: gr.Slider(
            value=temperature, label=words.temperature, info=words.temperature_info
        ),
        sliders.top_p: gr.Slider(value=top_p, label=words.top_p, info=words.top_p_info),
        sliders.max_tokens: gr.Slider(
            value=max_tokens,
            maximum=most,
            label=words.max_tokens,
            info=words.max_tokens_info.format(most=most),
        ),
    }


def _head(words: Texts) -> str:
    return (
        f'<div class="hanlin-drawer-head"><h2>{words.settings}</h2>'
        f'<button type="button" class="hanlin-close" aria-label="{words.close}">×</button></div>'
    )


def _note(assistant: Assistant, words: Texts) -> str:
    """What becomes of the system prompt; where a person only adds to it, also the prompt."""
    told = {
        "replace": words.system_replace if assistant.system else words.system_none,
        "append": words.system_append if assistant.system else words.system_none,
        "refuse": words.system_refuse if assistant.system else words.system_none,
    }[assistant.client_system]
    own = assistant.system if assistant.client_system == "append" else None
    shown = f'<p class="hanlin-system">{escape(own)}</p>' if own else ""
    return f'<div class="hanlin-note"><h3>{words.system}</h3>{shown}<p>{told}</p></div>'


def _system(assistant: Assistant, words: Texts) -> dict[str, Any]:
    adds = assistant.client_system == "append"
    return {
        "label": words.system_more if adds else words.system,
        "show_label": False,
        "interactive": assistant.client_system != "refuse",
        "visible": bool(assistant.system) or assistant.client_system != "refuse",
    }
