"""Where a SentencePiece tokenizer puts a space that nobody wrote, and how llama.cpp does too.

llama.cpp knows two habits: no such space, or one before every stretch of text between two special
tokens. Tokenizers have more. One may leave the space out where the text begins with one; another
puts it only at the very beginning; pieces that users have defined end a stretch for llama.cpp, but
not for SentencePiece. For those llama.cpp is told to put no space, and the chat template writes
them: a prompt made of messages becomes the same ids. A bare text has to bring its own first space.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from convert.chat_template import TemplateError, render
from convert.errors import UnsupportedError
from convert.relayout.sentencepiece import SPACE, Pieces

Habit = Literal["never", "every", "missing", "first"]
"""Before which stretches of text a space is put: none, every, those that do not begin with one,
or of those only the one at the very beginning."""

_DEFINED = 4  # how SentencePiece counts kinds of pieces
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREFIX = {"type": "Prepend", "prepend": SPACE}
_STEPS: tuple[tuple[Habit, list[dict[str, Any]]], ...] = (
    ("never", [_SPACES]),
    ("every", [_PREFIX, _SPACES]),
    ("every", [_SPACES, _PREFIX]),
)
_SCHEMES: Mapping[str, Habit] = {"never": "never", "always": "missing", "first": "first"}
_QUESTION = {"role": "user", "content": "?"}
_ANSWER = {"role": "assistant", "content": "!"}
_DIALOGUES = (
    (_QUESTION,),
    (_QUESTION, _ANSWER, _QUESTION),
    ({"role": "system", "content": "."}, _QUESTION),
)


@dataclass(frozen=True, slots=True)
class Spacing:
    """What a tokenizer does to text before it looks for pieces."""

    habit: Habit
    defined: tuple[str, ...] = ()
    """Pieces that users have defined: cut out of the text before any other is looked for."""

    @property
    def native(self) -> bool:
        """Whether llama.cpp can do the same."""
        return self.habit == "never" or (self.habit == "every" and not self.defined)


def spacing_of(path: Path, found: Mapping[str, Any]) -> Spacing:
    """What a `tokenizer.json` of SentencePiece's kind says.

    Raises:
        UnsupportedError: it changes or cuts text in some other way too.
    """
    normalizer, cut = found.get("normalizer") or {}, found.get("pre_tokenizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    habit = next((name for name, known in _STEPS if steps == known), None)
    if habit and not cut:
        return Spacing(habit)
    if habit and cut.get("type") == "Split":
        return Spacing(habit, _defined(path, cut, found))
    if cut.get("type") == "Metaspace" and cut.get("replacement") == SPACE and not steps:
        _refuse_crossing(path, cut, found)
        older = "always" if cut.get("add_prefix_space", True) else "never"
        return Spacing(_SCHEMES[cut.get("prepend_scheme", older)])
    shown = " and ".join(
        f"{what} {', '.join(step.get('type', '?') for step in parts)}"
        for what, parts in (
            ("a normalizer", steps),
            ("a pre_tokenizer", cut.get("pretokenizers", [cut] if cut else [])),
        )
        if parts
    )
    raise UnsupportedError(
        f"{path}: a SentencePiece tokenizer with {shown or 'nothing that writes spaces as ▁'}; "
        "known are Replace of space by ▁, with or without a Prepend of ▁, and Metaspace."
    )


def spacing_in(found: Pieces, config: Mapping[str, Any]) -> Spacing:
    """What a `tokenizer.model` does, under what `tokenizer_config.json` says of it.

    Raises:
        UnsupportedError: llama.cpp cannot cut its pieces out of text.
    """
    defined = tuple(piece.text for piece in found.pieces if piece.kind == _DEFINED)
    _refuse_uncut(found.path, defined, found.ids)
    if not found.prefix or config.get("add_prefix_space") is False:
        return Spacing("never", defined)
    return Spacing("first" if config.get("legacy") is False else "every", defined)


def _defined(path: Path, cut: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, ...]:
    """The literal texts of a Split, as a re-laid tokenizer has them."""
    pattern = str((cut.get("pattern") or {}).get("Regex", ""))
    parts = re.split(r"(?<!\\)\|", pattern)
    texts = tuple(re.sub(r"\\(.)", r"\1", part) for part in parts)
    plain = cut.get("behavior") == "Isolated" and not cut.get("invert")
    if not plain or [re.escape(text) for text in texts] != parts:
        raise UnsupportedError(f"{path}: it cuts text at /{pattern}/, which llama.cpp does not.")
    _refuse_uncut(path, texts, found["model"]["vocab"])
    return texts


def _refuse_uncut(path: Path, texts: Sequence[str], vocab: Mapping[str, int]) -> None:
    for text in texts:
        if text not in vocab or SPACE in text or " " in text:
            raise UnsupportedError(f"{path}: llama.cpp cannot cut {text!r} out of text.")
    for one, other in itertools.permutations(texts, 2):
        if any(one[-n:] == other[:n] for n in range(1, min(len(one), len(other)))):
            raise UnsupportedError(
                f"{path}: its pieces {one!r} and {other!r} may overlap, where llama.cpp would cut "
                "out the longer and this tokenizer the first."
            )


def _refuse_crossing(path: Path, cut: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """llama.cpp joins pieces over the spaces that this tokenizer would cut at."""
    if not cut.get("split", True):
        return
    added = {token["content"] for token in found.get("added_tokens") or []}
    for token in found["model"]["vocab"]:
        if SPACE in token[1:] and token not in added:
            raise UnsupportedError(
                f"{path}: it cuts text at every space (Metaspace), so its piece {token!r} is never "
                "used; llama.cpp would use it."
            )


def spaced(text: str, habit: Habit, special: Sequence[str]) -> str:
    """The text with all spaces written out that a tokenizer of this habit puts into it."""
    marks = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
    parts = re.split(f"({marks})", text) if marks else [text]
    out, begun = "", False
    for place, part in enumerate(parts):
        is_text = place % 2 == 0
        wants = habit == "every" or (habit != "never" and not part.startswith((" ", SPACE)))
        if is_text and part and wants and not (habit == "first" and begun):
            out += " "
        out += part
        begun = begun or bool(part)
    return out


def written_out(
    path: Path,
    spacing: Spacing,
    template: str | None,
    roles: Mapping[str, str],
    special: Sequence[str],
) -> str:
    """The chat template with those spaces in it, given the special tokens and their roles.

    Raises:
        UnsupportedError: there is no template, or none of the ways to put them in is right.
    """
    if template is None:
        raise UnsupportedError(
            f"{path}: {_why(spacing)}, which llama.cpp cannot do; a chat template could, but this "
            "model has none."
        )
    named = {f"{role}_token": text for role, text in roles.items()}
    try:
        wanted = [spaced(_shown(template, d, named), spacing.habit, special) for d in _DIALOGUES]
        for before in ("", "{{ ' ' }}"):
            for some in ((), ("bos",), ("bos", "eos")):
                widened = [role for role in some if role in roles]
                after = "".join(f"{{% set {r}_token = {r}_token + ' ' %}}" for r in widened)
                changed = before + after + template
                if [_shown(changed, d, named) for d in _DIALOGUES] == wanted:
                    return changed
    except TemplateError as error:
        raise UnsupportedError(f"{path}: the chat template {error}.") from error
    raise UnsupportedError(
        f"{path}: {_why(spacing)}, which llama.cpp cannot do, and the chat template could not be "
        "changed to do it instead."
    )


def _shown(template: str, turns: Sequence[Mapping[str, str]], named: Mapping[str, str]) -> str:
    if turns[0]["role"] == "system":  # not every model has a place for one
        try:
            return render(template, turns, named, opens=True)
        except TemplateError:
            turns = turns[1:]
    return render(template, turns, named, opens=True)


def _why(spacing: Spacing) -> str:
    if spacing.defined:
        return f"it puts no space after {spacing.defined[0]!r} but one before the text around it"
    where = "before a text" if spacing.habit == "first" else "before every stretch of text"
    return f"it puts a space {where} only where there is none"
