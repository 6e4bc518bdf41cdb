"""Rules about words: token ids, the chat template, and the code a tokenizer may bring along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from convert.chat_template import TemplateError, ending, render
from convert.verify.report import REBUILD, Finding, UnreadError
from convert.verify.view import CONFIG, GENERATION, TEMPLATE, TOKENIZER, TOKENIZER_CONFIG, View

_SENTENCEPIECE = "tokenizer.model"
_SET_EOS = "List every stop token's id in eos_token_id of the base's generation_config.json."
_MARKS = ("eos_token_id", "bos_token_id", "pad_token_id")
_CONVERSATIONS = (
    ("a user's turn", ["user"]),
    ("a user's and an assistant's turn", ["user", "assistant"]),
    ("a system message and a user's turn", ["system", "user"]),
)


def template_of(view: View) -> str:
    """The template a tokenizer would use: the file before the one inside its config.

    Raises:
        TemplateError: there is none.
    """
    if TEMPLATE in view.files:
        try:
            text = (view.folder / TEMPLATE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnreadError(TEMPLATE, f"cannot be read: {error}.", REBUILD) from error
        if text.strip():
            return text
    found = view.tokenizer_config.get("chat_template")
    if isinstance(found, list):
        named = {entry.get("name"): entry.get("template") for entry in found}
        found = named.get("default")
    if not found:
        raise TemplateError("is missing, so answers would be made from bare text without roles")
    return str(found)


def ids(view: View) -> Mapping[str, int]:
    """Every token of tokenizer.json and its id, added ones included."""
    vocabulary = (view.tokenizer.get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # a unigram model: pairs of token and score
        vocabulary = {pair[0]: i for i, pair in enumerate(vocabulary)}
    return {**vocabulary, **{token["content"]: token["id"] for token in _added(view)}}


def _added(view: View) -> list[dict[str, Any]]:
    return list(view.tokenizer.get("added_tokens") or [])


def known_ids(view: View) -> Iterator[Finding]:
    """No id reaches beyond the embedding, and the ids that end an answer are real."""
    size = view.config.get("vocab_size")
    if not isinstance(size, int):
        raise UnreadError(CONFIG, "has no vocab_size.", REBUILD)
    yield from _marks(view, size)
    if TOKENIZER not in view.files and _SENTENCEPIECE in view.files:
        return  # its pieces cannot be read here without its library
    found = ids(view)
    top = max(found, key=lambda token: found[token], default=None)
    if top is not None and found[top] >= size:
        yield Finding(
            TOKENIZER,
            f"gives {top!r} the id {found[top]}, and the model has {size} embeddings.",
            "Take the tokenizer the model was trained with, or resize the embeddings in training.",
        )
    yield from _stops(view, found)


def _marks(view: View, size: int) -> Iterator[Finding]:
    for name, said in ((GENERATION, view.generation), (CONFIG, view.config)):
        for mark in _MARKS:
            value = said.get(mark)
            for one in value if isinstance(value, list) else [value]:
                if one is not None and not (isinstance(one, int) and 0 <= one < size):
                    yield Finding(name, f"{mark} is {one}; ids end at {size - 1}.", _SET_EOS)


def _stops(view: View, found: Mapping[str, int]) -> Iterator[Finding]:
    """LMDeploy stops at the tokenizer's eos_token and at the ids of generation_config.json."""
    eos = special(view, "eos_token")
    value = view.generation.get("eos_token_id", [])
    stops = set(value if isinstance(value, list) else [value])
    if eos is not None and eos not in found:
        yield Finding(
            TOKENIZER_CONFIG,
            f"eos_token is {eos!r}, which is not one token of the vocabulary.",
            "Add it to the base's tokenizer, or name there the one the model was trained with.",
        )
    elif eos is not None:
        stops.add(found[eos])
    if not stops:
        yield Finding(GENERATION, "names no token that ends an answer.", _SET_EOS)
    try:
        tail = ending(template_of(view), specials(view)).strip()
    except (TemplateError, UnreadError):
        return  # rule 16 says so
    token = max((t for t in found if tail.startswith(t)), key=len, default=None) if tail else None
    marked = {token["content"] for token in _added(view)}
    if tail and token not in marked:
        yield Finding(
            TEMPLATE,
            f"ends an assistant's turn with {tail!r}, which is not one special token.",
            "Add it to the base's tokenizer as one special token, as in training.",
        )
    elif token is not None and stops and found[token] not in stops:
        yield Finding(
            GENERATION,
            f"eos_token_id leaves out {found[token]}, the {token!r} that ends an assistant's turn; "
            "answers would run on.",
            _SET_EOS,
        )


def special(view: View, role: str) -> str | None:
    """A special token's text, in either way the config writes it."""
    found = view.tokenizer_config.get(role)
    found = found.get("content") if isinstance(found, dict) else found
    return str(found) if found else None


def specials(view: View) -> dict[str, str]:
    """What templates may mention: bos_token and its like."""
    roles = ("bos_token", "eos_token", "pad_token", "unk_token")
    return {role: text for role in roles if (text := special(view, role)) is not None}


def speaking_template(view: View) -> Iterator[Finding]:
    """LMDeploy renders a user's and an assistant's turn at start; where that fails, or there is no
    template, it serves the bare text without roles and without stops, and says nothing."""
    remedy = (
        "Put the template the model was trained with into chat_template.jinja of the base's folder "
        "(of a copy of it, if it came from a hub), and build again."
    )
    try:
        template = template_of(view)
        for name, roles in _CONVERSATIONS:
            turns = [{"role": role, "content": f"sentinel {i}"} for i, role in enumerate(roles)]
            shown = render(template, turns, specials(view), opens=roles[-1] == "user")
            lost = [turn["role"] for turn in turns if turn["content"] not in shown]
            if lost:
                yield Finding(TEMPLATE, f"loses the {lost[0]}'s text in {name}.", remedy)
                return
            if shown.strip() == "".join(turn["content"] for turn in turns):
                yield Finding(TEMPLATE, f"marks no roles in {name}.", remedy)
                return
    except TemplateError as error:
        yield Finding(TEMPLATE, f"{error}.", remedy)
        return
    inside = view.tokenizer_config.get("chat_template")
    if TEMPLATE in view.files and isinstance(inside, str) and inside.strip() != template.strip():
        yield Finding(
            TOKENIZER_CONFIG,
            "has another chat_template than chat_template.jinja; which one is used depends on the "
            "version of Transformers.",
            "Keep the same text in both of the base, and build again.",
        )


def code_is_here(view: View) -> Iterator[Finding]:
    for name, said in ((CONFIG, view.config), (TOKENIZER_CONFIG, view.tokenizer_config)):
        listed = said.get("auto_map")
        for value in (listed or {}).values() if isinstance(listed, dict) else []:
            for reference in value if isinstance(value, list) else [value]:
                if reference is not None:
                    yield from _code(view, name, str(reference))


def _code(view: View, where: str, reference: str) -> Iterator[Finding]:
    remedy = "Copy the file into the base's folder, or remove auto_map there if no engine needs it."
    if "--" in reference:
        yield Finding(where, f"auto_map fetches {reference} from a hub at start.", remedy)
        return
    file = f"{reference.partition('.')[0]}.py"
    if file not in view.files:
        yield Finding(where, f"auto_map needs {file}, which is not in the folder.", remedy)
