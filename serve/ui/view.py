"""The page's own HTML: the cards, who an assistant is, and notices in the conversation. Pure."""

from __future__ import annotations

import json
import re
from html import escape, unescape

from serve.ui.house import LOCKED, Assistant, Glance
from serve.ui.labels import labels
from serve.ui.place import CHAT, PAIR, STATUS, Place
from serve.ui.texts import Texts, texts

CURRENT = ' aria-current="page"'

NOTICE = '<p class="hanlin-notice">'
"""How a sentence of the page's own begins in the conversation; it is never sent to an engine."""

LABELS = {"ready": "ready", "starting": "warming", "stopped": "asleep", "draining": "warming"}
"""The look of each state; anything else looks unavailable."""


QUOTE = '<q lang="en">'
"""How the words of gateway or engine begin below it; they speak English only."""


def notice(text: str, done: float | None = None, *, quoted: str = "") -> str:
    """A sentence of the page's own, in the conversation; with a bar where an end is in sight."""
    if done is None:
        quote = f"{QUOTE}{escape(' '.join(quoted.split()))}</q>" if quoted else ""
        return f"{NOTICE}{escape(text)}{quote}</p>"
    share = round(min(max(done, 0), 1), 3)
    return f'{NOTICE}<label>{escape(text)}<progress value="{share}" max="1"></progress></label></p>'


def noticed(html: str) -> tuple[str, str]:
    """What a notice says and what it quotes; nothing of it is markup any more."""
    said, _, quoted = html.partition(QUOTE)
    text, quote = (unescape(re.sub(r"<[^>]*>", "", part)) for part in (said, quoted))
    return text, quote


def brand(language: str) -> str:
    """The name of the house, which leads back to all assistants."""
    words = texts(language)
    return (
        f'<h1><a class="hanlin-brand" href="./" data-place title="{words.all_assistants}">'
        '<span class="hanlin-seal" aria-hidden="true">翰</span>'
        '<span class="hanlin-name">翰林 <small lang="en">Hanlin</small></span></a></h1>'
    )


def bar(place: Place, language: str, user: str = "", *, leaves: bool = True, step: int = 0) -> str:
    """The links between the views, and the way out for who has signed in here.

    `step` tells the browser which of the steps that it took this is.
    """
    words = texts(language)
    ways = (
        (CHAT, words.chat_view, Place(assistant=place.assistant)),
        (PAIR, words.pair_view, Place(PAIR)),
        (STATUS, words.status_view, Place(STATUS)),
    )
    links = "".join(
        f'<a href="{escape(to.address)}" data-place{CURRENT if view == place.view else ""}>'
        f"{label}</a>"
        for view, label, to in ways
    )
    out = (
        f'<a class="hanlin-out" href="logout" title="{escape(user)}">{words.leave}</a>'
        if user and leaves
        else ""
    )
    return (
        f'<nav class="hanlin-bar" data-language="{language}" lang="{tag(language)}" '
        f'data-user="{escape(user)}" data-step="{step}" '
        f'data-send="{words.send}" data-stop="{words.stop}" data-theme="{words.theme}" '
        f'data-answering="{words.answering}" data-examples="{words.examples}" '
        f'data-labels="{escape(json.dumps(labels(words), ensure_ascii=False))}" '
        f'aria-label="{words.views_label}">{links}{out}</nav>'
    )


def called(assistant: Assistant, glance: Glance, language: str) -> str:
    """Its title; with its name where several have that title (one model in two workspaces)."""
    title = assistant.title.get(language)
    alike = [a for a in glance.assistants if a.title.get(language) == title]
    return f"{title} · {assistant.id}" if len(alike) > 1 else title


