"""The tokenizer inside a GGUF file: as it is for another GGUF file, or as Hugging Face's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gguf import TokenType

from convert.errors import UnsupportedError
from convert.gguf.file import opened_gguf
from convert.gguf.pre_tokenizers import named
from convert.gguf.tokenizer import Vocabulary
from convert.relayout import bpe, sentencepiece
from convert.relayout.sentencepiece import Piece, Pieces
from convert.weights.output import write_text

_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "eot": "eot"}


def vocabulary_of(path: Path, fields: Mapping[str, Any]) -> Vocabulary:
    """What the file says of its tokenizer.

    Raises:
        UnsupportedError: it is of a kind there is no rule for.
    """

    def of(key: str, otherwise: Any = None) -> Any:
        return fields.get(f"tokenizer.ggml.{key}", otherwise)

    model = of("model")
    if model not in ("llama", "gpt2") or of("tokens") is None:
        raise UnsupportedError(f"{path}: a {model} tokenizer; known are llama and gpt2.")
    pieces = model == "llama"
    tokens = list(of("tokens"))
    special = {
        role: int(of(f"{theirs}_token_id"))
        for role, theirs in _ROLES.items()
        if of(f"{theirs}_token_id") is not None
    }
    return Vocabulary(
        model=model,
        pre=of("pre", "default"),
        tokens=tokens,
        types=[int(kind) for kind in of("token_type", [TokenType.NORMAL] * len(tokens))],
        scores=[float(score) for score in of("scores", [0.0] * len(tokens))] if pieces else None,
        merges=None if pieces else list(of("merges", [])),
        special=special,
        add_bos=bool(of("add_bos_token", pieces)),  # llama.cpp's own defaults
        add_eos=bool(of("add_eos_token", False)),
        chat_template=fields.get("tokenizer.chat_template"),
        space_first=bool(of("add_space_prefix", pieces)),
    )


def read_inside(path: Path) -> Vocabulary:
    """The tokenizer of a GGUF file."""
    with opened_gguf(path) as file:
        return vocabulary_of(path, file.fields)


def write_inside(path: Path, folder: Path) -> None:
    """What a Hugging Face folder has beside its weights, taken out of a GGUF file."""
    write_tokenizer(read_inside(path), path, folder)


def write_tokenizer(vocabulary: Vocabulary, path: Path, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, the chat template and the generation config.

    Raises:
        UnsupportedError: Hugging Face's tokenizers could not give the same ids.
    """
    found = _pieces(vocabulary, path) if vocabulary.model == "llama" else _bytes(vocabulary, path)
    names = {role: vocabulary.tokens[i] for role, i in vocabulary.special.items() if role != "eot"}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{f"{role}_token": token for role, token in names.items()},
    }
    stops = [vocabulary.special[role] for role in ("eos", "eot") if role in vocabulary.special]
    _write(folder / "tokenizer.json", found)
    _write(folder / "tokenizer_config.json", config)
    if vocabulary.chat_template:
        write_text(folder / "chat_template.jinja", vocabulary.chat_template)
    if stops:
        _write(folder / "generation_config.json", {"eos_token_id": stops})


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _added(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    kinds = {TokenType.CONTROL: True, TokenType.USER_DEFINED: False}
    return [
        {**bpe.special(token, i), "special": kinds[TokenType(kind)]}
        for i, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind in kinds
    ]


def _bytes(vocabulary: Vocabulary, path: Path) -> dict[str, Any]:
    pairs = [tuple(pair.split(" ")) for pair in vocabulary.merges or []]
    vocab = {token: i for i, token in enumerate(vocabulary.tokens)}
    words = named(path, vocabulary.pre)
    decoder = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return bpe.tokenizer(
        added_tokens=_added(vocabulary),
        normalizer={"type": "NFC"} if words.composed else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": words.steps},
        post_processor=_around(vocabulary),
        decoder=decoder,
        model=bpe.model(
            vocab, [(left, right) for left, right in pairs], ignore_merges=words.whole_words
        ),
    )


def _pieces(vocabulary: Vocabulary, path: Path) -> dict[str, Any]:
    ranks = vocabulary.scores or []
    parts = zip(vocabulary.tokens, ranks, vocabulary.types, strict=True)
    pieces = [Piece(text, score, kind) for text, score, kind in parts]
    ids = {piece.text: i for i, piece in enumerate(pieces)}
    found = Pieces(path, pieces, True, b"", vocabulary.space_first, False, ids)
    tokenizer = sentencepiece.tokenizer(found, special={}, bos=None)
    return {
        **tokenizer, "added_tokens": _added(vocabulary), "pre_tokenizer": None,
        "post_processor": _around(vocabulary),
    }  # fmt: skip


def _around(vocabulary: Vocabulary) -> dict[str, Any] | None:
    """The token before and the one after every text, as Hugging Face writes it."""
    wanted = {"bos": vocabulary.add_bos, "eos": vocabulary.add_eos}
    ids = {role: vocabulary.special[role] for role, on in wanted.items() if on}
    if not ids:
        return None
    named = {role: vocabulary.tokens[i] for role, i in ids.items()}
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if "bos" in named:
        single.insert(0, {"SpecialToken": {"id": named["bos"], "type_id": 0}})
    if "eos" in named:
        single.append({"SpecialToken": {"id": named["eos"], "type_id": 0}})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            named[role]: {"id": named[role], "ids": [i], "tokens": [named[role]]}
            for role, i in ids.items()
        },
    }
