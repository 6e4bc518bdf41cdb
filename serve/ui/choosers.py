"""An assistant's own controls as components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from serve.ui.house import Control
from serve.ui.texts import Texts, texts

SHORT_LIST = 6
"""Up to so many choices are all shown at once; more go into a list to search in."""

Chooser = gr.Radio | gr.Dropdown | gr.Textbox


def choosers(
    controls: Mapping[str, Control], picked: Mapping[str, str], language: str
) -> list[Chooser]:
    """One component for each control, in a row that wraps on a narrow screen."""
    words = texts(language)
    with gr.Row(elem_classes="hanlin-controls"):
        return [
            _chooser(name, control, picked.get(name, control.default), language, words)
            for name, control in controls.items()
        ]


def _chooser(name: str, control: Control, value: str, language: str, words: Texts) -> Chooser:
    label = control.title.get(language) if control.title else name
    choices = list(control.choices or ())
    place: dict[str, Any] = {"label": label, "interactive": True, "min_width": 120}
    if not choices:
        return gr.Textbox(value, max_length=200, **place)
    if control.free or len(choices) > SHORT_LIST:
        place["label"] = label + words.own_value if control.free else label
        return gr.Dropdown(choices, value=value, allow_custom_value=control.free, **place)
    return gr.Radio(choices, value=value, **place)
