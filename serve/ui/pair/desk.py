"""Side by side: where everything stands, and what it shows. No act happens here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from serve.ui.conversation import retold
from serve.ui.drawer import Sliders, filled_sliders, lay_sliders, named_sliders
from serve.ui.figures import NOTHING_YET, Figures
from serve.ui.house import Assistant, Glance
from serve.ui.pieces import chatbot, message_box, sending
from serve.ui.place import PAIR, Place
from serve.ui.tab import Tab, shown_again
from serve.ui.texts import Texts, texts
from serve.ui.view import called, purpose, tag, trouble

Update = dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: who answers, how fast, and what."""

    pick: gr.Dropdown
    figures: gr.HTML
    chat: gr.Chatbot


@dataclass(frozen=True, slots=True)
class Desk:
    """Both sides, and the one message that goes to both."""

    column: gr.Column
    head: gr.HTML
    left: Side
    right: Side
    message: gr.Textbox
    surprise: gr.Button
    clear: gr.Button
    same: gr.Checkbox
    sampling: gr.Row
    sliders: Sliders

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.left, self.right

    @property
    def inputs(self) -> list[gr.blocks.Block]:
        parts = [part for side in self.sides for part in (side.pick, side.chat)]
        return [*parts, self.message, self.same, *self.sliders.all]

    @property
    def dressed(self) -> list[gr.blocks.Block]:
        parts = [part for side in self.sides for part in (side.pick, side.figures, side.chat)]
        buttons = [self.surprise, self.clear, self.same, *self.sliders.all]
        return [self.column, self.head, *parts, self.message, *buttons]


def lay_desk() -> Desk:
    with gr.Column(elem_id="pair", visible=False) as column:
        head = gr.HTML("", elem_id="pair-head")
        with gr.Row(elem_id="sides", equal_height=True):
            left, right = _side("left"), _side("right")
        with gr.Row(elem_id="pair-sampling", visible=False) as sampling:
            sliders = lay_sliders()
        message = message_box("pair-message")
        with gr.Row(elem_id="pair-below", elem_classes="hanlin-below"):
            clear = gr.Button(size="sm", scale=0, min_width=64)
            surprise = gr.Button(size="sm", elem_id="pair-surprise", scale=0, min_width=64)
            same = gr.Checkbox(False, label=" ", container=False, elem_id="same", min_width=96)
    return Desk(column, head, left, right, message, surprise, clear, same, sampling, sliders)


def _side(name: str) -> Side:
    with gr.Column(elem_id=f"side-{name}", elem_classes="hanlin-side", min_width=120):
        pick = gr.Dropdown([], interactive=True, container=False, elem_id=f"pick-{name}")
        figures = gr.HTML("")
        chat = chatbot(f"chat-{name}")
    return Side(pick, figures, chat)


def dress_desk(
    desk: Desk, glance: Glance, language: str, *, shown: bool, picked: tuple[str, str]
) -> Update:
    """Everything that depends on house and language; conversations stay as they are."""
    words = texts(language)
    pair = choice(glance, *picked)
    choices = [(called(a, glance, language), a.id) for a in glance.assistants]
    # Gradio takes only what is among the choices, also from who had picked it before it was gone.
    choices += [(name, name) for name in missing(glance, pair)]
    update: Update = {
        desk.column: gr.Column(visible=shown),
        desk.head: head(glance, pair, language),
        desk.message: gr.Textbox(label=words.message, placeholder=words.placeholder),
        desk.surprise: gr.Button(words.surprise),
        desk.clear: gr.Button(words.clear),
        desk.same: gr.Checkbox(label=words.same),
        **named_sliders(desk.sliders, words),
    }
    for side, name, label in zip(desk.sides, pair, (words.left, words.right), strict=True):
        update[side.pick] = gr.Dropdown(choices, value=name or None, label=label)
    return update | chats(desk, glance, pair, language)


def chats(desk: Desk, glance: Glance, pair: tuple[str, str], language: str) -> Update:
    """Both conversations with their names, and what either assistant is for while it is empty."""
    words = texts(language)
    return {
        side.chat: gr.update(label=label, placeholder=purpose(glance.get(name), language))
        for side, name, label in zip(desk.sides, pair, (words.left, words.right), strict=True)
    }


