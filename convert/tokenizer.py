"""From a Hugging Face `tokenizer.json` to the tokenizer fields of a GGUF file.

llama.cpp has its own tokenizers; the same text must become the same ids in both. So a tokenizer is
recognised by everything that decides its ids (normaliser, pre-tokenizer, model, added tokens,
post-processor), and one that is not exactly known is refused rather than guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import DamagedError, UnsupportedError
from convert.model_folder import read_json

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


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


def read_vocabulary(folder: Path, vocab_size: int) -> Vocabulary:
    """The tokenizer of a model folder.

    Raises:
        UnsupportedError: a tokenizer llama.cpp would not reproduce to the letter.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        raise UnsupportedError(
            f"{folder} has no tokenizer.json; write one with transformers "
            "(AutoTokenizer.from_pretrained(…).save_pretrained(…))."
        )
    found = read_json(path)
    model = found.get("model") or {}
    added = found.get("added_tokens") or []
    tokens, types = _tokens(path, model, added, vocab_size)
    _refuse_odd_tokens(path, added)
    character = bool(model.get("byte_fallback"))
    pre = _characters(path, found) if character else _byte_level(path, found)
    config = _config(folder)
    special = _special(folder, config, {t["content"]: t["id"] for t in added}, model)
    add_bos, add_eos = _additions(path, found.get("post_processor"), special, tokens)
    return Vocabulary(
        "llama" if character else "gpt2",
        pre,
        tokens,
        types,
        [0.0] * len(tokens) if character else None,
        None if character else [_merge(pair) for pair in model["merges"]],
        special,
        add_bos,
        add_eos,
        _chat_template(folder, config),
    )


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
        types.append(int(kind.get(i) or _kind(model, i, token, unk)))
    if unk is not None and model.get("byte_fallback"):
        types[unk] = int(TokenType.UNKNOWN)
    return tokens, types


def _kind(model: Mapping[str, Any], i: int, token: str | None, unk: int | None) -> TokenType:
    if token is None:
        return TokenType.UNUSED
    if model.get("byte_fallback") and _is_byte(token):
        return TokenType.BYTE
    return TokenType.NORMAL


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _refuse_odd_tokens(path: Path, added: list[dict[str, Any]]) -> None:
    for token in added:
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise UnsupportedError(
                    f"{path}: the token {token['content']!r} is matched with {flag}, which "
                    "llama.cpp does not do."
                )


def _characters(path: Path, found: Mapping[str, Any]) -> str:
    """Every character its own token, bytes for what is not in the vocabulary."""
    model = found["model"]
    if model["merges"]:
        raise UnsupportedError(
            f"{path}: a SentencePiece tokenizer with merges; only one without merges (one token "
            "per character) is known so far."
        )
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    if found.get("normalizer") != spaces or found.get("pre_tokenizer") is not None:
        raise UnsupportedError(
            f"{path}: a character tokenizer whose normalizer is not 'replace space by ▁', or that "
            "has a pre_tokenizer."
        )
    added = {token["content"] for token in found.get("added_tokens") or []}
    long = [t for t in model["vocab"] if len(t) > 1 and t not in added and not _is_byte(t)]
    if long:
        raise UnsupportedError(
            f"{path}: the token {long[0]!r} has several characters but no merge makes it; "
            "llama.cpp would use it where Hugging Face does not."
        )
    return "default"


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ONLY = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip


_PRE_TOKENIZERS: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    ("gpt-2", [_BYTE_LEVEL]),
    ("smollm", [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]),
    ("qwen2", [_split(_QWEN2), _BYTES_ONLY]),
    ("llama-bpe", [_split(_LLAMA3), _BYTES_ONLY]),
)
"""llama.cpp's name for each way of cutting text into words, and how Hugging Face writes it."""


def _byte_level(path: Path, found: Mapping[str, Any]) -> str:
    model = found["model"]
    normalizer = found.get("normalizer")
    pre = found.get("pre_tokenizer") or {}
    steps = pre.get("pretokenizers", [pre])
    plain = [{k: v for k, v in step.items() if k != "trim_offsets"} for step in steps]
    for name, known in _PRE_TOKENIZERS:
        composed = name == "qwen2" and normalizer == {"type": "NFC"}
        if plain == known and (normalizer is None or composed):
            if bool(model.get("ignore_merges")) != (name == "llama-bpe"):
                break
            return name
    raise UnsupportedError(
        f"{path}: an unknown way of cutting text into words (pre_tokenizer "
        f"{json.dumps(pre, ensure_ascii=False)[:200]}, normalizer {json.dumps(normalizer)}); known "
        f"are those of {', '.join(name for name, _ in _PRE_TOKENIZERS)}."
    )


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_json(path) if path.exists() else {}


def _special(
    folder: Path, config: Mapping[str, Any], added: Mapping[str, int], model: Mapping[str, Any]
) -> dict[str, int]:
    ids = {**model["vocab"], **added}
    special = {}
    for role in ("bos", "eos", "unk", "pad"):
        token = config.get(f"{role}_token")
        content = token.get("content") if isinstance(token, dict) else token
        if content in ids:
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