def cards(glance: Glance, chosen: str, language: str) -> str:
    """All assistants as cards: a page of them at first, a list beside the conversation later."""
    words = texts(language)
    here = glance.get(chosen)
    place = "side" if here else "home"
    head = (
        ""
        if here
        else f'<header class="hanlin-hero"><h2>{words.choose}</h2><p>{words.tagline}</p></header>'
    )
    items = "".join(
        f"<li>{_card(a, called(a, glance, language), a is here, language)}</li>"
        for a in glance.assistants
    )
    return (
        f'<nav class="hanlin-cards {place}" lang="{tag(language)}" '
        f'aria-label="{words.all_assistants}">{head}{trouble(glance, chosen, words)}'
        f"<ul>{items}</ul></nav>"
    )


def about(assistant: Assistant | None, language: str, *, feedback: bool = False) -> str:
    """Who the chosen assistant is, what it remembers, and whether thumbs are kept."""
    if assistant is None:
        return ""
    words = texts(language)
    memory = words.stands_alone if assistant.history == "none" else words.remembers
    kept = f'<span class="hanlin-kept">{words.feedback_on}</span>' if feedback else ""
    typed = " data-typed" if assistant.controls and assistant.typed else ""
    return (
        f'<section class="hanlin-about" lang="{tag(language)}" '
        f'data-assistant="{escape(assistant.id)}"{typed}><div>'
        f"<h2>{escape(assistant.title.get(language))}</h2>{state(assistant.state, words)}</div>"
        f"<p>{escape(assistant.description.get(language))}</p>"
        f'<p class="hanlin-notes"><span class="hanlin-memory">{memory}</span> {kept}</p></section>'
    )


def preview(prompt: str, language: str) -> str:
    """What is really sent, where controls add to what is typed."""
    if not prompt:
        return ""
    said = f"<b>{texts(language).preview}</b>{escape(prompt)}"
    return f'<p class="hanlin-preview" lang="{tag(language)}">{said}</p>'


def greeting(assistant: Assistant | None, language: str) -> str:
    """What an empty conversation shows above the examples."""
    if assistant is None:
        return ""
    words = texts(language)
    said = words.examples if assistant.examples else words.begin
    return f'<p class="hanlin-greeting" lang="{tag(language)}">{said}</p>'


def purpose(assistant: Assistant | None, language: str) -> str:
    """What an empty conversation shows where there is no more room than for that."""
    if assistant is None:
        return ""
    said = escape(assistant.description.get(language))
    return f'<p class="hanlin-greeting" lang="{tag(language)}">{said}</p>'


def keys(language: str) -> str:
    """Which keys do what."""
    return f'<span class="hanlin-keys" lang="{tag(language)}">{texts(language).keys}</span>'


def _card(assistant: Assistant, title: str, here: bool, language: str) -> str:
    address = Place(assistant=assistant.id).address
    return (
        f'<a class="hanlin-card" href="{escape(address)}" data-place '
        f'data-assistant="{escape(assistant.id)}"{CURRENT if here else ""}>'
        f"<strong>{escape(title)}</strong>"
        f"<span>{escape(assistant.description.get(language))}</span>"
        f"{state(assistant.state, texts(language))}</a>"
    )


def state(name: str, words: Texts) -> str:
    """A state as a word and a dot."""
    look = LABELS.get(name, "away")
    label = words.states.get(name, words.states["failed"])
    return f'<em class="hanlin-state {look}">{label}</em>'


def trouble(glance: Glance, chosen: str, words: Texts) -> str:
    """What is wrong with the house or with the name that was asked for, if anything is."""
    if glance.trouble:
        sentence = words.house_locked if glance.trouble == LOCKED else words.house_gone
    elif not glance.assistants:
        sentence = words.house_empty
    elif chosen and not glance.get(chosen):
        sentence = words.unknown.format(name=chosen)
    else:
        return ""
    return f'<p class="hanlin-trouble" role="status">{escape(sentence)}</p>'


def tag(language: str) -> str:
    """The language as HTML names it."""
    return "zh-CN" if language == "zh" else "en"