def picks(place: Place, tab: Tab) -> tuple[str, str]:
    """Whom to compare when the page is loaded: as the address says, or else as the tab kept it."""
    if place.left or place.right or tab.pair is None:
        return place.left, place.right
    left, right = tab.pair.pair
    return left, right


def reopened(desk: Desk, place: Place, tab: Tab, glance: Glance, language: str) -> Update:
    """What a page that has just been loaded shows of the two conversations."""
    words = texts(language)
    update: Update = {}
    for side in desk.sides:
        update[side.figures] = figures(None, language)
    two, pair = choice(glance, *picks(place, tab)), tab.pair
    if pair is not None and tuple(pair.pair) == two:
        update |= chats(desk, glance, two, language)
        for side, turns in zip(desk.sides, pair.chats, strict=True):
            chat = retold(shown_again(turns, words.stopped), words)
            update[side.chat]["value"] = chat
    else:
        pair = None
    message = pair.message if pair else ""
    if place.view == PAIR and place.prompt and (tab.fresh or pair is None):
        message = place.prompt
    update[desk.message] = gr.Textbox(
        message, label=words.message, placeholder=words.placeholder, submit_btn=words.send
    )
    return update


def choice(glance: Glance, left: str, right: str) -> tuple[str, str]:
    """The two that are compared: as picked, or else two of one title, or else the first two.

    Who was picked and is not there stays picked: they may come back, and what was said was said by
    them.
    """
    known = [a.id for a in glance.assistants]
    if not known:
        return left, right
    first = _name(glance, left) or known[0]
    return first, _name(glance, right) or _partner(glance, first)


def missing(glance: Glance, pair: tuple[str, str]) -> list[str]:
    """Those of the two who are not in the house."""
    return [name for name in dict.fromkeys(pair) if name and glance.get(name) is None]


def _name(glance: Glance, name: str) -> str:
    found = glance.get(name)
    return found.id if found else name


def _partner(glance: Glance, name: str) -> str:
    """The one of the same title: the same model, served from another workspace."""
    here = glance.get(name)
    others = [a for a in glance.assistants if a.id != name]
    alike = [a for a in others if here and a.title == here.title]
    return next((a.id for a in (*alike, *others)), name)


def same_sliders(desk: Desk, both: tuple[Assistant, Assistant], language: str) -> Update:
    """The sliders, with the left one's values and an end that both allow."""
    left, right = both
    most = min(left.most_tokens, right.most_tokens)
    values = (
        left.sampling.temperature,
        left.sampling.top_p,
        min(left.usual_tokens, most),
    )
    return filled_sliders(desk.sliders, texts(language), values, most)


def examples(both: tuple[Assistant | None, Assistant | None]) -> list[str]:
    """What either offers, each once."""
    return list(dict.fromkeys(e for one in both if one for e in one.examples))


def figures(known: Figures | None, language: str) -> str:
    """How fast and how long, as a row of three."""
    words = texts(language)
    known = known or NOTHING_YET
    about = "≈" if known.estimated else ""
    first = "–" if known.first is None else f"{known.first:.2f} s"
    speed = known.per_second
    pace = "–" if speed is None else f"{about}{speed:.1f} {words.per_second}"
    counted = "–"
    if known.tokens_out is not None:
        counted = about + words.in_out.format(
            tokens_in=known.tokens_in, tokens_out=known.tokens_out
        )
    rows: Mapping[str, str] = {
        words.first_token: first,
        words.speed: pace,
        words.tokens: counted,
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items())
    return f'<dl class="hanlin-figures" lang="{tag(language)}">{cells}</dl>'


def emptied(desk: Desk, words: Texts, language: str) -> Update:
    """Both conversations anew."""
    shown: Update = {desk.message: gr.Textbox(**sending(words))}
    for side in desk.sides:
        shown |= {side.chat: [], side.figures: figures(None, language)}
    return shown


def head(glance: Glance, pair: tuple[str, str], language: str) -> str:
    """What the view is for, and what is wrong with the house or with who was picked."""
    words = texts(language)
    wrong = trouble(glance, next(iter(missing(glance, pair)), ""), words)
    left, right = map(escape, pair)
    return (
        f'<section class="hanlin-about" lang="{tag(language)}" data-left="{left}" '
        f'data-right="{right}"><h2>{words.pair_title}</h2>'
        f"<p>{words.pair_about}</p>{wrong}</section>"
    )
