"""A stop string ends a text wherever it is cut into chunks; nothing else is held back for long."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from serve.gateway.answers.stop import Scanner, Stops

LETTERS = "ab春"
texts = st.text(LETTERS, max_size=40)
stops = st.lists(st.text(LETTERS, min_size=1, max_size=5), min_size=1, max_size=4)
cuts = st.lists(st.integers(0, 40), max_size=20)


def pieces_of(text: str, at: list[int]) -> list[str]:
    edges = [0, *sorted(min(i, len(text)) for i in at), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def first_complete(text: str, words: list[str]) -> int | None:
    """Said another way: grow the text until it ends with a stop; where does the longest begin?"""
    for end in range(len(text) + 1):
        if found := [word for word in words if text[:end].endswith(word)]:
            return end - max(map(len, found))
    return None


@given(texts, stops, cuts)
@example("abcd", ["abcd", "bc"], [1, 2, 3])
@example("aab", ["ab"], [1])
@example("a" * 39, ["aaaaa"], list(range(40)))
def test_any_text_in_any_chunks_ends_at_the_first_stop(
    text: str, words: list[str], at: list[int]
) -> None:
    scanner = Scanner(Stops(words))
    sent = "".join(map(scanner.feed, pieces_of(text, at)))
    cut = first_complete(text, words)
    assert scanner.met == (cut is not None)
    assert sent + scanner.rest() == text[:cut]


@given(texts, stops, cuts)
def test_no_more_is_held_back_than_may_become_a_stop(
    text: str, words: list[str], at: list[int]
) -> None:
    scanner, read, sent = Scanner(Stops(words)), "", ""
    for piece in pieces_of(text, at):
        read += piece
        sent += scanner.feed(piece)
        if scanner.met:
            return
        held = read[len(sent) :]
        begun = [n for n in range(1, len(read) + 1) for w in words if w.startswith(read[-n:])]
        assert len(held) == max(begun, default=0)
        assert (scanner.read, scanner.passed) == (len(read), len(sent))


@given(texts, stops, cuts)
def test_no_character_of_a_stop_is_sent(text: str, words: list[str], at: list[int]) -> None:
    scanner = Scanner(Stops(words))
    sent = "".join(map(scanner.feed, pieces_of(text, at))) + scanner.rest()
    assert not any(word in sent for word in words)


def test_a_stop_of_any_length() -> None:
    long = "长" * 5000
    scanner = Scanner(Stops([long + "!"]))
    assert scanner.feed("x" + long) == "x"
    assert scanner.feed("长") == "长"
    assert scanner.feed("!y") == ""
    assert scanner.met


def test_after_a_stop_nothing_comes() -> None:
    scanner = Scanner(Stops(["]", "\\"]))
    assert [scanner.feed(t) for t in ("a", "b]c", "d")] == ["a", "b", ""]
    assert scanner.rest() == ""
