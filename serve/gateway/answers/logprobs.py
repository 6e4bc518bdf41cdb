"""The format of log probabilities, which differs between chat and text completions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve.gateway.answers.fixes import Fix, Json, apply, is_number

IMPROBABLE = -9999.0
"""What OpenAI writes for a probability that is not worth telling."""


def of_choice(choice: Json, *, chat: bool, begins: int = 0) -> Iterator[Fix]:
    """What the log probabilities of one choice lack, of whose text so much came before."""
    found = choice.get("logprobs")
    if not isinstance(found, dict):
        if "logprobs" not in choice or found is not None:
            yield choice, "logprobs", None
    elif chat:
        for name in ("content", "refusal"):
            if not isinstance(found.get(name), list):
                if name not in found or found[name] is not None:
                    yield found, name, None
            else:
                yield from _chances(found[name])
    elif isinstance(found.get("content"), list):  # llama.cpp: a chat's, in a text completion
        yield choice, "logprobs", _as_of_text(found["content"], begins)


def length(choice: Json) -> int:
    """How long the text is whose log probabilities this choice of a text completion tells."""
    tokens = (choice["logprobs"] or {}).get("tokens")
    return sum(len(t) for t in tokens if isinstance(t, str)) if isinstance(tokens, list) else 0


def _chances(tokens: list[Any]) -> Iterator[Fix]:
    for token in tokens:
        if not isinstance(token, dict):
            continue
        yield from _chance(token)
        if not isinstance(token.get("top_logprobs"), list):
            yield token, "top_logprobs", []
        for other in token["top_logprobs"]:
            if isinstance(other, dict):
                yield from _chance(other)


def _chance(token: Json) -> Iterator[Fix]:
    if not isinstance(token.get("token"), str):
        yield token, "token", ""
    if not is_number(token.get("logprob")):
        yield token, "logprob", IMPROBABLE
    if "bytes" not in token:
        yield token, "bytes", None


def _as_of_text(tokens: list[Any], begins: int) -> Json:
    """A chat's log probabilities in the words of a text completion."""
    told = [token for token in tokens if isinstance(token, dict)]
    apply(_chances(told))
    offsets, at = [], begins
    for token in told:
        offsets.append(at)
        at += len(token["token"])
    return {
        "tokens": [token["token"] for token in told],
        "token_logprobs": [token["logprob"] for token in told],
        "top_logprobs": [
            {other["token"]: other["logprob"] for other in token["top_logprobs"]} for token in told
        ],
        "text_offset": offsets,
    }
