"""Parameters that engines ignore silently; a client that sends one is told so.

Only of engines whose sources were read, and only fields that OpenAI publishes or the engine itself
names: LMDeploy 0.18 (`serve/openai/protocol.py`, `_get_generation_config` of
`turbomind/turbomind.py`) and llama.cpp's server (`server-common.cpp`, `server-schema.cpp`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from serve.gateway.fields import decoded

Ignored = Mapping[str, tuple[Any, ...]]
"""Field → the values that ask for nothing; null and what is left out ask for nothing anyway."""

_OF_OPENAI_S_OWN: Ignored = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"], []),
    "audio": (),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_OF_TURBOMIND: Ignored = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "repetition_ngram_size": (0,),
    "repetition_ngram_threshold": (0,),
}
_OF_TURBOMIND_S_TEXT: Ignored = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
    "suffix": ("",),
    "min_new_tokens": (0,),
    "response_format": ({"type": "text"},),
}

IGNORED: Mapping[tuple[str, bool], Ignored] = {
    ("turbomind", True): {**_OF_OPENAI_S_OWN, **_OF_TURBOMIND},
    ("turbomind", False): {**_OF_TURBOMIND, **_OF_TURBOMIND_S_TEXT},
    ("llamacpp", True): _OF_OPENAI_S_OWN,
}
"""(Engine, whether it is a chat) → what it ignores."""

KEEPS_STOPS = frozenset(("llamacpp",))
"""Engines that end at a stop string exactly, whatever its length; they also count its tokens."""


def ignored(engine: str | None, *, chat: bool, fields: Mapping[str, Raw]) -> list[str]:
    """Which of the fields of a request its engine would ignore although they ask for something."""
    table = IGNORED.get((engine or "", chat))
    if not table:
        return []
    return [name for name in table.keys() & fields.keys() if _asks(fields, name, table[name])]


def _asks(fields: Mapping[str, Raw], name: str, neutral: tuple[Any, ...]) -> bool:
    value = decoded(fields, name)
    return value is not None and value not in neutral
