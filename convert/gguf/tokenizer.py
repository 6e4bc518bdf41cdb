"""From the tokenizer of a Hugging Face folder to the tokenizer fields of a GGUF file.

llama.cpp has its own tokenizers; the same text must become the same ids in both. So a tokenizer is
recognised by everything that decides its ids (normaliser, pre-tokenizer, model, added tokens,
post-processor), and one that is not exactly known is refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import DamagedError, UnsupportedError
from convert.gguf.pre_tokenizers import name_of
from convert.gguf.spaces import Spacing, spacing_in, spacing_of, written_out
from convert.gguf.spm import is_byte, read_model, scores
from convert.relayout.sentencepiece import Pieces
from convert.weights.model_folder import read_json


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What llama.cpp needs to know to give the same ids."""

    model: str
    """llama.cpp's name for the algorithm: "llama" (SentencePiece) or "gpt2" (byte-level BPE)."""
    pre: str
    tokens: list[str]
    types: list[int]
    scores: list[float] | None
    merges: list[str] | None
    special: Mapping[str, int]
    """Ids of bos, eos, unk, pad and eot, as far as there are any."""
    add_bos: bool
    add_eos: bool
    chat_template: str | None
    space_first: bool = False
    """A space is put before every text, and again after every special token."""


def read_vocabulary(folder: Path, vocab_size: int) -> Vocabulary:
    """The tokenizer of a model folder.

    Raises:
        UnsupportedError: a tokenizer llama.cpp would not reproduce to the letter.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        return _of_json(folder, path, vocab_size)
    if (path := folder / "tokenizer.model").exists():
        return _of_model(folder, path, vocab_size)
    raise UnsupportedError(
        f"{folder} has neither tokenizer.json nor tokenizer.model; write one with transformers "
        "(AutoTokenizer.from_pretrained(…).save_pretrained(…))."
    )


def _of_json(folder: Path, path: Path, vocab_size: int) -> Vocabulary:
    found = read_json(path)
    model = found.get("model") or {}
    added = found.get("added_tokens") or []
    tokens, types = _tokens(path, model, added, vocab_size)
    _refuse_odd_tokens(path, added)
    config = _config(folder)
    ids = {**model["vocab"], **{t["content"]: t["id"] for t in added}}
    special = _special(folder, config, ids)
    add_bos, add_eos = _additions(path, found.get("post_processor"), special, tokens)
    template, pieces = _chat_template(folder, config), bool(model.get("byte_fallback"))
    spacing = spacing_of(path, found) if pieces else Spacing("never")
    for text in spacing.defined:
        types[ids[text]] = int(TokenType.USER_DEFINED)
    if not spacing.native:
        roles = {role: tokens[i] for role, i in special.items()}
        template = written_out(path, spacing, template, roles, [t["content"] for t in added])
    return Vocabulary(
        model="llama" if pieces else "gpt2",
        pre="default" if pieces else name_of(path, found),
        tokens=tokens,
        types=types,
        scores=scores(path, model, tokens) if pieces else None,
        merges=None if pieces else [_merge(pair) for pair in model["merges"]],
        special=special,
        add_bos=add_bos,
        add_eos=add_eos,
        chat_template=template,
        space_first=spacing.native and spacing.habit == "every",
    )


def _of_model(folder: Path, path: Path, vocab_size: int) -> Vocabulary:
    """SentencePiece's own file, and what `tokenizer_config.json` adds to it."""
    found, config = read_model(path), _config(folder)
    added = {int(i): t for i, t in (config.get("added_tokens_decoder") or {}).items()}
    _refuse_odd_tokens(path, list(added.values()))
    size = max(len(found.pieces), *(i + 1 for i in added)) if added else len(found.pieces)
    if size > vocab_size:
        raise DamagedError(path, f"has the id {size - 1}, but the model only {vocab_size} tokens.")
    tokens, types, ranks = _padded(found, vocab_size)
    for i, token in added.items():
        tokens[i] = token["content"]
        if types[i] != TokenType.UNKNOWN:
            types[i] = int(TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED)
    special = _special(folder, config, {token: i for i, token in enumerate(tokens)})
    spacing = spacing_in(found, config)
    template = _chat_template(folder, config)
    if not spacing.native:
        roles = {role: tokens[i] for role, i in special.items()}
        cut = [t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
        template = written_out(path, spacing, template, roles, cut)
    return Vocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        types=types,
        scores=ranks,
        merges=None,
        special=special,
        add_bos=bool(config.get("add_bos_token", True)),
        add_eos=bool(config.get("add_eos_token", False)),
        chat_template=template,
        space_first=spacing.native and spacing.habit == "every",
    )


