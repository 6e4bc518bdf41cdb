"""Components that stand in more than one place on the page."""

from __future__ import annotations

from typing import Any

import gradio as gr

from serve.ui.conversation import MOST_CHARACTERS
from serve.ui.texts import Texts


def chatbot(elem_id: str, *, thumbs: bool = False, editable: bool = False) -> gr.Chatbot:
    """A conversation."""
    return gr.Chatbot(
        elem_id=elem_id,
        elem_classes="hanlin-chat",
        height="100%",
        container=False,
        buttons=["copy"],
        editable="user" if editable else None,
        feedback_options=("Like", "Dislike") if thumbs else None,
        latex_delimiters=[],
        allow_tags=False,
        layout="bubble",
    )


def message_box(elem_id: str) -> gr.Textbox:
    """Where a person writes."""
    return gr.Textbox(
        elem_id=elem_id,
        elem_classes="hanlin-message",
        show_label=False,
        lines=1,
        max_lines=8,
        max_length=MOST_CHARACTERS,
        autofocus=True,
    )


def sending(words: Texts) -> dict[str, Any]:
    """The message box while nothing is being answered."""
    return {"submit_btn": words.send, "stop_btn": False}


def stopping(words: Texts) -> dict[str, Any]:
    """The message box, emptied, while an answer is on its way."""
    return {"value": "", "submit_btn": False, "stop_btn": words.stop}
