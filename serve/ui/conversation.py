"""The two shapes of a conversation: what the chat shows and what an assistant is sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serve.ui import view
from serve.ui.texts import Texts, again

Chat = list[dict[str, Any]]

MOST_CHARACTERS = 20_000
"""So much can be written at once."""

PENDING = "pending"
"""Gradio's word for a turn that is not yet whole; it travels with the turn, wherever it is kept."""


def plain(turn: Any) -> str:
    """The text of a turn, whether Gradio holds it as text or in typed pieces."""
    content = turn["content"] if isinstance(turn, dict) and "content" in turn else turn
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, list) else [content]
    return "".join(p if isinstance(p, str) else str(p.get("text") or "") for p in pieces)


def spoken(chat: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """What was really said: without the page's own notices, without empty answers."""
    turns = [{"role": str(turn["role"]), "content": plain(turn)} for turn in chat]
    return [t for t in turns if t["content"].strip() and not t["content"].startswith(view.NOTICE)]


def answered(text: str, notice: str, quoted: str = "") -> Chat:
    """An answer as it is shown: its text, then what the page has to say beside it."""
    shown = [text] if text or not notice else []
    if notice:
        shown.append(view.notice(notice, quoted=quoted))
    return [{"role": "assistant", "content": content} for content in shown]


def growing(text: str, notice: str, done: float | None = None) -> Chat:
    """The same while more of it is to come; whoever finds it later sees that it was not whole."""
    shown = answered(text, "") if text or not notice else []
    if notice:
        shown.append({"role": "assistant", "content": view.notice(notice, done)})
    return [*shown[:-1], {**shown[-1], "metadata": {"status": PENDING}}]


def unfinished(chat: Chat) -> bool:
    """Whether its last answer was still growing."""
    return bool(chat) and (chat[-1].get("metadata") or {}).get("status") == PENDING


def stopped(chat: Chat, notice: str) -> Chat:
    """A conversation whose last answer was stopped: what came of it stays, and is marked."""
    if not chat or chat[-1]["role"] != "assistant":
        return [*chat, *answered("", notice)]
    said = plain(chat[-1])
    return [*chat[:-1], *answered("" if said.startswith(view.NOTICE) else said, notice)]


def retold(chat: Chat, words: Texts) -> Chat:
    """The same with the page's own sentences in one language; an answer that grows is left be."""
    return chat if unfinished(chat) else [_retold(turn, words) for turn in chat]


def _retold(turn: dict[str, Any], words: Texts) -> dict[str, Any]:
    if turn["role"] != "assistant" or not plain(turn).startswith(view.NOTICE):
        return turn
    said, quoted = view.noticed(plain(turn))
    return {**turn, "content": view.notice(again(said, words), quoted=quoted)}


def judged(chat: Chat, index: int) -> tuple[Chat, str] | None:
    """The conversation up to an answer, and that answer; None where the page itself spoke."""
    start = index
    while start > 0 and chat[start - 1]["role"] == "assistant":
        start -= 1
    said = [plain(turn) for turn in chat[start : index + 1]]
    text = next((one for one in said if one.strip() and not one.startswith(view.NOTICE)), "")
    return (chat[:start], text) if start > 0 and text else None


def place(index: int | tuple[int, int] | list[int]) -> int:
    """Which turn an event of Gradio's is about."""
    return index if isinstance(index, int) else index[0]