def _padded(found: Pieces, vocab_size: int) -> tuple[list[str], list[int], list[float]]:
    """Texts, types (SentencePiece counts them as llama.cpp does) and scores for all ids."""
    spare = range(len(found.pieces), vocab_size)
    tokens = [piece.text for piece in found.pieces] + [f"[PAD{i}]" for i in spare]
    types = [piece.kind for piece in found.pieces] + [int(TokenType.UNUSED) for _ in spare]
    return tokens, types, [piece.score for piece in found.pieces] + [0.0 for _ in spare]


def _tokens(
    path: Path, model: Mapping[str, Any], added: list[dict[str, Any]], vocab_size: int
) -> tuple[list[str], list[int]]:
    if model.get("type") != "BPE":
        raise UnsupportedError(f"{path}: a {model.get('type')} tokenizer; only BPE is known.")
    by_id = {i: token for token, i in model["vocab"].items()}
    by_id |= {token["id"]: token["content"] for token in added}
    top = max(by_id, default=-1) + 1
    if top > vocab_size:
        raise DamagedError(path, f"has the id {top - 1}, but the model only {vocab_size} tokens.")
    kind = {t["id"]: TokenType.CONTROL if t["special"] else TokenType.USER_DEFINED for t in added}
    unk = model["vocab"].get(model.get("unk_token"))
    tokens, types = [], []
    for i in range(vocab_size):
        token = by_id.get(i)
        tokens.append(f"[PAD{i}]" if token is None else token)
        types.append(int(kind.get(i) or _kind(model, token)))
    if unk is not None and model.get("byte_fallback"):
        types[unk] = int(TokenType.UNKNOWN)
    return tokens, types


def _kind(model: Mapping[str, Any], token: str | None) -> TokenType:
    if token is None:
        return TokenType.UNUSED
    if model.get("byte_fallback") and is_byte(token):
        return TokenType.BYTE
    return TokenType.NORMAL


def _refuse_odd_tokens(path: Path, added: list[dict[str, Any]]) -> None:
    for token in added:
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise UnsupportedError(
                    f"{path}: the token {token['content']!r} is matched with {flag}, which "
                    "llama.cpp does not do."
                )


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _special(folder: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, int]:
    special = {}
    for role in ("bos", "eos", "unk", "pad"):
        token = config.get(f"{role}_token")
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None and content in ids:
            special[role] = ids[content]
    stops = _stops(folder)
    if stops and special.get("eos") not in stops:
        special["eos"] = stops[0]
    others = [i for i in stops if i != special.get("eos")]
    if others:
        special["eot"] = others[0]
    return special


def _stops(folder: Path) -> list[int]:
    """The ids that end an answer; the generation config knows best."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = read_json(path).get("eos_token_id") if path.exists() else None
        if found is not None:
            return list(found) if isinstance(found, list) else [int(found)]
    return []


def _additions(
    path: Path, post: Mapping[str, Any] | None, special: Mapping[str, int], tokens: list[str]
) -> tuple[bool, bool]:
    """Whether bos and eos are put around every text; anything else put there is refused."""
    steps = (post or {}).get("processors", [post] if post else [])
    add_bos = add_eos = False
    for step in steps:
        if step["type"] == "ByteLevel":
            continue
        if step["type"] != "TemplateProcessing":
            raise UnsupportedError(f"{path}: an unknown post_processor {step['type']}.")
        names = [part["SpecialToken"]["id"] if "SpecialToken" in part else None
                 for part in step["single"]]  # fmt: skip
        text = names.index(None)
        bos, eos = ([tokens[special[role]]] if role in special else [] for role in ("bos", "eos"))
        if names[:text] not in ([], bos) or names[text + 1 :] not in ([], eos):
            raise UnsupportedError(f"{path}: its post_processor adds {names} to every text.")
        add_bos, add_eos = bool(names[:text]), bool(names[text + 1 :])
    return add_bos, add_eos


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # named templates; "default" is the one used without a name
        return next((t["template"] for t in template if t.get("name") == "default"), None)
    return template
