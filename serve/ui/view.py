"""The page's own HTML: the cards, who an assistant is, and notices in the conversation. Pure."""

from __future__ import annotations

from html import escape

from serve.ui.house import Assistant, Glance
from serve.ui.texts import Texts, texts

NOTICE = '<p class="hanlin-notice">'
"""How a sentence of the page's own begins in the conversation; it is never sent to an engine."""

LABELS = {"ready": "ready", "starting": "warming", "stopped": "asleep", "draining": "warming"}
"""The look of each state; anything else looks unavailable."""


def notice(text: str) -> str:
    """A sentence of the page's own, in the conversation."""
    return f"{NOTICE}{escape(text)}</p>"


def brand(language: str) -> str:
    """The name of the house, which leads back to all assistants."""
    words = texts(language)
    return (
        f'<a class="hanlin-brand" href="./" data-assistant="" title="{words.all_assistants}">'
        '<span class="hanlin-seal" aria-hidden="true">翰</span>'
        f'<span class="hanlin-name">翰林<small lang="en">Hanlin</small></span></a>'
    )


def cards(glance: Glance, chosen: str, language: str) -> str:
    """All assistants as cards: a page of them at first, a list beside the conversation later."""
    words = texts(language)
    here = glance.get(chosen)
    place = "side" if here else "home"
    head = (
        ""
        if here
        else f'<header class="hanlin-hero"><h1>{words.choose}</h1><p>{words.tagline}</p></header>'
    )
    items = "".join(f"<li>{_card(a, a is here, words, language)}</li>" for a in glance.assistants)
    return (
        f'<nav class="hanlin-cards {place}" data-language="{language}" lang="{_tag(language)}" '
        f'data-send="{words.send}" data-stop="{words.stop}" data-theme="{words.theme}" '
        f'aria-label="{words.all_assistants}">{head}{_trouble(glance, chosen, words)}'
        f"<ul>{items}</ul></nav>"
    )


def about(assistant: Assistant | None, language: str) -> str:
    """Who the chosen assistant is, what it is told, and what it remembers."""
    if assistant is None:
        return ""
    words = texts(language)
    memory = words.stands_alone if assistant.history == "none" else words.remembers
    system = (
        f"<details><summary>{words.system}</summary>"
        f'<p class="hanlin-system">{escape(assistant.system)}</p></details>'
        if assistant.system
        else ""
    )
    return (
        f'<section class="hanlin-about" lang="{_tag(language)}"><div>'
        f"<h2>{escape(assistant.title.get(language))}</h2>{_state(assistant.state, words)}</div>"
        f"<p>{escape(assistant.description.get(language))} "
        f'<span class="hanlin-memory">{memory}</span></p>{system}</section>'
    )


def greeting(assistant: Assistant | None, language: str) -> str:
    """What an empty conversation shows above the examples."""
    if assistant is None or not assistant.examples:
        return ""
    return f'<p class="hanlin-greeting" lang="{_tag(language)}">{texts(language).examples}</p>'


def keys(language: str) -> str:
    """Which keys do what."""
    return f'<span class="hanlin-keys" lang="{_tag(language)}">{texts(language).keys}</span>'


def _card(assistant: Assistant, here: bool, words: Texts, language: str) -> str:
    current = ' aria-current="page"' if here else ""
    return (
        f'<a class="hanlin-card" href="?assistant={escape(assistant.id)}" '
        f'data-assistant="{escape(assistant.id)}"{current}>'
        f"<strong>{escape(assistant.title.get(language))}</strong>"
        f"<span>{escape(assistant.description.get(language))}</span>"
        f"{_state(assistant.state, words)}</a>"
    )


def _state(state: str, words: Texts) -> str:
    look = LABELS.get(state, "away")
    label = words.states.get(state, words.states["failed"])
    return f'<em class="hanlin-state {look}">{label}</em>'


def _trouble(glance: Glance, chosen: str, words: Texts) -> str:
    if not glance.reachable:
        sentence = words.house_gone
    elif not glance.assistants:
        sentence = words.house_empty
    elif chosen and not glance.get(chosen):
        sentence = words.unknown.format(name=chosen)
    else:
        return ""
    return f'<p class="hanlin-trouble" role="status">{escape(sentence)}</p>'


def _tag(language: str) -> str:
    return "zh-CN" if language == "zh" else "en"
